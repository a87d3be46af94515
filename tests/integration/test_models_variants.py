"""Folders that say the same in other ways, or other things than the released ones: as transformers takes them, or
refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaNextForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from hero_ray import models
from hero_ray.core.errors import CheckpointError
from hero_ray.models.checkpoints.reader import weight_files
from hero_ray.models.shapes import shape
from hero_ray.models.stock_check import against_stock, verdict
from tests import checkpoints
from tests.against_stock import aligned, check_against, picture
from tests.checkpoints import INTERNVL, TEMPLATES, Chosen

pytestmark = pytest.mark.slow

SIZES = [(56, 56), (100, 40), (300, 200), (31, 170)]


def edited(path, **changes):
    said = json.loads(path.read_text())
    for key, value in changes.items():
        room, _, name = key.rpartition("__")
        (said[room] if room else said)[name] = value
    path.write_text(json.dumps(said))


@pytest.fixture
def vicuna(tmp_path):
    torch.set_num_threads(1)
    checkpoints.llava_next(Chosen("llama", "vicuna", "<s>"), tmp_path)
    return tmp_path


LANGUAGE = {
    "dynamic": ("qwen2", {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}}),
    "llama3": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "rope_theta": 5e5,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "yarn": (
        "qwen3",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "rope_theta": 1e4,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "wide-heads": ("qwen2", {"head_dim": 32}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "large-vocabulary": ("llama", {"vocab_size": 400}),
    "windows-by-layer": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 24,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "half-turned": ("phi3", {"partial_rotary_factor": 0.5}),
}


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_language_model_of_another_make_answers_as_stock(tmp_path, name):
    torch.set_num_threads(1)
    kind, text = LANGUAGE[name]
    chosen = Chosen(kind, "vicuna", "<s>", text=text)
    checkpoints.llava_next(chosen, tmp_path)
    stock = aligned(LlavaNextForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32))
    check_against(stock, models.load(str(tmp_path), device="cpu"), chosen.end)


@pytest.mark.parametrize("layer", [3, [-2]], ids=str)
def test_features_of_another_block_are_stocks(vicuna, layer):
    edited(vicuna / "config.json", vision_feature_layer=layer)
    ours = models.load(str(vicuna), device="cpu")
    found = against_stock(ours, vicuna, 2)
    assert (found.is_equal, found.logits) == (True, 0.0), verdict(found)
    assert shape(str(vicuna)).vision == ours.info.vision


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vision_feature_layer": 0}, "from layer 0"),
        ({"vision_feature_layer": -7}, "from layer -7"),
        ({"vision_feature_layer": [-2, -5]}, r"from layer \[-2, -5\]"),
        ({"vision_feature_select_strategy": "full"}, "taken as 'full'"),
    ],
    ids=["embeddings", "before-them", "two", "full"],
)
def test_features_taken_otherwise_are_refused(vicuna, change, why):
    edited(vicuna / "config.json", **change)
    with pytest.raises(CheckpointError, match=why):
        models.load(str(vicuna), device="cpu")


@pytest.mark.parametrize("dtypes", ["bfloat16", "float16", "mixed"])
def test_weights_in_other_precisions_are_stocks(vicuna, dtypes):
    state = load_file(vicuna / "model.safetensors")
    half = torch.float16 if dtypes == "float16" else torch.bfloat16
    state = {k: v.to(half) if dtypes != "mixed" or "vision" in k else v for k, v in state.items()}
    save_file(state, vicuna / "model.safetensors", metadata={"format": "pt"})
    stock = LlavaNextForConditionalGeneration.from_pretrained(vicuna, dtype=torch.float32)
    ours = models.load(str(vicuna), device="cpu").model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in stock.state_dict().items())


def test_the_files_transformers_takes_are_ours(vicuna):
    """One file before an index, an index before what else lies there, all files where there is neither."""
    whole = vicuna / "model.safetensors"
    assert weight_files(vicuna) == [whole]
    state = load_file(whole)
    first, second = sorted(state)[:40], sorted(state)[40:]
    shards = {"model-1.safetensors": first, "model-2.safetensors": second}
    for name, keys in shards.items():
        save_file({key: state[key] for key in keys}, vicuna / name)
    index = {"weight_map": {key: name for name, keys in shards.items() for key in keys}}
    (vicuna / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_files(vicuna) == [whole]
    whole.unlink()
    save_file({"stray": torch.zeros(1)}, vicuna / "adapter.safetensors")
    assert [path.name for path in weight_files(vicuna)] == list(shards)
    models.load(str(vicuna), device="cpu")
    (vicuna / "adapter.safetensors").unlink()
    (vicuna / "model.safetensors.index.json").unlink()
    assert [path.name for path in weight_files(vicuna)] == list(shards)
    models.load(str(vicuna), device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"resample": 2},
        {"rescale_factor": 1 / 127.5},
        {"do_normalize": False},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
        {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}},
    ],
    ids=["bilinear", "rescaled", "plain", "half", "sizes"],
)
def test_pixels_follow_the_folders_settings(vicuna, change):
    edited(vicuna / "preprocessor_config.json", **change)
    ours = models.load(str(vicuna), device="cpu")
    sizes = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    settings = sizes | json.loads((vicuna / "preprocessor_config.json").read_text())
    processor = LlavaNextImageProcessorPil(image_grid_pinpoints=ours.model.config.image_grid_pinpoints, **settings)
    for size in SIZES:
        expected = processor(picture(*size), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(ours.prepare(picture(*size)).pixels, expected.float())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"size": {"shortest_edge": 64}}, r"views of 64 pixels \(size\); its vision tower sees 56"),
        ({"crop_size": {"height": 48, "width": 48}}, "views of 48 pixels"),
        ({"size": 64}, "views of 64 pixels"),
        ({"image_grid_pinpoints": [[56, 112], [112, 56]]}, r"image processor \(2\) are not those of its config.json"),
    ],
    ids=["size", "crop", "number", "pinpoints"],
)
def test_a_processor_that_is_another_models_is_refused(vicuna, change, why):
    edited(vicuna / "preprocessor_config.json", **change)
    with pytest.raises(CheckpointError, match=why):
        models.load(str(vicuna), device="cpu")


@pytest.mark.parametrize("change", [{"resample": 2}, {"image_mean": [0.4, 0.5, 0.6]}, {"image_mean": None}], ids=str)
def test_transformers_own_internvl_layout_decides_its_pixels(tmp_path, change):
    checkpoints.internvl_hf(INTERNVL["internvl3-8b"], tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text()) | change
    settings = {key: value for key, value in settings.items() if value is not None}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    ours = models.load(str(tmp_path), device="cpu")
    processor = GotOcr2ImageProcessorPil(**settings | {"size": {"height": 56, "width": 56}})
    for size in SIZES:
        pixels = ours.prepare(picture(*size)).pixels
        ordered = pixels if len(pixels) == 1 else torch.cat([pixels[1:], pixels[:1]])
        expected = processor(picture(*size), return_tensors="pt")["pixel_values"]
        assert ordered.shape == expected.shape
        assert (ordered - expected).abs().max() < 1e-5


@pytest.mark.parametrize("change", [{"do_normalize": False}, {"rescale_factor": 0.01}, {"min_patches": 2}], ids=str)
def test_settings_of_internvl_we_do_not_follow_are_refused(tmp_path, change):
    checkpoints.internvl_hf(INTERNVL["internvl3-8b"], tmp_path)
    edited(tmp_path / "preprocessor_config.json", **change)
    with pytest.raises(CheckpointError, match=next(iter(change))):
        models.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize("missing", ["generation_config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_what_a_folder_may_do_without(vicuna, missing):
    (vicuna / missing).unlink()
    assert models.load(str(vicuna), device="cpu").prompt("what?").num_text > 5


def test_chat_templates_without_a_default_are_refused(vicuna):
    (vicuna / "chat_template.json").unlink()
    edited(vicuna / "tokenizer_config.json", chat_template=[{"name": "rag", "template": TEMPLATES["mistral"]}])
    with pytest.raises(CheckpointError, match=r"by name \(rag\), no 'default'.*style=NAME"):
        models.load(str(vicuna), device="cpu")
    assert models.load(str(vicuna), device="cpu", style="mistral").style.name == "mistral"


@pytest.mark.parametrize("family", ["llava_next", "llava", "llava_onevision"])
@pytest.mark.parametrize("vision", [None, {}, {"num_hidden_layers": 3}], ids=["none", "empty", "some"])
def test_what_a_configuration_leaves_out_is_known_without_weights(vicuna, tmp_path, family, vision):
    raw = {"model_type": family, "text_config": {"model_type": "llama", "num_hidden_layers": 1, "vocab_size": 320}}
    raw |= {} if vision is None else {"vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    edited(tmp_path / "preprocessor_config.json", image_mean=[0.5] * 3)
    ours = models.load(str(tmp_path), device="meta")
    known = shape(str(tmp_path))
    assert (known.language, known.vision) == (ours.info.language, ours.info.vision)
    assert known.context == ours.info.context
