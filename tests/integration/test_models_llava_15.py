"""LLaVA-1.5: stock equality, the hub's two layouts and the original one (ShareGPT4V), and what is refused."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hero_ray import models
from hero_ray.core.encoded import Needs, keep_all
from hero_ray.core.errors import CheckpointError, ParameterError, UnknownNameError
from hero_ray.models import configs, miniature
from hero_ray.models.base import Request, VisionShape
from tests.against_stock import picture


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    torch.set_num_threads(1)
    stock = miniature.llava_15()
    folder = miniature.write_llava(stock, tmp_path_factory.mktemp("llava15"), miniature.clip())
    return SimpleNamespace(stock=stock, folder=folder, ours=models.load(str(folder), device="cpu"))


@pytest.mark.parametrize("size", [(56, 56), (200, 90), (50, 170)])
def test_nothing_pruned_equals_stock(pair, size):
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    ours, stock = pair.ours, pair.stock
    processor = LlavaImageProcessorPil(
        size={"shortest_edge": 56},
        crop_size={"height": 56, "width": 56},
        do_pad=True,
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
    )
    prepared = ours.prepare(picture(*size))
    pixels = processor(picture(*size), return_tensors="pt")["pixel_values"]
    assert torch.equal(prepared.pixels, pixels.float())
    encoded = ours.encode(prepared, Needs())
    visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
    prompt = ours.prompt("what is it")
    ids = torch.tensor([[*prompt.prefix, *[miniature.IMAGE_ID] * len(visual), *prompt.suffix]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": prepared.pixels}
    with torch.no_grad():
        expected = stock(**inputs, logits_to_keep=1).logits[0]
        tokens = stock.generate(**inputs, do_sample=False, max_new_tokens=8, eos_token_id=2, pad_token_id=0)
    state = ours.decoder.prefill([Request(prompt, visual, 1)])
    assert (state.logits - expected).abs().max().item() == 0.0
    generated = tokens[0, ids.shape[1] :].tolist()
    expected_ids = generated[: generated.index(2)] if 2 in generated else generated
    assert list(ours.generate([Request(prompt, visual, 8)])[0].token_ids) == expected_ids


TEXT_KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "max_position_embeddings", "rms_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id"),
)


def original_state(stock):
    """A hub model's weights under the names of the original code."""
    names = {
        "model.language_model.": "model.",
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
    }
    state = {}
    for name, tensor in stock.state_dict().items():
        old = next((prefix for prefix in names if name.startswith(prefix)), "")
        state[names.get(old, "") + name.removeprefix(old)] = tensor.clone()
    return state


def write_original(stock, folder, tower_inside=True):
    text = stock.config.text_config
    state = original_state(stock)
    if not tower_inside:
        state = {name: tensor for name, tensor in state.items() if "vision_tower" not in name}
    save_file(state, folder / "model.safetensors")
    raw = {
        "model_type": "share4v",
        "mm_vision_tower": str(folder / "tower"),
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "image_aspect_ratio": "pad",
        **{key: getattr(text, key) for key in TEXT_KEYS},
    }
    (folder / "config.json").write_text(json.dumps(raw))
    miniature.train_sentencepiece(folder / "tokenizer.model")
    return folder


@pytest.mark.parametrize("tower_inside", [True, False])
def test_the_original_layout_gives_the_same_model(pair, tmp_path, monkeypatch, tower_inside):
    # The original layout states no tower sizes; the miniature's stand in for CLIP-L's.
    sizes = VisionShape(6, 5, 32, 64, 4, 17, 14, ())
    monkeypatch.setattr(configs, "ORIGINAL_TOWER", sizes)
    monkeypatch.setattr(configs, "_CLIP_IMAGE", miniature.TILE)
    folder = write_original(pair.stock, tmp_path, tower_inside)
    if not tower_inside:
        clip = miniature.clip()
        clip.vision_model.load_state_dict(pair.stock.model.vision_tower.state_dict())
        miniature.write_clip(clip, folder / "tower")
    ours = models.load(str(folder), device="cpu")
    assert ours.info.family == "llava-1.5"
    for name, tensor in pair.stock.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], tensor), name
    prompt = ours.prompt("what colour")
    assert prompt.prefix[0] == 1
    encoded = ours.encode(ours.prepare(picture(80, 40)), Needs())
    visual = ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
    assert ours.generate([Request(prompt, visual, 3)])[0].visual_per_layer == (16,) * 4


def copy_of(pair, folder, config=None, weights=True):
    for path in pair.folder.iterdir():
        if path.is_file() and (weights or path.suffix != ".safetensors"):
            (folder / path.name).write_bytes(path.read_bytes())
    if config:
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(raw | config))
    return str(folder)


def test_the_layout_of_older_hub_checkpoints_loads(pair, tmp_path):
    folder = copy_of(pair, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        if name.startswith("vision_tower.")
        else name: value
        for name, value in state.items()
    }
    old["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(old, tmp_path / "model.safetensors")
    loaded = models.load(folder, device="cpu").model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in pair.stock.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "idefics3"}, "model_type is 'idefics3'"),
        ({"text_config": {"model_type": "gemma"}}, "its language model is 'gemma'"),
        ({"vision_feature_select_strategy": "full"}, "CLS dropped"),
    ],
)
def test_other_architectures_are_refused(pair, tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        models.load(copy_of(pair, tmp_path, change), device="cpu")


def test_pickled_weights_are_refused_unread(pair, tmp_path):
    folder = copy_of(pair, tmp_path, weights=False)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointError, match="pickled weights only"):
        models.load(folder, device="cpu")


def test_a_missing_shard_is_named(pair, tmp_path):
    folder = copy_of(pair, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        models.load(folder, device="cpu")


def test_a_truncated_file_is_named(pair, tmp_path):
    folder = copy_of(pair, tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        models.load(folder, device="cpu")


def test_weights_of_another_size_are_named(pair, tmp_path):
    raw = json.loads((pair.folder / "config.json").read_text())["text_config"] | {"intermediate_size": 96}
    with pytest.raises(CheckpointError, match="do not belong together"):
        models.load(copy_of(pair, tmp_path, {"text_config": raw}), device="cpu")


def test_what_is_asked_wrongly_is_refused(pair):
    with pytest.raises(UnknownNameError, match="llava-next-7b"):
        models.load("lava-next-7b")
    with pytest.raises(ParameterError, match="no option"):
        models.load(str(pair.folder), max_tiles=3)
    with pytest.raises(ParameterError, match="dtype"):
        models.load(str(pair.folder), dtype="int8")
    with pytest.raises(ParameterError, match="clip_vision"):
        models.load(str(pair.folder), clip_vision="siglip")
    with pytest.raises(ParameterError, match="registered name"):
        models.load(f"{pair.folder}:random")


def test_the_revision_follows_the_weights_alone(pair, tmp_path):
    folder = copy_of(pair, tmp_path)
    twin = models.load(folder, device="cpu").info.revision
    (tmp_path / "clip").mkdir()
    for path in (pair.folder / "clip").iterdir():
        (tmp_path / "clip" / path.name).write_bytes(path.read_bytes())
    assert models.load(folder, device="cpu").info.revision == pair.ours.info.revision != twin
    state = load_file(tmp_path / "model.safetensors")
    state["lm_head.weight" if "lm_head.weight" in state else "language_model.lm_head.weight"][0, 0] += 1
    save_file(state, tmp_path / "model.safetensors")
    assert models.load(folder, device="cpu").info.revision != pair.ours.info.revision
