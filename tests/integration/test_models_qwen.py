"""Qwen-VL: native resolution, windows, places in rows and columns; against transformers' class and processor."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from hero_ray import models
from hero_ray.core.encoded import Budget, Needs, keep_all
from hero_ray.core.errors import CheckpointError, ImageError, InputError, ParameterError, PromptError
from hero_ray.costs.costs import at_view, encoder_flops, prefill_flops, scoring_flops
from hero_ray.costs.memory import model_weights
from hero_ray.methods import create
from hero_ray.models import miniature, miniature_qwen, taps
from hero_ray.models.asking import shown_prompt
from hero_ray.models.base import Request, embeddings
from hero_ray.models.batch import whole_prompts
from hero_ray.models.shapes import limited, shape
from hero_ray.models.stock_check import against_stock, verdict
from hero_ray.pipeline.facts import published_fact
from hero_ray.studies import layer_iou
from tests.against_stock import every_method_keeps_its_promises, picture

SIZES = [(60, 60), (100, 40), (200, 90), (33, 170), (3, 400), (640, 480)]
QUESTIONS = ["what colour is it?", "how many objects are in the picture on the left?"]
MAKE = {"qwen2.5-vl": miniature_qwen.qwen_vl, "qwen3-vl": miniature_qwen.qwen3_vl}


@pytest.fixture(scope="module", params=list(MAKE))
def pair(request, tmp_path_factory):
    torch.set_num_threads(1)
    stock = MAKE[request.param]()
    folder = miniature_qwen.write_qwen_vl(stock, tmp_path_factory.mktemp("qwen"))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    processor = Qwen2VLImageProcessorPil(**settings)
    ours = models.load(str(folder), device="cpu")
    return SimpleNamespace(stock=stock, folder=folder, processor=processor, ours=ours, family=request.param)


def request_of(ours, image, question=QUESTIONS[0], tokens=8):
    encoded = ours.encode(ours.prepare(image), Needs())
    return Request(ours.prompt(question), ours.assemble(encoded, keep_all(encoded.layout), "none"), tokens)


def stock_inputs(pair, request, image):
    ids = [*request.prompt.prefix, *[miniature.IMAGE_ID] * request.visual.shape[0], *request.prompt.suffix]
    inputs = dict(pair.processor(image, return_tensors="pt")) | {"input_ids": torch.tensor([ids])}
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == miniature.IMAGE_ID).int()
    return inputs | {"attention_mask": torch.ones_like(inputs["input_ids"])}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_features_and_logits_equal_stock_exactly(pair, size):
    image, ours = picture(*size), pair.ours
    request, prepared = request_of(ours, image), ours.prepare(image)
    inputs = stock_inputs(pair, request, image)
    given = ours.stock_inputs(prepared, inputs["input_ids"])
    assert all(
        torch.equal(given[name], inputs[name]) for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids")
    )
    with torch.no_grad():
        features = pair.stock.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output[0]
        expected = pair.stock(**inputs, logits_to_keep=1).logits[0]
    assert torch.equal(request.visual.embeds, features)
    assert (ours.decoder.prefill([request]).logits - expected).abs().max().item() == 0.0


def test_greedy_tokens_equal_stock_alone_batched_and_shared(pair):
    assert all(pair.ours.runner._lean) == (pair.family == "qwen2.5-vl")  # Qwen3's norms of heads keep their modules
    requests, expected = [], []
    for index, size in enumerate(SIZES[:3]):
        image = picture(*size, seed=index)
        first = request_of(pair.ours, image)
        for question in QUESTIONS:
            request = Request(pair.ours.prompt(question), first.visual, 8)
            inputs = stock_inputs(pair, request, image)
            made = pair.stock.generate(**inputs, do_sample=False, max_new_tokens=8, eos_token_id=2, pad_token_id=0)
            ids = made[0, inputs["input_ids"].shape[1] :].tolist()
            requests.append(request)
            expected.append(ids[: ids.index(2)] if 2 in ids else ids)
    assert len({token for ids in expected for token in ids}) > 8
    for options in ({"batch_size": 1, "share_prefix": False}, {"share_prefix": False}, {"share_prefix": True}):
        assert [list(answer.token_ids) for answer in pair.ours.generate(requests, **options)] == expected, options
    copied, read = pair.ours.decoder, replace(pair.ours.decoder, in_place=True)
    assert [list(answer.token_ids) for answer in read.answer(requests)] == expected
    logits = [decoder.prefill(requests).logits for decoder in (copied, read)]
    assert (logits[0] - logits[1]).abs().max() < 1e-5 * logits[0].abs().max()


def test_survivors_stand_where_stock_puts_them_and_so_does_the_text_behind(pair):
    """Rows of stock's own position ids, chosen by hand."""
    ours, image = pair.ours, picture(200, 90)
    whole = request_of(ours, image)
    inputs = stock_inputs(pair, whole, image)
    planes, _ = pair.stock.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
    )
    encoded = ours.encode(ours.prepare(image), Needs())
    selection = create("random").select(encoded, Budget.of(encoded.layout, 0.3))
    prefix, behind = len(whole.prompt.prefix), len(whole.prompt.prefix) + whole.visual.shape[0]
    kept = selection.keep[0].nonzero()[:, 0] + prefix
    expected = torch.cat([torch.arange(prefix), kept, torch.arange(behind, planes.shape[2])])
    request = Request(whole.prompt, ours.assemble(encoded, selection, "none"), 1)
    batch = whole_prompts([request, whole], ours.runner.embed)
    assert torch.equal(batch.positions[0, batch.valid[0]], planes[:, 0, expected].T)
    assert torch.equal(batch.positions[1], planes[:, 0].T)
    assert batch.next_position.tolist() == [[int(planes.max()) + 1]] * 2


