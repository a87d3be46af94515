"""The adapters against transformers' own `forward` and `generate`, on miniature checkpoints written to disk."""

from types import SimpleNamespace

import pytest
import torch

from hero_ray import models
from hero_ray.core.encoded import Needs, keep_all
from hero_ray.models import miniature
from hero_ray.models.base import Request
from hero_ray.models.batch import whole_prompts
from tests.against_stock import picture

SIZES = [(56, 56), (100, 100), (300, 200), (200, 300), (500, 150), (90, 200), (640, 480), (97, 311)]
QUESTIONS = ["what colour is it?", "how many objects are in the image on the left?", "is it red"]


@pytest.fixture(scope="module")
def next_pair(tmp_path_factory):
    torch.set_num_threads(1)
    stock, clip = miniature.llava_next(), miniature.clip()
    folder = miniature.write_llava(stock, tmp_path_factory.mktemp("next"), clip)
    return SimpleNamespace(stock=stock, clip=clip, folder=folder, ours=models.load(str(folder), device="cpu"))


def requests_of(adapter, sizes=SIZES[:4], tokens=10, questions=QUESTIONS):
    made = []
    for index, size in enumerate(sizes):
        encoded = adapter.encode(adapter.prepare(picture(*size, seed=index)), Needs())
        visual = adapter.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        made += [Request(adapter.prompt(question), visual, tokens) for question in questions]
    return made


@pytest.mark.parametrize("size", SIZES)
def test_nothing_pruned_equals_stock_logits_exactly(next_pair, size):
    ours, stock = next_pair.ours, next_pair.stock
    prepared = ours.prepare(picture(*size))
    encoded = ours.encode(prepared, Needs())
    visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
    prompt = ours.prompt(QUESTIONS[0])
    ids = torch.tensor([[*prompt.prefix, *[miniature.IMAGE_ID] * len(visual), *prompt.suffix]])
    with torch.no_grad():
        expected = stock(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=prepared.pixels[None],
            image_sizes=torch.tensor([[size[1], size[0]]]),
            logits_to_keep=1,
        ).logits[0]
    state = ours.runner.prefill(whole_prompts([Request(prompt, visual, 1)], ours.runner.embed))
    assert (state.logits - expected).abs().max().item() == 0.0


