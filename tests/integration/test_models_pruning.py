"""Dropping tokens between blocks, against a reference that hides the same keys by per-block masks."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hero_ray import models
from hero_ray.core.encoded import Needs, keep_all
from hero_ray.models import miniature
from hero_ray.models.base import Request
from hero_ray.models.batch import whole_prompts

STEPS = 5


@dataclass(frozen=True)
class Survivors:
    keep: torch.Tensor
    recycled: torch.Tensor | None = None
    recycled_valid: torch.Tensor | None = None


class Schedule:
    """Keeps, on entering a block, the visual tokens a table names by their position in the prompt."""

    def __init__(self, table):
        self.table = table

    def before(self, state):
        if state.layer not in self.table:
            return None
        kept = self.table[state.layer].gather(1, state.positions)  # original positions name tokens
        return Survivors((~state.visual | kept) & state.valid)

    def after(self, state):
        pass


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    torch.set_num_threads(1)
    stock = miniature.llava_next()
    ours = models.load(str(miniature.write_llava(stock, tmp_path_factory.mktemp("prune"))), device="cpu")
    return SimpleNamespace(stock=stock, ours=ours, requests=requests_of(ours))


def requests_of(ours, tokens=STEPS + 1):
    requests = []
    for seed, (width, height, text) in enumerate(
        [(60, 60, "what is it"), (200, 90, "is it red, or blue?"), (90, 300, "a")]
    ):
        noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        encoded = ours.encode(ours.prepare(Image.fromarray(noise)), Needs())
        visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        requests.append(Request(ours.prompt(text), visual, tokens))
    return requests


def random_table(requests, layers, length, seed=3):
    generator = torch.Generator().manual_seed(seed)
    alive = torch.ones(len(requests), length, dtype=torch.bool)
    table = {}
    for layer in layers:
        alive = alive & (torch.rand(alive.shape, generator=generator) < 0.5)
        table[layer] = alive.clone()
    return table


def masked_logits(setting, batch, table, new_tokens):
    """Full sequences through the stock blocks; from each layer of the table on, the dropped keys are masked."""
    language = setting.stock.model.language_model
    embeds = torch.cat([batch.embeds, language.embed_tokens(new_tokens)], 1)
    length = embeds.shape[1]
    more = torch.ones_like(new_tokens, dtype=torch.bool)
    valid = torch.cat([batch.valid, more], 1)
    positions = (valid.long().cumsum(1) - 1).clamp(min=0)
    causal, eye = torch.ones(length, length, dtype=torch.bool).tril(), torch.eye(length, dtype=torch.bool)
    alive = valid
    hidden = embeds
    rope = language.rotary_emb(hidden, position_ids=positions)
    for number, block in enumerate(language.layers, start=1):
        if number in table:
            kept = table[number].gather(1, positions[:, : batch.valid.shape[1]])
            alive = alive & torch.cat([~batch.visual | kept, more], 1)
        mask = ((causal & alive[:, None]) | eye)[:, None]
        hidden = block(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rope)
    return setting.stock.lm_head(language.norm(hidden))[:, batch.valid.shape[1] - 1 :]


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 3)])
@pytest.mark.parametrize("layers", [(1,), (2,), (4,), (2, 3, 4)])
def test_dropping_equals_masking(setting, rows, layers):
    runner, requests = setting.ours.runner, setting.requests[rows]
    batch = whole_prompts(requests, runner.embed)
    table = random_table(requests, layers, batch.valid.shape[1])
    with torch.no_grad():
        state = runner.prefill(batch, Schedule(table), positions="keep", room=STEPS)
        logits, fed = [state.logits], []
        for _ in range(STEPS):
            fed.append(logits[-1].argmax(-1))
            logits.append(runner.decode(state, fed[-1]))
        expected = masked_logits(setting, batch, table, torch.stack(fed, 1))
    assert (torch.stack(logits, 1) - expected).abs().max().item() < 5e-5


def test_counts_and_cache_bytes_follow_the_blocks(setting):
    runner, requests = setting.ours.runner, setting.requests
    batch = whole_prompts(requests, runner.embed)
    nothing = {3: torch.zeros(3, batch.valid.shape[1], dtype=torch.bool)}
    state = runner.prefill(batch, Schedule(nothing))
    per_layer = state.visual_per_layer()
    for row, request in enumerate(requests):
        count, text = len(request.visual), request.prompt.num_text
        assert per_layer[row] == (count, count, 0, 0)
        per_token = 2 * 4 * 8 * 4  # keys and values, 4 heads of 8, 4 bytes
        assert state.kv_bytes()[row] == (2 * (count + text) + 2 * text) * per_token


def test_renumbered_survivors_equal_a_short_prompt(setting):
    """Dropping on entering block 1 with compact positions is the same as never having had the tokens."""
    ours, request = setting.ours, setting.requests[1]
    keep = torch.rand(len(request.visual), generator=torch.Generator().manual_seed(1)) < 0.4

    class Front:
        def before(self, state):
            if state.layer != 1:
                return None
            kept = state.valid.clone()
            kept[state.visual] = keep
            return Survivors(kept)

        def after(self, state):
            pass

    short = Request(request.prompt, request.visual[keep], request.max_new_tokens)
    [pruned], [expected] = ours.generate([request], pruner=Front()), ours.generate([short])
    assert pruned.token_ids == expected.token_ids
    assert pruned.visual_per_layer == expected.visual_per_layer
    assert pruned.kv_bytes == expected.kv_bytes


def test_recycled_tokens_stand_behind_the_last_visual_one(setting):
    runner, requests = setting.ours.runner, setting.requests
    batch = whole_prompts(requests, runner.embed)
    marks = torch.arange(3.0)[:, None, None].expand(3, 2, 64) + 10_000
    valid = torch.tensor([[True, True], [True, False], [False, False]])
    seen = {}

    class Recycler:
        def before(self, state):
            if state.layer == 2:
                kept = state.valid & ~state.visual
                kept[:, ::2] |= (state.visual & state.valid)[:, ::2]
                seen["kept"] = (kept & state.visual).sum(1)
                return Survivors(kept, marks, valid)
            if state.layer == 3:
                seen["state"] = state.hidden, state.visual, state.valid, state.positions
            return None

        def after(self, state):
            if state.layer == 2:
                seen["inputs"] = state.hidden

    state = runner.prefill(batch, Recycler())
    hidden, visual = seen["inputs"], seen["state"][1]
    for row in range(3):
        places = visual[row].nonzero()[:, 0]
        count = int(valid[row].sum())
        assert len(places) == int(seen["kept"][row]) + count == state.visual_per_layer()[row][1]
        assert places.tolist() == list(range(int(places[0]), int(places[-1]) + 1))  # one unbroken run
        assert (hidden[row, places[len(places) - count :]] == 10_000 + row).all()
        assert (hidden[row, places[: len(places) - count]] < 5_000).all()


def test_rows_seen_by_a_pruner_equal_eager_attention(setting):
    """Before a block runs and after it ran, over a batch with padding."""
    runner, requests, stock = setting.ours.runner, setting.requests, setting.stock
    batch = whole_prompts(requests, runner.embed)
    length = batch.valid.shape[1]
    queries = torch.arange(length - 3, length).expand(3, 3)
    seen = {}

    class Watcher:
        def before(self, state):
            seen["before", state.layer] = state.attention_rows(queries)

        def after(self, state):
            seen["after", state.layer] = state.attention_rows(queries)

    runner.prefill(batch, Watcher())
    language = stock.model.language_model
    language.set_attn_implementation("eager")
    with torch.no_grad():
        full = language(
            inputs_embeds=batch.embeds,
            attention_mask=batch.valid.long(),
            position_ids=(batch.valid.long().cumsum(1) - 1).clamp(min=0),
            output_attentions=True,
        ).attentions
    language.set_attn_implementation("sdpa")
    for layer in (1, 3):
        for moment in ("before", "after"):
            assert torch.allclose(seen[moment, layer], full[layer - 1][:, :, -3:], atol=2e-6)


@pytest.mark.parametrize("method", ["fastv", "sparsevlm", "vtw", "pdrop", "gsearch", "dart", "ptp", "hero", "random"])
def test_every_kind_of_method_runs_and_full_budget_is_stock(setting, method, tmp_path):
    from hero_ray.engine.vlm import VisionLanguageModel

    clip = miniature.clip()
    folder = miniature.write_llava(setting.stock, tmp_path, clip)
    vlm = VisionLanguageModel(models.load(str(folder), device="cpu"))
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 255, (100, 200, 3), dtype=np.uint8))
    full = vlm.generate(noise, "is it red", max_new_tokens=6)
    same = vlm.generate(noise, "is it red", method=method, retention_ratio=1.0, max_new_tokens=6)
    assert same.generation.token_ids == full.generation.token_ids
    less = vlm.generate(noise, "is it red", method=method, retention_ratio=0.4, max_new_tokens=6)
    assert less.tokens.equivalent_tokens < full.tokens.equivalent_tokens
    assert less.generation.kv_bytes < full.generation.kv_bytes
