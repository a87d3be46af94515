"""A head that is the embeddings' own matrix is one matrix: in sizes, weights in memory, and for every family's rule."""

import itertools

import pytest
from transformers import (
    InternVLConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)

from hero_ray import models
from hero_ray.costs.memory import model_weights
from hero_ray.models import miniature_qwen
from hero_ray.models.shapes import from_config, shape

TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 512, "model_type": "qwen2"}
CLASSES = {
    "llava": LlavaConfig,
    "llava_next": LlavaNextConfig,
    "llava_onevision": LlavaOnevisionConfig,
    "internvl": InternVLConfig,
    "qwen2_5_vl": Qwen2_5_VLConfig,
    "qwen3_vl": Qwen3VLConfig,
}
MADE = {"qwen2.5-vl": miniature_qwen.qwen_vl, "qwen3-vl": miniature_qwen.qwen3_vl}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_head_is_tied_where_transformers_ties_it(kind) -> None:
    """Every family has a rule of its own for a flag said of the whole, of the language model, of both or of neither."""
    text = TEXT if not kind.startswith("qwen") else {k: v for k, v in TEXT.items() if k != "model_type"}
    for whole, inner in itertools.product((None, False, True), repeat=2):
        said = {"tie_word_embeddings": whole} if whole is not None else {}
        words = text | ({"tie_word_embeddings": inner} if inner is not None else {})
        raw = {"model_type": kind, "text_config": words, **said}
        expected = CLASSES[kind](text_config=dict(words), **said).tie_word_embeddings
        assert from_config(raw, "x").language.tied is bool(expected), (whole, inner)


def test_in_the_released_internvl_layout_the_language_model_speaks_for_itself() -> None:
    raw = {"model_type": "internvl_chat", "ps_version": "v2", "tie_word_embeddings": False, "llm_config": TEXT}
    raw["vision_config"] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "patch_size": 14}
    raw["vision_config"] |= {"num_attention_heads": 4, "image_size": 56}
    assert not from_config(raw, "x").language.tied
    raw["llm_config"] = TEXT | {"tie_word_embeddings": True}
    assert from_config(raw, "x").language.tied


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", MADE)
def test_weights_in_memory_are_those_of_the_model(family, tied, tmp_path) -> None:
    folder = miniature_qwen.write_qwen_vl(MADE[family](tie_word_embeddings=tied), tmp_path)
    ours, known = models.load(str(folder), device="meta"), shape(str(folder))
    assert (known.language, known.language.tied) == (ours.info.language, tied)
    held = sum(weight.numel() for weight in ours.model.parameters())  # one matrix counts once
    matrix = known.language.hidden * known.language.vocab
    assert abs(model_weights(known.language, known.vision, 1) - held) < 0.2 * matrix


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"])
def test_weights_of_published_models_are_forecast_within_a_thousandth(name) -> None:
    ours, known = models.load(name, device="meta"), shape(name)
    held = sum(weight.numel() for weight in ours.model.parameters())
    assert known.language.tied == (name in ("qwen2.5-vl-3b", "qwen3-vl-2b", "qwen3-vl-4b"))
    assert model_weights(known.language, known.vision, 1) == pytest.approx(held, rel=2e-3)