def test_views_equal_the_stock_processor(next_pair):
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 56},
        crop_size={"height": 56, "width": 56},
        image_grid_pinpoints=next_pair.stock.config.image_grid_pinpoints,
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
    )
    for size in SIZES:
        expected = processor(picture(*size), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(next_pair.ours.prepare(picture(*size)).pixels, expected.float())


def stock_answer(stock, request, tokens):
    embeds = stock.get_input_embeddings()
    parts = [embeds(torch.tensor(request.prompt.prefix)), request.visual, embeds(torch.tensor(request.prompt.suffix))]
    whole = torch.cat(parts)[None]
    generated = stock.generate(
        inputs_embeds=whole,
        attention_mask=torch.ones(whole.shape[:2], dtype=torch.long),
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=2,
        pad_token_id=0,
    )[0].tolist()
    return generated[: generated.index(2)] if 2 in generated else generated


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_greedy_tokens_equal_stock_generate(next_pair, share_prefix, batch_size):
    requests = requests_of(next_pair.ours)
    answers = next_pair.ours.generate(requests, batch_size=batch_size, share_prefix=share_prefix)
    expected = [stock_answer(next_pair.stock, request, 10) for request in requests]
    assert [list(answer.token_ids) for answer in answers] == expected
    assert len({token for answer in expected for token in answer}) > 10  # the toy model does not repeat one token


def test_prefix_reuse_gives_the_logits_of_whole_prompts(next_pair):
    ours = next_pair.ours
    requests = requests_of(ours)
    shared = ours.decoder.prefill(requests, share_prefix=True)
    whole = ours.decoder.prefill(requests, share_prefix=False)
    assert (shared.logits - whole.logits).abs().max().item() < 2e-5
    assert shared.kv_bytes() == whole.kv_bytes()
    assert shared.visual_per_layer() == whole.visual_per_layer()
    tokens = whole.logits.argmax(-1)
    for _ in range(4):
        ours.runner.decode(shared, tokens)
        ours.runner.decode(whole, tokens)
        assert (shared.logits - whole.logits).abs().max().item() < 2e-5


def test_cls_rows_equal_eager_attention(next_pair):
    ours, stock = next_pair.ours, next_pair.stock
    layers = frozenset({1, 3, 6})
    prepared = ours.prepare(picture(300, 200))
    encoded = ours.encode(prepared, Needs(cls_attention=layers))
    stock.model.vision_tower.set_attn_implementation("eager")
    with torch.no_grad():
        full = stock.model.vision_tower(prepared.pixels, output_attentions=True).attentions
    stock.model.vision_tower.set_attn_implementation("sdpa")
    for layer in layers:
        assert torch.allclose(encoded.cls_attention[layer], full[layer - 1][:, :, 0, 1:], atol=1e-6)


def test_clip_score_equals_the_whole_clip_model(tmp_path, next_pair):
    clip, stock = next_pair.clip, miniature.llava_next()
    stock.model.vision_tower.load_state_dict(clip.vision_model.state_dict(), strict=False)
    ours = models.load(str(miniature.write_llava(stock, tmp_path, clip)), device="cpu")
    needs = Needs(clip_score=True)
    prepared = ours.prepare(picture(300, 200))
    question = "what colour"
    encoded = ours.ask(ours.encode(prepared, needs), question, needs, ours.prompt(question))
    ids = torch.tensor([ours.clip.encode(question)])
    with torch.no_grad():
        expected = clip(input_ids=ids, pixel_values=prepared.pixels).logits_per_image[:, 0] / clip.logit_scale.exp()
    assert torch.allclose(encoded.question.clip_score, expected, atol=1e-6)


def test_llm_rows_equal_eager_attention(next_pair):
    ours, stock = next_pair.ours, next_pair.stock
    needs = Needs(llm_attention=frozenset({1, 2}))
    prompt = ours.prompt(QUESTIONS[0])
    encoded = ours.ask(ours.encode(ours.prepare(picture(300, 200)), needs), QUESTIONS[0], needs, prompt)
    visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
    embeds = stock.get_input_embeddings()
    whole = torch.cat([embeds(torch.tensor(prompt.prefix)), visual, embeds(torch.tensor(prompt.suffix))])[None]
    language = stock.model.language_model
    language.set_attn_implementation("eager")
    with torch.no_grad():
        full = language(inputs_embeds=whole, attention_mask=torch.ones(whole.shape[:2]), output_attentions=True)
    language.set_attn_implementation("sdpa")
    start = len(prompt.prefix) + len(visual)
    first, last = prompt.instruction
    sequence = encoded.layout.sequence
    for layer in (1, 2):
        rows = full.attentions[layer - 1][0, :, start + first : start + last]
        columns = rows[..., len(prompt.prefix) : start][..., sequence >= 0]
        ours_flat = encoded.question.llm_attention[layer].flatten(-2)
        assert torch.allclose(ours_flat[..., sequence[sequence >= 0]], columns, atol=1e-6)
        assert not ours_flat[..., ~encoded.layout.valid.flatten()].any()


def test_eager_attention_gives_the_same_answers(next_pair):
    eager = models.load(str(next_pair.folder), device="cpu", attention="eager")
    ours, theirs = requests_of(next_pair.ours), requests_of(eager)
    answers = [adapter.generate(asked) for adapter, asked in ((next_pair.ours, ours), (eager, theirs))]
    assert [one.token_ids for one in answers[0]] == [one.token_ids for one in answers[1]]


def test_clips_own_tower_answers_where_it_is_asked_for(tmp_path, next_pair):
    clip_folder = miniature.write_clip(next_pair.clip, tmp_path / "whole-clip")
    ours = models.load(str(next_pair.folder), device="cpu", clip_vision="openai", clip=str(clip_folder))
    needs = Needs(clip_score=True)
    prepared = ours.prepare(picture(300, 200))
    encoded = ours.ask(ours.encode(prepared, needs), "what", needs, ours.prompt("what"))
    ids = torch.tensor([ours.clip.encode("what")])
    with torch.no_grad():
        scores = next_pair.clip(input_ids=ids, pixel_values=prepared.pixels).logits_per_image[:, 0]
    assert torch.allclose(encoded.question.clip_score, scores / next_pair.clip.logit_scale.exp(), atol=1e-6)
