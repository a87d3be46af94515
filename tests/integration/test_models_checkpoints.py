"""Checkpoints of every kind in their released layouts: they load, are asked in their own words, and answer as stock."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from hero_ray import models
from hero_ray.core.encoded import Needs, keep_all
from hero_ray.core.errors import CheckpointError, ParameterError
from hero_ray.engine.vlm import VisionLanguageModel
from hero_ray.methods import names
from hero_ray.models import miniature
from hero_ray.models.asking import shown_prompt
from hero_ray.models.base import Request
from hero_ray.models.family import Parts
from hero_ray.models.geometry import unpadded
from hero_ray.models.prompts import STYLES, written
from hero_ray.models.shapes import shape
from tests import checkpoints
from tests.against_stock import aligned, check_against, picture, whole
from tests.checkpoints import ID, INTERNVL, LLAVA_NEXT

QUICK = ("mistral-7b",)
NEXT = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LLAVA_NEXT]


@pytest.fixture(scope="module", params=NEXT)
def next_one(request, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    checkpoints.llava_next(LLAVA_NEXT[request.param], folder)
    stock = aligned(LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=torch.float32))
    ours = models.load(str(folder), device="cpu")
    return SimpleNamespace(chosen=LLAVA_NEXT[request.param], folder=folder, stock=stock, ours=ours)


def test_a_llava_next_answers_as_stock(next_one):
    check_against(next_one.stock, next_one.ours, next_one.chosen.end)


def test_a_llava_next_is_asked_as_its_processor_asks(next_one):
    processor = LlavaNextProcessor(
        LlavaNextImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        PreTrainedTokenizerFast.from_pretrained(next_one.folder),
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=json.loads((next_one.folder / "chat_template.json").read_text())["chat_template"],
        num_additional_image_tokens=1,
    )
    text = "what {user} is <b>it</b>?\nA. one\nB. two"
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    said = processor.apply_chat_template([message], add_generation_prompt=True)
    assert shown_prompt(str(next_one.folder), text) == said
    prompt = next_one.ours.prompt(text)
    ids = processor.tokenizer(said.removeprefix(next_one.chosen.begin or "")).input_ids
    assert [*prompt.prefix, ID["<image>"], *prompt.suffix] == ids
    assert next_one.ours.tokenizer.decode(prompt.suffix[slice(*prompt.instruction)]) == text


@pytest.mark.slow
@pytest.mark.parametrize("name", checkpoints.kinds(INTERNVL))
def test_an_internvl_in_opengvlabs_layout_answers_as_stock(tmp_path, name):
    torch.set_num_threads(1)
    chosen = INTERNVL[name]
    stock = checkpoints.internvl_chat(chosen, tmp_path)
    ours = models.load(str(tmp_path), device="cpu")
    for key, tensor in stock.state_dict().items():
        assert torch.equal(ours.model.state_dict()[key], tensor), key
    check_against(stock, ours, chosen.end[:1])
    style = STYLES[chosen.template]
    assert shown_prompt(str(tmp_path), "what?") == written(style, "what?")[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["internvl2_5-1b", "internvl3-8b", "internvl3-38b", "internvl3_5-8b"])
def test_an_internvl_in_transformers_own_layout_answers_as_stock(tmp_path, name):
    torch.set_num_threads(1)
    stock = checkpoints.internvl_hf(INTERNVL[name], tmp_path)
    ours = models.load(str(tmp_path), device="cpu")
    check_against(stock, ours, INTERNVL[name].end)
    expected = "<|im_start|>user\n<image>\nwhat?<|im_end|>\n<|im_start|>assistant\n"
    assert shown_prompt(str(tmp_path), "what?") == expected
    prompt = ours.prompt("what?")
    text = expected.replace("<image>", "<img><IMG_CONTEXT></img>")
    assert [*prompt.prefix, ID["<IMG_CONTEXT>"], *prompt.suffix] == ours.tokenizer.encode(text)[0]


@pytest.mark.slow
def test_a_llava_15_over_llama_3_answers_as_stock(tmp_path):
    torch.set_num_threads(1)
    chosen = LLAVA_NEXT["llama3-8b"]
    checkpoints.llava_15(chosen, tmp_path)
    stock = aligned(LlavaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32))
    ours = models.load(str(tmp_path), device="cpu")
    assert ours.info.family == "llava-1.5"
    check_against(stock, ours, chosen.end)
    assert shown_prompt(str(tmp_path), "what?").startswith("<|begin_of_text|><|start_header_id|>user")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vicuna-7b", "mistral-7b", "72b"])
def test_a_llava_next_in_the_original_layout_answers_as_stock(tmp_path, name):
    torch.set_num_threads(1)
    chosen = LLAVA_NEXT[name]
    stock = checkpoints.original_llava_next(chosen, tmp_path)
    ours = models.load(str(tmp_path), device="cpu", style=chosen.template)
    assert ours.info.family == "llava-next"
    for key, tensor in stock.state_dict().items():
        assert torch.equal(ours.model.state_dict()[key], tensor), key
    check_against(stock, ours, chosen.end)
    prompt = ours.prompt("what?")
    before, behind = written(STYLES[chosen.template], "what?")[0].split("<image>")
    encode = ours.tokenizer.encode
    begin = [ID[chosen.begin]] if chosen.begin else []
    assert list(prompt.prefix) == encode(before)[0]
    assert begin + list(prompt.suffix) == encode(behind)[0]


@pytest.mark.slow
def test_the_original_layout_unpads_as_its_code_does(tmp_path):
    checkpoints.original_llava_next(LLAVA_NEXT["vicuna-7b"], tmp_path)
    ours = models.load(str(tmp_path), device="meta")
    hub = models.load(str(tmp_path / "hub"), device="meta")
    sizes = ((height, width) for height in range(20, 99) for width in range(height, 400))
    # Such as 49 * (1 / 49), which falls just short of 1: the original truncates it to 0.
    size = next(s for s in sizes if unpadded(s, (8, 8)) != unpadded(s, (8, 8), None))
    assert hub.layout(size, (2, 2), 4).num_patches > ours.layout(size, (2, 2), 4).num_patches


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mistral-window", "72b", "internvl2-4b", "internvl3_5-8b"])
def test_every_method_runs_on_every_language_model(tmp_path, name):
    torch.set_num_threads(1)
    if name in LLAVA_NEXT:
        checkpoints.llava_next(LLAVA_NEXT[name], tmp_path)
        miniature.write_clip(miniature.clip(), tmp_path / "clip", with_vision=False)
    else:
        checkpoints.internvl_chat(INTERNVL[name], tmp_path)
    vlm = VisionLanguageModel(models.load(str(tmp_path), device="cpu"))
    image = picture(200, 100)
    full = vlm.generate(image, "is it red", max_new_tokens=4).generation.token_ids
    for method in names():
        same = vlm.generate(image, "is it red", method=method, retention_ratio=1.0, max_new_tokens=4)
        assert same.generation.token_ids == full, method
        less = vlm.generate(image, "is it red", method=method, retention_ratio=0.4, max_new_tokens=2)
        assert list(less.tokens.visual_per_layer) == sorted(less.tokens.visual_per_layer, reverse=True), method


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mistral-window", "internvl2-4b"])
def test_a_row_among_others_answers_as_alone_where_its_reach_decides(tmp_path, name):
    """Windows and long-range rotary frequencies: a short and a long prompt side by side."""
    if name in LLAVA_NEXT:
        checkpoints.llava_next(LLAVA_NEXT[name], tmp_path)
    else:
        checkpoints.internvl_chat(INTERNVL[name], tmp_path)
    ours = models.load(str(tmp_path), device="cpu", style="mistral" if name in LLAVA_NEXT else "plain")
    requests = []
    for text in ("a", "is it red " * 12):
        encoded = ours.encode(ours.prepare(picture(56, 56)), Needs())
        visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        requests.append(Request(ours.prompt(text), visual, 6))
    lengths = [request.prompt.num_text + len(request.visual) for request in requests]
    assert lengths[0] < 60 < lengths[1]
    assert ours.generate(requests) == [ours.generate([request])[0] for request in requests]
    eager = models.load(str(tmp_path), device="cpu", attention="eager", style=ours.style.name)
    assert [one.token_ids for one in eager.generate(requests)] == [one.token_ids for one in ours.generate(requests)]


@pytest.mark.slow
def test_llm_rows_equal_eager_attention_of_every_kind(tmp_path):
    for name in ("mistral-window", "internvl3_5-8b", "internvl2-4b"):
        folder = tmp_path / name
        if name in LLAVA_NEXT:
            stock = checkpoints.llava_next(LLAVA_NEXT[name], folder)
        else:
            stock = checkpoints.internvl_chat(INTERNVL[name], folder)
        ours = models.load(str(folder), device="cpu")
        needs = Needs(llm_attention=frozenset({1, 3}))
        prompt = ours.prompt("is it red")
        encoded = ours.ask(ours.encode(ours.prepare(picture(90, 90)), needs), "is it red", needs, prompt)
        visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        language = stock.model.language_model
        language.set_attn_implementation("eager")
        embeds = whole(stock, Request(prompt, visual, 1))
        with torch.no_grad():
            full = language(inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2]), output_attentions=True)
        start = len(prompt.prefix) + len(visual)
        first, last = prompt.instruction
        sequence = encoded.layout.sequence
        for layer in (1, 3):
            rows = full.attentions[layer - 1][0, :, start + first : start + last]
            columns = rows[..., len(prompt.prefix) : start][..., sequence >= 0]
            flat = encoded.question.llm_attention[layer].flatten(-2)
            assert torch.allclose(flat[..., sequence[sequence >= 0]], columns, atol=1e-6), (name, layer)


@pytest.mark.slow
def test_a_tied_head_that_differs_is_refused(tmp_path):
    checkpoints.internvl_chat(INTERNVL["internvl2_5-1b"], tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    head = state["language_model.model.embed_tokens.weight"]
    save_file(state | {"language_model.lm_head.weight": head.clone()}, tmp_path / "model.safetensors")
    models.load(str(tmp_path), device="cpu")
    save_file(state | {"language_model.lm_head.weight": head + 1}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="ties lm_head"):
        models.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize("asked", ["graphs", "in_place"])
def test_what_a_sliding_window_does_not_go_with_is_refused(tmp_path, asked):
    checkpoints.llava_next(LLAVA_NEXT["mistral-window"], tmp_path)
    ours = models.load(str(tmp_path), device="cpu")
    assert ours.runner.sizes == [40]
    info = ours.info
    parts = Parts(info, ours.model, ours.tokenizer, STYLES["mistral"], frozenset({2}), "<image>", {}, **{asked: True})
    with pytest.raises(ParameterError, match="sliding windows"):
        type(ours)(parts)


@pytest.mark.parametrize("name", ["internvl2-4b", "internvl3-8b", "mistral-window"])
def test_shapes_alone_run_too(tmp_path, name):
    write = checkpoints.llava_next if name in LLAVA_NEXT else checkpoints.internvl_chat
    write((LLAVA_NEXT | INTERNVL)[name], tmp_path)
    ours = models.load(str(tmp_path), device="meta")
    known = shape(str(tmp_path))
    assert (ours.info.language, ours.info.vision, ours.info.context) == (known.language, known.vision, known.context)
    prompt = ours.prompt("what?")
    state = ours.decoder.prefill([Request(prompt, torch.empty(90, 64, device="meta"), 2)])
    assert ours.decoder.decode(state, torch.zeros(1, dtype=torch.long, device="meta")).shape == (1, checkpoints.VOCAB)
