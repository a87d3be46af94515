"""Every in-LLM method against full-length sequences in which the dropped keys are masked, prefill and decode.

The reference runs transformers' own blocks on all tokens and hides, from the block of a cut on, what the method
dropped; with compact positions it renumbers the rest. It shares no code with the runner's packing and caching.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from hero_ray import models
from hero_ray.core.encoded import Budget, keep_all
from hero_ray.methods import create, get, names
from hero_ray.methods.base import LayerPruner, LayerState, Method, Survivors
from hero_ray.models import miniature, miniature_qwen
from hero_ray.models.base import Request, embeddings
from hero_ray.models.batch import PromptBatch, whole_prompts
from hero_ray.models.heads import rotate

STEPS = 3
PICTURES = [(60, 60, "what is it"), (200, 90, "is it red, or blue?"), (90, 300, "a")]
IN_LLM = [name for name in names() if get(name).stage == "in-llm"]
METHODS = [
    *(
        pytest.param(create(name, variant=variant), id=f"{name}-{variant}")
        for name in IN_LLM
        for variant in get(name).variants
    ),
    pytest.param(create("fastv", query="all"), id="fastv-all-queries"),
    pytest.param(create("gsearch", schedule=(1.0, 0.7, 0.4, 0.1)), id="gsearch-schedule"),
    pytest.param(create("ptp", mode="continue"), id="ptp-continue"),
    pytest.param(create("vscan", inside=0.05), id="vscan"),
    pytest.param(create("hero", then="fastv", merge=True, text_term="none"), id="hero-then-fastv"),
]


@pytest.fixture(
    scope="module", params=["llava-next", "internvl2", "qwen2.5-vl", pytest.param("qwen3-vl", marks=pytest.mark.slow)]
)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "llava-next":
        stock: Any = miniature.llava_next()
        miniature.write_llava(stock, folder)
    elif request.param in ("qwen2.5-vl", "qwen3-vl"):
        stock = miniature_qwen.qwen_vl() if request.param == "qwen2.5-vl" else miniature_qwen.qwen3_vl()
        miniature_qwen.write_qwen_vl(stock, folder)
    else:
        stock = miniature.internvl2()
        miniature.write_internvl2(stock, folder)
    return SimpleNamespace(stock=stock, ours=models.load(str(folder), device="cpu"))


def prepared(family: SimpleNamespace, method: Method, rows: int) -> tuple[PromptBatch, LayerPruner]:
    """Prompts of the first pictures and the pruner that acts on them at R = .3."""
    requests, selections, budget = [], [], None
    for seed, (width, height, text) in enumerate(PICTURES[:rows]):
        noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        needs = method.needs(family.ours.vision)
        encoded = family.ours.encode(family.ours.prepare(Image.fromarray(noise)), needs)
        prompt = family.ours.prompt(text, text)
        if needs.question:
            encoded = family.ours.ask(encoded, text, needs, prompt)
        budget = Budget.of(encoded.layout, 0.3)
        selections.append(method.select(encoded, budget))
        everything = family.ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        visual = family.ours.assemble(encoded, selections[-1], "unpadded_rows")
        whole = method.name not in ("vscan", "hero")  # those prune before the LLM as well
        assert torch.equal(embeddings(visual), embeddings(everything)) == whole, (
            "an in-LLM method lets the whole picture in"
        )
        requests.append(Request(prompt, visual, STEPS + 1))
    assert budget is not None
    pruner = method.pruner_for(budget, selections)
    assert pruner is not None
    return whole_prompts(requests, family.ours.runner.embed), pruner


class Recorder(LayerPruner):
    """Passes on a pruner's answers and notes, by place in the full prompt, what lives from each block on."""

    def __init__(self, inner: LayerPruner, valid: Tensor) -> None:
        self._inner, self._length = inner, valid.shape[1]
        self._places = [row.nonzero()[:, 0] for row in valid]
        self.alive: dict[int, Tensor] = {}
        self.everywhere = False

    def watches(self, layer: int, num_layers: int) -> bool:
        return self._inner.watches(layer, num_layers)

    def before(self, state: LayerState) -> Survivors | None:
        survivors = self._inner.before(state)
        if survivors is None:
            return None
        assert survivors.recycled is None
        self.everywhere |= survivors.everywhere
        for row, keep in enumerate(survivors.keep):
            self._places[row] = self._places[row][keep[state.valid[row]]]
        alive = torch.zeros(len(self._places), self._length, dtype=torch.bool)
        for row, places in enumerate(self._places):
            alive[row, places] = True
        self.alive[state.layer] = alive
        return survivors

    def after(self, state: LayerState) -> None:
        self._inner.after(state)


