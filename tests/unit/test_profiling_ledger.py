"""The ledger against the papers' printed efficiency tables and against hand-made small cases."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest

from hero_ray.core.encoded import Needs
from hero_ray.core.errors import CheckpointError, InputError, UnknownNameError
from hero_ray.costs.costs import (
    TextTowerShape,
    decode_flops,
    encoder_flops,
    prefill_flops,
    text_tower_flops,
)
from hero_ray.models.base import LanguageShape, ModelInfo, VisionShape
from hero_ray.models.shapes import from_config, shape
from hero_ray.profiling import answer_cost, ledger, scoring_flops

MIB = 2**20
SMALL = LanguageShape(num_layers=3, hidden=8, intermediate=16, num_heads=4, num_kv_heads=2, head_dim=2, vocab=10)


def half_up(value: float) -> str:
    """One decimal as the papers round it: 134.25 is printed 134.3."""
    return str(Decimal(str(value)).quantize(Decimal("0.1"), ROUND_HALF_UP))


def info(name: str) -> ModelInfo:
    known = shape(name)
    return ModelInfo(
        name, known.family, "-", True, known.language, known.vision, known.dtype, "cpu", "sdpa", known.context
    )


@pytest.mark.parametrize(
    ("visual", "total", "tflops", "kv_mib"),
    [
        (2612, 2673, "38.4", 1336.5),
        (522, 583, "7.7", 291.5),
        (261, 322, "4.2", 161.0),
    ],
)
def test_hero_table_viii(visual: int, total: int, tflops: str, kv_mib: float) -> None:
    (row,) = ledger("llava-next-7b", tokens=[visual], text_tokens=61)
    assert row["tokens"] + row["text_tokens"] == total
    assert f"{row['tflops_paper']:.1f}" == tflops
    assert row["kv_bytes"] / MIB == kv_mib == row["kv_bytes_paper"] / MIB


def test_hero_table_viii_forty_percent_row_left_the_text_out() -> None:
    with_text, without_text = ledger("llava-next-7b", [1044], 61)[0], ledger("llava-next-7b", [1044])[0]
    assert with_text["kv_bytes"] / MIB == 552.5
    assert f"{with_text['tflops_paper']:.2f}" == "14.95"
    assert f"{without_text['tflops_paper']:.1f}" == "14.1"


@pytest.mark.parametrize(
    ("tokens", "tflops", "kv_printed"),
    [
        (1792, "6.40", "336.0"),
        (896, "3.04", "168.0"),
        (716, "2.41", "134.3"),
        (537, "1.79", "100.7"),
        (358, "1.18", "67.1"),
        (179, "0.58", "33.6"),
    ],
)
def test_ptp_table_v(tokens: int, tflops: str, kv_printed: str) -> None:
    (row,) = ledger("internvl2-2b", tokens=[tokens])
    assert f"{row['tflops_paper']:.2f}" == tflops
    assert half_up(row["kv_bytes_paper"] / MIB) == kv_printed
    assert row["kv_bytes"] * 2 == row["kv_bytes_paper"]  # 8 key-value heads, 16 query heads


@pytest.mark.parametrize(
    ("model", "tokens", "dense", "causal"),
    [("llava-next-7b", 2673, 38.3670, 36.49), ("internvl2-2b", 1792, 6.0434, 5.73)],
)
def test_grouped_queries_and_causal_attention(model: str, tokens: int, dense: float, causal: float) -> None:
    language = shape(model).language
    per_layer = [tokens] * language.num_layers
    assert prefill_flops(language, per_layer, causal=False) / 1e12 == pytest.approx(dense, abs=5e-5)
    assert ledger(model, [tokens])[0]["tflops_model"] == pytest.approx(causal, abs=6e-3)


def test_ragged_blocks_sum_block_by_block() -> None:
    (even,) = ledger("internvl2-2b", [[100] * 24])
    (ragged,) = ledger("internvl2-2b", [[100] * 12 + [0] * 12])
    assert even == ledger("internvl2-2b", [100])[0]
    assert ragged["kv_bytes"] * 2 == even["kv_bytes"]
    assert ragged["equivalent_tokens"] == 50
    assert ragged["tflops_paper"] * 2 == pytest.approx(even["tflops_paper"])


def test_small_model_by_hand() -> None:
    # per block and token: q, o 8*8*2*2 = 256; k, v 8*4*2*2 = 128; mlp 3*2*8*16 = 768; pairs of n=3: 6 causal, 9 dense
    block = 3 * (256 + 128 + 768)
    assert prefill_flops(SMALL, [3, 3, 3], head=False) == 3 * (block + 4 * 8 * 6)
    assert prefill_flops(SMALL, [3, 3, 3], causal=False) == 3 * (block + 4 * 8 * 9) + 2 * 8 * 10


def test_decode_steps_equal_the_difference_of_two_prefills() -> None:
    grown = prefill_flops(SMALL, [5 + 4] * 3, head=False) - prefill_flops(SMALL, [5] * 3, head=False)
    assert decode_flops(SMALL, [5] * 3, new_tokens=5) == grown + 4 * 2 * 8 * 10
    assert decode_flops(SMALL, [5] * 3, new_tokens=1) == 0


def test_encoder_matches_the_measured_towers() -> None:
    clip, intern = shape("llava-next-7b").vision, shape("internvl2-2b").vision
    assert encoder_flops(clip, 5, layers=24) / 1e12 == pytest.approx(1.9096 + 0.1208, abs=1e-3)
    assert encoder_flops(intern, 7) / 1e12 == pytest.approx(5.0652 + 0.0451, abs=1e-3)
    assert encoder_flops(clip, 5) < encoder_flops(clip, 5, layers=24)


def test_scoring_counts_what_a_method_adds() -> None:
    model = info("internvl2-2b")
    assert scoring_flops(model, Needs(), views=7) == 0
    rows = scoring_flops(model, Needs(cls_attention=frozenset({1, 2})), views=7)
    assert rows == 2 * 7 * 2 * 1024 * 1025
    second_block = scoring_flops(model, Needs(llm_attention=frozenset({2})), views=7, prompt_tokens=1882)
    assert second_block / 1e12 == pytest.approx(0.259, abs=1e-3)
    assert text_tower_flops(TextTowerShape()) / 1e12 == pytest.approx(0.0133, abs=1e-4)
    with_clip = scoring_flops(info("llava-next-7b"), Needs(clip_score=True), views=5)
    clip = shape("llava-next-7b").vision
    # Of the last block only the CLS row is read: keys and values of all tokens, about a sixth of the block.
    last_block = 5 * (4 * 577 * 1024**2 + 4 * 1024**2 + 4 * 577 * 1024 + 4 * 1024 * 4096)
    assert 0.1 < last_block / (encoder_flops(clip, 5, 24) - encoder_flops(clip, 5, 23)) < 0.2
    assert with_clip > text_tower_flops(TextTowerShape()) + last_block
    deep = scoring_flops(info("llava-next-7b"), Needs(cls_attention=frozenset({24})), views=5)
    assert deep == last_block + 2 * 5 * 1024 * 577


def test_answer_cost_is_the_sum_of_its_parts() -> None:
    model = info("llava-next-7b")
    cost = answer_cost(model, [522] * 32, text_tokens=61, new_tokens=16, views=5, scoring=1e9)
    assert cost.total_flops == cost.encoder + 1e9 + cost.prefill + cost.decode
    assert cost.kv_bytes / MIB == 291.5
    assert cost.paper / 1e12 == pytest.approx(7.73, abs=0.005)
    assert cost.decode / 1e12 == pytest.approx(0.2, abs=0.03)


def test_model_may_be_a_name_a_record_or_a_loaded_model() -> None:
    class Loaded:
        info = info("internvl2-2b")

    name = ledger("internvl2-2b", [179])
    assert ledger(Loaded.info, [179]) == ledger(Loaded(), [179]) == ledger(shape("internvl2-2b"), [179]) == name
    assert ledger("internvl2-2b:random", [179]) == name


def test_dtype_sets_the_cache_and_views_the_encoder() -> None:
    half, single = ledger("llava-1.5-7b", [576])[0], ledger("llava-1.5-7b", [576], dtype="float32", views=1)[0]
    assert single["kv_bytes"] == 2 * half["kv_bytes"]
    assert half["tflops_encoder"] is None
    assert single["tflops_encoder"] == pytest.approx(0.39, abs=0.01)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"tokens": [[1, 2]]}, "has 32"),
        ({"tokens": [-1]}, "negative"),
        ({"tokens": [1], "text_tokens": -1}, "text_tokens is -1"),
        ({"tokens": [1], "dtype": "int4"}, "int4"),
    ],
)
def test_bad_entries_are_refused(call: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ledger("llava-next-7b", **call)


def test_unknown_model_names_a_near_one() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'llava-next-7b'"):
        ledger("lava-next-7b", [1])


def test_shapes_are_read_from_hub_layouts() -> None:
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 336,
    }
    llava = {
        "model_type": "llava_next",
        "text_config": {"vocab_size": 32064, "max_position_embeddings": 4096, "torch_dtype": "float16"},
        "vision_config": vision,
    }
    named, read = shape("llava-next-7b"), from_config(llava, "llava-next-7b")
    assert read == named
    text = {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "vocab_size": 92553,
        "max_position_embeddings": 32768,
    }
    internvl = {
        "model_type": "internvl_chat",
        "ps_version": "v2",
        "llm_config": text,
        "vision_config": {**vision, "image_size": 448},
        "torch_dtype": "bfloat16",
    }
    assert from_config(internvl, "internvl2-2b") == shape("internvl2-2b")
    with pytest.raises(CheckpointError, match="qwen2_vl"):
        from_config({"model_type": "qwen2_vl"}, "x")
    with pytest.raises(CheckpointError, match="text_config"):
        from_config({"model_type": "llava", "vision_config": {}}, "x")
    # Nothing said of the tower is the family's own to transformers; an empty entry is its class's.
    assert from_config({"model_type": "llava", "text_config": {}}, "x").vision == shape("llava-1.5-7b").vision
    assert from_config({"model_type": "llava", "text_config": {}, "vision_config": {}}, "x").vision.hidden == 768


def test_small_vision_shape_counts_pixel_shuffle() -> None:
    tower = VisionShape(
        num_layers=1, layers_run=1, hidden=4, intermediate=8, num_heads=2, tokens=17, patch=2, projector=(16, 6, 6)
    )
    block = 8 * 17 * 16 + 4 * 17 * 17 * 4 + 4 * 17 * 4 * 8
    assert encoder_flops(tower, 2) == 2 * (block + 2 * 16 * 12 * 4 + 4 * 2 * (16 * 6 + 6 * 6))