@torch.no_grad()
def stock_attention(stock, given):
    """Every block's attention over the whole picture [H, n, n] as the stock tower runs, and the tower's last states."""
    tower, found = stock.model.visual, {}

    def note(layer):
        def hook(attention, args, named, _):
            query, key, _ = attention.qkv(args[0]).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
            query, key = apply_rotary_pos_emb_vision(query, key, *named["position_embeddings"])
            found[layer] = (torch.einsum("qhd,khd->hqk", query, key) * attention.scaling).softmax(-1)

        return hook

    blocks = enumerate(tower.blocks, start=1)
    hooks = [block.attn.register_forward_hook(note(layer), with_kwargs=True) for layer, block in blocks]
    last = tower(given["pixel_values"], grid_thw=given["image_grid_thw"]).last_hidden_state
    for hook in hooks:
        hook.remove()
    return found, last


def test_blocks_with_full_attention_answer_for_those_with_windows(pair):
    """Against attention weights of the stock tower, patches dealt to their tokens by hand."""
    ours, layers = pair.ours, frozenset(range(1, 6))
    needs = Needs(layers, layers, layers, frozenset({"last_pre_ln"}), received=layers)
    prepared = ours.prepare(picture(100, 70))
    encoded = ours.encode(prepared, needs)
    found, last = stock_attention(pair.stock, ours.stock_inputs(prepared, torch.zeros(1, 1, dtype=torch.long)))
    near = ours.info.vision.nearest
    grid = ours._grid(prepared.pixels)
    places = (grid.back[:, None] * 4 + torch.arange(4)).flatten()  # from the blocks' order to tokens in a raster
    whole = ours.info.vision.whole or tuple(range(1, 6))
    for layer in layers:
        matrix = found[near(layer)][:, places][:, :, places]
        assert near(layer) in whole
        given = matrix.mean(1).unflatten(-1, (-1, 4)).mean(-1)
        torch.testing.assert_close(encoded.cls_attention[layer][0], given, atol=1e-6, rtol=1e-4)
        own = matrix.diagonal(dim1=1, dim2=2)
        others = (matrix.sum(1) - own).mean(0).unflatten(-1, (-1, 4)).mean(-1)
        torch.testing.assert_close(encoded.received[layer][0, 1], others, atol=1e-5, rtol=1e-4)
        assert encoded.keys[layer].shape == (1, 4, 1 + encoded.layout.tokens_per_view, 8)
    torch.testing.assert_close(encoded.cls_embedding["last_pre_ln"][0], last.mean(0))