class MaskedReference:
    """Full sequences through stock blocks; `alive` hides keys from a block on.

    Tokens in rows and columns keep their places, whatever a method says of positions.
    """

    def __init__(self, stock: Any, batch: PromptBatch, positions: str) -> None:
        self.language, self.head = stock.model.language_model, stock.lm_head
        self.batch, self.positions = batch, positions
        self.rows: dict[int, Tensor] = {}

    def logits(self, alive: dict[int, Tensor], new_tokens: Tensor, everywhere: bool = False) -> Tensor:
        """Logits of the last prompt token and of every new one; last-token rows of each block land in `rows`.

        With `everywhere` new tokens never see in any block what the cut drops.
        """
        prompt = self.batch.valid.shape[1]
        hidden = torch.cat([self.batch.embeds, self.language.embed_tokens(new_tokens)], 1)
        more = torch.ones_like(new_tokens, dtype=torch.bool)
        length = hidden.shape[1]
        causal, eye = torch.ones(length, length, dtype=torch.bool).tril(), torch.eye(length, dtype=torch.bool)
        lives = torch.cat([self.batch.valid, more], 1)
        whole = (lives.long().cumsum(1) - 1).clamp(min=0)
        planes = self.batch.positions
        if planes is not None:
            behind = self.batch.next_position + torch.arange(new_tokens.shape[1])
            whole = torch.cat([planes, behind[..., None].expand(-1, -1, 3)], 1).movedim(-1, 0)
        keeps = planes is not None or self.positions == "keep"
        for number, block in enumerate(self.language.layers, start=1):
            if number in alive:
                lives = torch.cat([alive[number], more], 1)
            places = whole if keeps else (lives.long().cumsum(1) - 1).clamp(min=0)
            rope = self.language.rotary_emb(hidden, position_ids=places)
            seen = causal & lives[:, None]
            if everywhere:
                seen[:, prompt:] &= torch.cat([alive[max(alive)], more], 1)[:, None]
            mask = (seen | eye)[:, None]
            self.rows[number] = self._row(block, hidden, rope, mask, prompt - 1)[:, :prompt]
            hidden = block(hidden, attention_mask=mask, position_embeddings=rope)
            if self.batch.deep is not None and number <= self.batch.deep.shape[2]:
                hidden[:, :prompt] += self.batch.deep[:, :, number - 1]
        return self.head(self.language.norm(hidden))[:, prompt - 1 :]

    @staticmethod
    def _row(block: Any, hidden: Tensor, rope: Any, mask: Tensor, query: int) -> Tensor:
        """Head mean of one eager attention row, grouped keys repeated: [B, S]."""
        attention, normed = block.self_attn, block.input_layernorm(hidden)
        queries, keys = (
            rotate(norm(project(normed).unflatten(-1, (-1, attention.head_dim))).transpose(1, 2), rope)
            for project, norm in (
                (attention.q_proj, getattr(attention, "q_norm", nn.Identity())),
                (attention.k_proj, getattr(attention, "k_norm", nn.Identity())),
            )
        )
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1)
        logits = (queries[:, :, query, None] @ keys.transpose(-1, -2))[:, :, 0] * attention.scaling
        return logits.masked_fill(~mask[:, :, query], -torch.inf).softmax(-1).mean(1)


def run(family: SimpleNamespace, method: Method, rows: int) -> tuple[MaskedReference, Recorder, Tensor, Tensor]:
    """Our prefill and decode of a batch, and the reference's logits for the same tokens."""
    batch, pruner = prepared(family, method, rows)
    recorder = Recorder(pruner, batch.valid)
    runner = family.ours.runner
    with torch.no_grad():
        state = runner.prefill(batch, recorder, positions=method.positions, room=STEPS)
        logits, fed = [state.logits], []
        for _ in range(STEPS):
            fed.append(logits[-1].argmax(-1))
            logits.append(runner.decode(state, fed[-1]))
        reference = MaskedReference(family.stock, batch, method.positions)
        expected = reference.logits(recorder.alive, torch.stack(fed, 1), recorder.everywhere)
    return reference, recorder, torch.stack(logits, 1), expected


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_dropping_equals_masking(family: SimpleNamespace, method: Method, rows: int) -> None:
    if method.name == "sparsevlm":
        method = create("sparsevlm", recycle=False)
    reference, recorder, logits, expected = run(family, method, rows)
    assert recorder.alive, "something was dropped"
    last = recorder.alive[max(recorder.alive)]
    assert (last.sum(1) < reference.batch.valid.sum(1)).all()
    assert (last | ~reference.batch.valid | reference.batch.visual).all(), "text lives on"
    assert (logits - expected).abs().max().item() < 5e-5


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["fastv", "gsearch", "pdrop"])
def test_the_best_by_eager_attention_survive(family: SimpleNamespace, name: str, rows: int) -> None:
    """The rows that a method recomputes choose what eager attention over the full length would choose."""
    method = create(name)
    reference, recorder, _, _ = run(family, method, rows)
    before = reference.batch.visual
    for block, alive in sorted(recorder.alive.items()):
        row = reference.rows[block if name == "pdrop" else block - 1]
        for index in range(rows):
            score = row[index].masked_fill(~before[index], -1.0)
            kept = int((alive[index] & before[index]).sum())
            expected = score.argsort(descending=True, stable=True)[:kept].sort().values
            assert torch.equal((alive[index] & reference.batch.visual[index]).nonzero()[:, 0], expected)
        before = alive & before


