"""InternVL2: the released layout written and read back, tiles, tokenizer and prompt, against stock classes."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hero_ray import models
from hero_ray.core.encoded import Needs, keep_all
from hero_ray.core.errors import CheckpointError
from hero_ray.models import miniature
from hero_ray.models.base import Request
from hero_ray.models.checkpoints import internvl2 as checkpoint
from hero_ray.models.prompts import STYLES
from hero_ray.models.tokenizer import SentencePieceTokenizer
from tests.against_stock import picture

SIZES = [(56, 56), (200, 100), (90, 300), (170, 160)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    torch.set_num_threads(1)
    stock = miniature.internvl2()
    folder = miniature.write_internvl2(stock, tmp_path_factory.mktemp("internvl2"))
    return SimpleNamespace(stock=stock, folder=folder, ours=models.load(str(folder), device="cpu"))


def test_written_and_read_back_every_weight_is_the_same(pair):
    read = pair.ours.model.state_dict()
    for name, tensor in pair.stock.state_dict().items():
        assert torch.equal(read[name], tensor), name


def test_written_keys_are_the_released_ones(pair):
    keys = set(load_file(pair.folder / "model.safetensors"))
    layer = "language_model.model.layers.0."
    assert {layer + "attention.wqkv.weight", layer + "feed_forward.w2.weight", layer + "ffn_norm.weight"} <= keys
    assert {"mlp1.0.weight", "mlp1.1.bias", "mlp1.3.weight", "language_model.output.weight"} <= keys
    vision = "vision_model.encoder.layers.0."
    assert {vision + "attn.qkv.bias", vision + "ls1", vision + "norm2.weight", vision + "attn.proj.weight"} <= keys
    assert "vision_model.embeddings.class_embedding" in keys
    assert not [key for key in keys if key.startswith("model.")]


def test_fused_rows_are_grouped_by_key_value_head():
    text = miniature.text_config(kv_heads=2)
    rows = torch.arange(2 * (4 + 2) * 8)[:, None]
    parts = checkpoint.split_wqkv(rows, text)
    assert parts["q"].flatten().tolist() == [*range(32), *range(48, 80)]
    assert parts["k"].flatten().tolist() == [*range(32, 40), *range(80, 88)]
    assert parts["v"].flatten().tolist() == [*range(40, 48), *range(88, 96)]
    assert torch.equal(checkpoint.fuse_wqkv(parts["q"], parts["k"], parts["v"], text), rows)


@pytest.mark.parametrize("size", SIZES)
def test_nothing_pruned_equals_stock_logits_exactly(pair, size):
    ours, stock = pair.ours, pair.stock
    prepared = ours.prepare(picture(*size))
    encoded = ours.encode(prepared, Needs())
    visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
    prompt = ours.prompt("what colour is the shape")
    ids = torch.tensor([[*prompt.prefix, *[miniature.IMAGE_ID] * len(visual), *prompt.suffix]])
    # The family shows its LLM the thumbnail last; inside, it is view 0.
    views = prepared.pixels if len(prepared.pixels) == 1 else torch.cat([prepared.pixels[1:], prepared.pixels[:1]])
    with torch.no_grad():
        features = stock.get_image_features(views, return_dict=True).pooler_output.flatten(0, 1)
        mask = torch.ones_like(ids)
        expected = stock(input_ids=ids, pixel_values=views, attention_mask=mask, logits_to_keep=1).logits[0]
    assert (visual - features).abs().max().item() == 0.0
    state = ours.decoder.prefill([Request(prompt, visual, 1)])
    assert (state.logits - expected).abs().max().item() == 0.0


def test_same_view_order_is_bitwise_stock(pair):
    ours, stock = pair.ours, pair.stock
    prepared = ours.prepare(picture(300, 100))
    encoded = ours.encode(prepared, Needs())
    with torch.no_grad():
        features = stock.get_image_features(prepared.pixels, return_dict=True).pooler_output
    assert torch.equal(encoded.features, features)


@pytest.mark.parametrize("size", SIZES)
def test_views_equal_the_stock_processor(pair, size):
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    processor = GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56},
        crop_to_patches=True,
        min_patches=1,
        max_patches=4,
        use_thumbnail=True,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    expected = processor(picture(*size), return_tensors="pt")["pixel_values"]
    pixels = pair.ours.prepare(picture(*size)).pixels
    ordered = pixels if len(pixels) == 1 else torch.cat([pixels[1:], pixels[:1]])
    assert ordered.shape == expected.shape
    assert (ordered - expected).abs().max().item() < 1e-5


def test_greedy_tokens_equal_stock_generate(pair):
    ours, stock = pair.ours, pair.stock
    requests = []
    for index, size in enumerate(SIZES):
        encoded = ours.encode(ours.prepare(picture(*size, seed=index)), Needs())
        visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        requests += [Request(ours.prompt(text), visual, 8) for text in ("what colour is it", "how many objects")]
    end = sorted(ours.decoder.end)
    embeds = stock.get_input_embeddings()
    for request, answer in zip(requests, ours.generate(requests), strict=True):
        prefix, suffix = (embeds(torch.tensor(part)) for part in (request.prompt.prefix, request.prompt.suffix))
        whole = torch.cat([prefix, request.visual, suffix])[None]
        ids = stock.generate(
            inputs_embeds=whole,
            attention_mask=torch.ones(whole.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=end,
            pad_token_id=0,
        )[0].tolist()
        cut = next((place for place, token in enumerate(ids) if token in end), len(ids))
        assert list(answer.token_ids) == ids[:cut]


def test_cls_rows_equal_eager_attention_pooled_to_tokens(pair):
    ours, tower = pair.ours, pair.stock.model.vision_tower
    prepared = ours.prepare(picture(200, 100))
    encoded = ours.encode(prepared, Needs(cls_attention=frozenset({2}), keys=frozenset({2})))
    tower.set_attn_implementation("eager")
    with torch.no_grad():
        full = tower(prepared.pixels, output_attentions=True).attentions[1][:, :, 0, 1:]
    tower.set_attn_implementation("sdpa")
    token = full.unflatten(-1, (4, 4))[..., 0:2, 2:4].mean((-1, -2))
    assert torch.allclose(encoded.cls_attention[2][..., 1], token, atol=1e-6)
    assert encoded.keys[2].shape[2] == 1 + 4


def test_prompt_is_the_released_template(pair):
    prompt = pair.ours.prompt("what colour is it")
    tokens = pair.ours.tokenizer
    text = (
        "<|im_start|>system\nbe brief.<|im_end|><|im_start|>user\n<img><IMG_CONTEXT></img>\n"
        "what colour is it<|im_end|><|im_start|>assistant\n"
    )
    assert [*prompt.prefix, miniature.IMAGE_ID, *prompt.suffix] == tokens.encode(text)[0]
    asked = prompt.suffix[slice(*prompt.instruction)]
    assert tokens.decode(asked) == "what colour is it"
    assert STYLES["internlm2-chat"].system.endswith("人工智能助手。")


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_tokenizer_equals_sentencepiece_between_special_tokens(tmp_path, dummy_prefix):
    import sentencepiece

    path = miniature.train_sentencepiece(tmp_path / "tokenizer.model", dummy_prefix)
    plain = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokens = SentencePieceTokenizer(path, {"<img>": 154, "</img>": 155})
    ids, spans = tokens.encode("what colour<img></img>is  the shape")
    assert ids == [1, *plain.encode("what colour"), 154, 155, *plain.encode("is  the shape")]
    assert spans[ids.index(154)] == (11, 16)
    assert tokens.decode(ids) == plain.decode(plain.encode("what colour") + plain.encode("is  the shape"))


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_text_beyond_the_vocabulary_falls_back_to_bytes(tmp_path, dummy_prefix):
    import sentencepiece

    path = miniature.train_sentencepiece(tmp_path / "tokenizer.model", dummy_prefix, size=360, byte_fallback=True)
    plain = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokens = SentencePieceTokenizer(path, {"<|im_end|>": 400})
    system, question = STYLES["internlm2-chat"].system, "what colour \U0001f600 is  it\n"
    ids, spans = tokens.encode(f"{system}<|im_end|>{question}")
    assert ids == [1, *plain.encode(system), 400, *plain.encode(question)]
    assert spans[ids.index(400)] == (len(system), len(system) + len("<|im_end|>"))
    assert spans[-1][1] <= len(system) + len("<|im_end|>") + len(question)
    assert tokens.decode(plain.encode(question)) == question


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ps_version": "v1"}, "ps_version is 'v1'"),
        ({"model_type": "qwen2_vl"}, "model_type is 'qwen2_vl'"),
        ({"llm_config": {"architectures": ["InternLM3ForCausalLM"]}}, "its language model is InternLM3ForCausalLM"),
    ],
)
def test_other_checkpoints_are_refused(pair, tmp_path, change, message):
    raw = json.loads((pair.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(CheckpointError, match=message):
        models.load(str(tmp_path), device="cpu")


def copy_with(pair, folder, edit):
    state = load_file(pair.folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        (folder / name).write_bytes((pair.folder / name).read_bytes())
    return str(folder)


def test_a_left_over_key_is_named(pair, tmp_path):
    folder = copy_with(pair, tmp_path, lambda state: state.update(stray=torch.zeros(1)))
    with pytest.raises(CheckpointError, match="stray"):
        models.load(folder, device="cpu")


def test_a_missing_key_is_named(pair, tmp_path):
    folder = copy_with(pair, tmp_path, lambda state: state.pop("mlp1.3.bias"))
    with pytest.raises(CheckpointError, match=r"linear_2\.bias"):
        models.load(folder, device="cpu")