def test_many_patches_are_summed_in_parts_to_the_same_shares(monkeypatch):
    queries, keys = torch.randn(2, 2, 3, 50, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    whole = taps.passed_on(queries, keys)
    monkeypatch.setattr(taps, "_ROWS", 7)
    for one, other in zip(whole, taps.passed_on(queries, keys), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_every_method_runs_and_keeps_its_promises(pair):
    every_method_keeps_its_promises(pair.ours, picture(150, 100))


@pytest.mark.slow
def test_every_method_keeps_its_promises_on_the_embedded_model():
    every_method_keeps_its_promises(models.load("hero-tiny-qwen", device="cpu"), picture(128, 96))


def test_the_tokens_around_a_picture_are_no_words_of_the_prompt():
    adapter = models.load("hero-tiny-qwen", device="cpu")
    needs, prompt = Needs(prompt_embedding=True), adapter.prompt("what is it")
    encoded = adapter.encode(adapter.prepare(picture(128, 96)), needs)
    words = torch.tensor([*prompt.prefix[:-1], *prompt.suffix[1:]])  # <|vision_start|> and <|vision_end|> left out
    found = adapter.ask(encoded, "what is it", needs, prompt).question.prompt_embedding
    torch.testing.assert_close(found, adapter.runner.embed(words).float().mean(0))


def test_pooled_tokens_stand_in_the_middle_of_what_they_pool(pair):
    encoded = pair.ours.encode(pair.ours.prepare(picture(96, 96)), Needs())
    assert encoded.layout.side == (6, 6)
    selection = create("spatial-pool").select(encoded, Budget.of(encoded.layout, 0.25))
    where = pair.ours.assemble(encoded, selection, "none").places.tolist()
    assert where == [[0, row, column] for row in (1, 3, 5) for column in (1, 3, 5)]


def test_the_ledger_counts_what_torch_counts(pair):
    ours = models.load(str(pair.folder), device="meta", dtype="bfloat16")
    for size in ((100, 40), (200, 90)):
        prepared = ours.prepare(picture(*size))
        seen = at_view(ours.info.vision, prepared.layout.side)
        with FlopCounterMode(display=False) as counter:
            encoded = ours.encode(prepared, Needs())
        assert counter.get_total_flops() == encoder_flops(seen, 1)
        request = Request(ours.prompt("what"), ours.assemble(encoded, keep_all(encoded.layout), "none"), 1)
        tokens = [request.prompt.num_text + prepared.layout.num_patches] * ours.info.language.num_layers
        with FlopCounterMode(display=False) as counter:
            ours.decoder.prefill([request])
        assert counter.get_total_flops() == prefill_flops(ours.info.language, tokens, causal=False)
    cheap, dear = (scoring_flops(ours.info, Needs(cls_attention=frozenset(layers)), 1) for layers in ({5}, {4, 5}))
    assert (cheap == dear) == bool(ours.info.vision.whole)  # block 4 has windows where block 5 answers for it


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("qwen2.5-vl-7b", (35, 35)), ("qwen3-vl-8b", (31, 31))])
def test_a_true_tower_costs_what_the_formula_says(name, side):
    ours = models.load(name, device="meta", max_pixels=1280 * 28 * 28)
    assert ours.prepare(picture(1000, 1000)).layout.side == side
    prepared = ours.prepare(picture(300, 170))  # windows cut short at two edges
    with FlopCounterMode(display=False) as counter:
        ours.encode(prepared, Needs())
    assert counter.get_total_flops() == encoder_flops(at_view(ours.info.vision, prepared.layout.side), 1)
    assert (shape(name).largest, published_fact(name, {}).max_tokens) == (16384, 16384)
    assert limited(shape(name), {"max_pixels": 1280 * 28 * 28}).vision == ours.info.vision
    weights = sum(weight.numel() for weight in ours.model.parameters())
    assert model_weights(ours.info.language, ours.info.vision, 1) == pytest.approx(weights, rel=1e-3)