def test_recycled_tokens_take_part_like_any_other(family: SimpleNamespace) -> None:
    """SparseVLM with recycling, each row alone on explicit short sequences without a cache."""
    method = create("sparsevlm")
    batch, pruner = prepared(family, method, 3)
    cuts: dict[int, tuple[LayerState, Survivors]] = {}

    class Watcher(LayerPruner):
        def before(self, state: LayerState) -> Survivors | None:
            survivors = pruner.before(state)
            if survivors is not None:
                cuts[state.layer] = (state, survivors)
            return survivors

        def after(self, state: LayerState) -> None:
            pruner.after(state)

    with torch.no_grad():
        logits = family.ours.runner.prefill(batch, Watcher(), positions="compact").logits
    assert any(survivors.recycled is not None for _, survivors in cuts.values())
    language = family.stock.model.language_model
    for row in range(3):
        hidden = batch.embeds[row, batch.valid[row]][None]
        planes, deep = (None if some is None else some[row, batch.valid[row]] for some in (batch.positions, batch.deep))
        for number, block in enumerate(language.layers, start=1):
            if number in cuts:
                if planes is not None:  # a recycled token stands where the last visual one does, nothing is added to it
                    planes = shortened(planes, row, *cuts[number], merged="last")
                if deep is not None:
                    deep = shortened(deep, row, *cuts[number], merged="nothing")
                hidden = shortened(hidden[0], row, *cuts[number])[None]
            places = torch.arange(hidden.shape[1])[None] if planes is None else planes.T[:, None]
            with torch.no_grad():
                rope = language.rotary_emb(hidden, position_ids=places)
                hidden = block(hidden, attention_mask=None, position_embeddings=rope)
                if deep is not None and number <= deep.shape[1]:
                    hidden = hidden + deep[:, number - 1]
        with torch.no_grad():
            expected = family.stock.lm_head(language.norm(hidden[:, -1]))
        assert (logits[row] - expected[0]).abs().max().item() < 5e-5


def shortened(hidden: Tensor, row: int, state: LayerState, survivors: Survivors, merged: str = "recycled") -> Tensor:
    """Text before, kept visual tokens, recycled ones (or what the `last` visual one has, or `nothing`), text behind."""
    valid = state.valid[row]
    keep, visual = survivors.keep[row, valid], state.visual[row, valid]
    end = int(visual.nonzero()[-1]) + 1
    recycled = hidden[:0]
    if survivors.recycled is not None:
        assert survivors.recycled_valid is not None
        recycled = survivors.recycled[row, survivors.recycled_valid[row]]
        if merged != "recycled":
            recycled = hidden[end - 1] * (merged == "last") + torch.zeros(len(recycled), *hidden.shape[1:]).to(hidden)
    return torch.cat([hidden[:end][keep[:end]], recycled, hidden[end:]])


@pytest.mark.parametrize("name", IN_LLM)
def test_a_row_is_cut_the_same_alone_and_in_a_batch(family: SimpleNamespace, name: str) -> None:
    method = create(name, recycle=False) if name == "sparsevlm" else create(name)
    counts = []
    for rows in (1, 3):
        batch, pruner = prepared(family, method, rows)
        recorder = Recorder(pruner, batch.valid)
        with torch.no_grad():
            family.ours.runner.prefill(batch, recorder, positions=method.positions)
        offset = batch.valid.shape[1] - int(batch.valid[0].sum())
        counts.append({block: alive[0, offset:].tolist() for block, alive in recorder.alive.items()})
    assert counts[0] == counts[1]
