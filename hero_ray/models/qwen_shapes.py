"""Sizes of Qwen-VL models: what a `config.json` says, and those of the published ones. No torch, no transformers.

Numbers are those of the published `config.json` and `preprocessor_config.json` files (Qwen/Qwen2.5-VL-*-Instruct,
Qwen/Qwen3-VL-*-Instruct).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hero_ray.core.errors import CheckpointError, ParameterError
from hero_ray.models.base import VisionShape

FOLD = 2
LEAST_PIXELS, MOST_PIXELS = 56 * 56, 28 * 28 * 1280
"""What the stock processor scales a picture up and down to where nothing is said."""

# What configurations leave out because it equals the default of their class in transformers.
TEXT_LEFT_OUT: dict[str, dict[str, Any]] = {
    "qwen2.5-vl": {
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
    },
    "qwen3-vl": {
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 128000,
    },
}
_VISION_LEFT_OUT: dict[str, dict[str, Any]] = {
    "qwen2.5-vl": {
        "depth": 32,
        "hidden_size": 3584,
        "intermediate_size": 3420,
        "num_heads": 16,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "window_size": 112,
        "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "qwen3-vl": {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "out_hidden_size": 3584,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}


# Width, MLP, blocks, heads, key-value heads, vocabulary, MLP of the tower, whether the head is tied.
_QWEN25 = {
    "qwen2.5-vl-3b": (2048, 11008, 36, 16, 2, 151936, 3420, True),
    "qwen2.5-vl-7b": (3584, 18944, 28, 28, 4, 152064, 3420, False),
    "qwen2.5-vl-32b": (5120, 27648, 64, 40, 8, 152064, 3456, False),
    "qwen2.5-vl-72b": (8192, 29568, 80, 64, 8, 152064, 3456, False),
}
# Width, MLP, blocks, heads, whether the tower is the small one, whether the head is tied.
_QWEN3 = {
    "qwen3-vl-2b": (2048, 6144, 28, 16, True, True),
    "qwen3-vl-4b": (2560, 9728, 36, 32, True, True),
    "qwen3-vl-8b": (4096, 12288, 36, 32, False, False),
    "qwen3-vl-32b": (5120, 25600, 64, 64, False, False),
}
PUBLISHED = (*_QWEN25, *_QWEN3)
"""Names whose sizes are known without a folder."""
SPECIAL_TOKENS = {"<|im_start|>": 151644, "<|im_end|>": 151645, "<|vision_start|>": 151652, "<|vision_end|>": 151653}
SPECIAL_TOKENS |= {"<|image_pad|>": 151655, "<|video_pad|>": 151656}
"""Where they stand in the released vocabularies; used only when there is no tokenizer to ask."""


def published(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`config.json`, `preprocessor_config.json`) of a published model, in what decides its sizes and numbers."""
    if name in _QWEN25:
        width, inner, blocks, heads, groups, vocab, tower, tied = _QWEN25[name]
        rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
        text = {"max_position_embeddings": 128000, "rms_norm_eps": 1e-6, "rope_parameters": rope}
        vision: dict[str, Any] = {"hidden_size": 1280, "intermediate_size": tower, "out_hidden_size": width}
        settings: dict[str, Any] = {"min_pixels": 3136, "max_pixels": 12845056}
        kind = "qwen2_5_vl"
    else:
        width, inner, blocks, heads, small, tied = _QWEN3[name]
        groups, vocab, kind = 8, 151936, "qwen3_vl"
        rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
        text = {"max_position_embeddings": 262144, "rms_norm_eps": 1e-6, "rope_parameters": rope, "head_dim": 128}
        text["eos_token_id"] = SPECIAL_TOKENS["<|im_end|>"]
        vision = {"out_hidden_size": width}
        if small:
            vision |= {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096}
            vision["deepstack_visual_indexes"] = [5, 11, 17]
        settings = {"size": {"shortest_edge": 65536, "longest_edge": 16777216}}
        settings |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    text |= {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": blocks}
    text |= {"num_attention_heads": heads, "num_key_value_heads": groups, "vocab_size": vocab}
    parts = {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied, "dtype": "bfloat16"}
    return {"model_type": kind, **parts}, settings


def text_of(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The language model's part of a `config.json`; published Qwen2.5-VL ones say it at the top."""
    return TEXT_LEFT_OUT[family] | dict(config.get("text_config") or config)


def vision_shape(said: Mapping[str, Any], family: str, most_pixels: int) -> VisionShape:
    """Sizes of the tower and its merger out of a `vision_config`, for the largest square picture of so many pixels."""
    vision = _VISION_LEFT_OUT[family] | dict(said)
    width, patch, depth = vision["hidden_size"], _edge(vision["patch_size"]), vision["depth"]
    edge = max(1, math.isqrt(most_pixels) // (patch * FOLD))
    common: dict[str, Any] = {
        "num_layers": depth,
        "layers_run": depth,
        "hidden": width,
        "intermediate": vision["intermediate_size"],
        "num_heads": vision["num_heads"],
        "tokens": edge * edge * FOLD**2,
        "patch": patch,
        "projector": (width * FOLD**2, width * FOLD**2, vision["out_hidden_size"]),
        "cls": 0,
        "side": (edge, edge),
        "frames": _edge(vision["temporal_patch_size"]),
    }
    if family == "qwen3-vl":
        return VisionShape(**common, projectors=1 + len(vision["deepstack_visual_indexes"]))
    whole = tuple(sorted(index + 1 for index in vision["fullatt_block_indexes"]))
    return VisionShape(**common, whole=whole, window=vision["window_size"] // FOLD // patch, mlp=3)


def most_tokens(vision: VisionShape, most_pixels: int) -> int:
    """Visual tokens of the largest picture."""
    return most_pixels // (vision.patch * FOLD) ** 2


def pixel_limits(
    settings: Mapping[str, Any], options: Mapping[str, Any] | None = None, where: object = ""
) -> tuple[int, int]:
    """(fewest, most) pixels of a picture: as asked for, else as a checkpoint's image processor says.

    Raises:
        ParameterError: asked for what is no number of pixels, or for more at least than at most.
        CheckpointError: settings of that kind.
    """
    asked, size = options or {}, settings.get("size") or {}
    limits = []
    for name, newer, unsaid in (
        ("min_pixels", "shortest_edge", LEAST_PIXELS),
        ("max_pixels", "longest_edge", MOST_PIXELS),
    ):
        known = size.get(newer, unsaid) if settings.get(name) is None else settings[name]
        wanted = asked.get(name, known)
        limits.append(int(wanted) if isinstance(wanted, str) and wanted.isdecimal() else wanted)  # as typed in a shell
    least, most = limits
    sound = all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in (least, most))
    if sound and least <= most:
        return least, most
    text = f"min_pixels {least} and max_pixels {most}; expected whole numbers, 0 < min_pixels <= max_pixels"
    if {"min_pixels", "max_pixels"} & set(asked):
        raise ParameterError(text)
    raise CheckpointError(f"{where}: its image processor says {text}")


def _edge(size: Any) -> int:
    return int(size[0] if isinstance(size, list | tuple) else size)