def test_pixels_are_limited_as_asked(pair):
    unit = 2 * pair.ours.info.vision.patch
    small = models.load(str(pair.folder), device="cpu", max_pixels=9 * unit**2, min_pixels=unit**2)
    assert small.prepare(picture(500, 500)).layout.side == (3, 3)
    assert small.prepare(picture(10, 10)).layout.side == (1, 1)
    known = shape(str(pair.folder))
    assert (small.info.language, limited(known, {"max_pixels": 9 * unit**2}).vision) == (
        known.language,
        small.info.vision,
    )
    assert (known.largest, limited(known, {"max_pixels": 9 * unit**2}).largest) == (40, 9)
    assert pair.ours.info.vision == known.vision
    for options, why in (
        ({"max_pixels": 0}, "expected whole numbers"),
        ({"max_tiles": 3}, r"has no option \['max_tiles'\]"),
    ):
        with pytest.raises(ParameterError, match=why):
            models.load(str(pair.folder), device="cpu", **options)


def test_films_and_strips_are_refused_by_name(pair):
    for text in ("what happens in <video>?", "what is <|video_pad|>?"):
        with pytest.raises(PromptError, match="one picture"):
            pair.ours.prompt(text)
    with pytest.raises(ImageError, match="takes at most 200 times"):
        pair.ours.prepare(picture(2, 402))


@pytest.mark.slow
def test_doctor_finds_it_equal(pair):
    found = against_stock(pair.ours, pair.folder, 4)
    assert found.is_equal, verdict(found)
    assert (found.weights, found.logits, found.pixels) == ("transformers", 0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"use_sliding_window": True}, "use_sliding_window is set"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "its rotary positions are 'dynamic'"),
    ],
    ids=["window", "dynamic"],
)
def test_settings_that_are_not_its_own_are_refused(pair, tmp_path, change, why):
    raw = json.loads((pair.folder / "config.json").read_text())
    text = raw.get("text_config") or raw
    text.update(change)
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=why):
        models.load(str(tmp_path), device="cpu")


TEMPLATE = (
    "{% set shown = namespace(count=0) %}{% for m in messages %}"
    "{% if loop.first and m.role != 'system' %}{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}"
    "{% if part.type == 'image' %}{% set shown.count = shown.count + 1 %}"
    "{% if add_vision_id %}Picture {{ shown.count }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_it_is_asked_as_its_template_asks(pair, tmp_path):
    (tmp_path / "config.json").write_text((pair.folder / "config.json").read_text())
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    assert shown_prompt(str(tmp_path), "what {is} it?\nA. one") == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|vision_start|><image><|vision_end|>"
        "what {is} it?\nA. one<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_released_layouts_are_read(pair, tmp_path):
    """Qwen2.5-VL's says its language model at the top, Qwen3-VL's names its tower as the whole."""
    raw = json.loads((pair.folder / "config.json").read_text())
    raw["vision_config"]["model_type"] = raw["model_type"]
    if pair.family == "qwen2.5-vl":
        text = raw.pop("text_config")
        rope = text.pop("rope_parameters")
        rope["type"] = "mrope"
        del rope["rope_type"]
        raw |= {key: value for key, value in text.items() if key not in ("model_type", "architectures")}
        raw |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    for name in ("model.safetensors", "tokenizer.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((pair.folder / name).read_bytes())
    again = models.load(str(tmp_path), device="cpu")
    one, other = (adapter.decoder.prefill([request_of(adapter, picture(90, 60))]) for adapter in (pair.ours, again))
    assert torch.equal(one.logits, other.logits)
    assert shape(str(tmp_path)).language == again.info.language == pair.ours.info.language


def test_a_study_of_the_one_view_is_refused(pair):
    with pytest.raises(InputError, match="layer-iou crops pictures to the model's one view"):
        layer_iou.run(SimpleNamespace(adapter=pair.ours))


def test_extra_rows_of_embeddings_are_those_of_the_picture(pair):
    request = request_of(pair.ours, picture(60, 60))
    assert embeddings(request.visual) is request.visual.embeds
    assert request.visual.device == request.visual.embeds.device
