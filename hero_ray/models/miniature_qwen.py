"""Miniatures of the Qwen-VL families: the true architecture and file layout at a toy size, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from hero_ray.models.miniature import IMAGE_ID, TEXT_SIZES, text_config, tokenizer, widened


def qwen_vl(seed: int = 0, image_id: int = IMAGE_ID, **text: Any) -> Any:
    """A stock Qwen2.5-VL: a tower of five blocks, two of them without windows, windows of 2 x 2 tokens of 16 pixels."""
    vision = {
        "depth": 5,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": 8,
        "window_size": 32,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1, 4],
    }
    sizes = text_config(kv_heads=2).to_dict()
    kept = {key: sizes[key] for key in TEXT_SIZES} | {"rms_norm_eps": 1e-6, **text}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=kept | {"rope_parameters": rope},
        image_token_id=image_id,
        video_token_id=image_id + 1,
        tie_word_embeddings=bool(text.get("tie_word_embeddings")),
    )
    return widened(Qwen2_5_VLForConditionalGeneration(config), seed)


def qwen3_vl(seed: int = 0, image_id: int = IMAGE_ID, **text: Any) -> Any:
    """A stock Qwen3-VL: a tower of five blocks, two of which are added behind the language model's first two."""
    vision = {
        "depth": 5,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": 8,
        "out_hidden_size": 64,
        "num_position_embeddings": 25,
        "deepstack_visual_indexes": [1, 3],
    }
    sizes = text_config(kv_heads=2).to_dict()
    kept = {key: sizes[key] for key in TEXT_SIZES if key not in ("bos_token_id", "eos_token_id")}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        vision_config=vision,
        text_config=kept | {"head_dim": 16, "rope_parameters": rope, "eos_token_id": sizes["eos_token_id"], **text},
        image_token_id=image_id,
        video_token_id=image_id + 1,
        tie_word_embeddings=bool(text.get("tie_word_embeddings")),
    )
    return widened(Qwen3VLForConditionalGeneration(config), seed)


def write_qwen_vl(model: Any, folder: Path) -> Path:
    """Save as a Qwen-VL folder of the hub, with tokenizer and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer(end=None, picture="<|image_pad|>").save(str(folder / "tokenizer.json"))
    unit = 2 * model.config.vision_config.patch_size
    settings = {"patch_size": unit // 2, "min_pixels": 4 * unit**2, "max_pixels": 40 * unit**2, "merge_size": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"temporal_patch_size": 2}))
    return folder
