"""transformers configurations: from a folder's `config.json`, or from the known sizes of a named model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    MistralConfig,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen3VLConfig,
)

from hero_ray.core.errors import CheckpointError
from hero_ray.models import qwen_shapes
from hero_ray.models.base import LanguageShape, VisionShape
from hero_ray.models.checkpoints.internvl2 import native_config, read_native_config, reader
from hero_ray.models.checkpoints.internvl_text import kind_of
from hero_ray.models.checkpoints.llava import hub
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.checkpoints.reader import Translate
from hero_ray.models.shapes import ModelShape
from hero_ray.models.supported import ORIGINAL_LANGUAGE, family_of

LLAVA_NEXT_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
_CLIP_IMAGE = 336
# The original layout names its tower by hub id; all released ones are CLIP-ViT-L/14 at 336 px.
ORIGINAL_TOWER = VisionShape(24, 23, 1024, 4096, 16, 577, 14, ())


def hub_llava(folder: Path, family: str) -> Any:
    """Configuration of a llava-hf folder.

    Raises:
        CheckpointError: settings this adapter does not know.
    """
    config = _HUB_CLASSES[family].from_pretrained(folder)
    layer, depth = config.vision_feature_layer, config.vision_config.num_hidden_layers
    if isinstance(layer, list) and len(layer) == 1:
        config.vision_feature_layer = layer = layer[0]
    inside = isinstance(layer, int) and layer != 0 and -depth <= layer <= depth
    wanted, why = ("full", "there is no CLS") if family == "llava-onevision" else ("default", "CLS dropped")
    if config.vision_feature_select_strategy != wanted or not inside:
        raise CheckpointError(
            f"{folder}: features are taken as {config.vision_feature_select_strategy!r} from layer "
            f"{layer}; expected {wanted!r} ({why}) and one of the tower's blocks, 1 to {depth} or -1 to -{depth}"
        )
    if family == "llava-onevision" and not re.fullmatch(r"anyres_max_[1-9]\d*", str(config.vision_aspect_ratio)):
        raise CheckpointError(
            f"{folder}: vision_aspect_ratio is {config.vision_aspect_ratio!r}; expected 'anyres_max_' and a number"
        )
    return config


_HUB_CLASSES: dict[str, Any] = {
    "llava-next": LlavaNextConfig,
    "llava-1.5": LlavaConfig,
    "llava-onevision": LlavaOnevisionConfig,
}


_TEXT_CLASSES: dict[str, Any] = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
_TEXT_KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "max_position_embeddings", "rms_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id"),
    *("rope_theta", "rope_scaling", "rope_parameters", "use_sliding_window", "max_window_layers"),
    *("attention_bias", "hidden_act", "head_dim"),
)


def original_llava(folder: Path) -> Any:
    """Configuration of a folder in the original layout: LLaVA-1.5, LLaVA-NeXT or ShareGPT4V."""
    raw = read_config(folder)
    tower = CLIPVisionConfig.from_pretrained(raw["mm_vision_tower"]) if Path(raw["mm_vision_tower"]).is_dir() else None
    text = _TEXT_CLASSES[ORIGINAL_LANGUAGE[raw["model_type"]]](
        **{key: raw[key] for key in _TEXT_KEYS if raw.get(key) is not None},
        sliding_window=raw.get("sliding_window"),  # left out, it means none there and 4096 to Mistral's class
        tie_word_embeddings=bool(raw.get("tie_word_embeddings")),
    )
    common: dict[str, Any] = {
        "vision_config": tower or _clip_vision(ORIGINAL_TOWER),
        "text_config": text,
        # The picture has no id of its own there; one past the vocabulary can never come out of the tokenizer.
        "image_token_index": raw["vocab_size"],
        "vision_feature_layer": raw.get("mm_vision_select_layer", -2),
        "tie_word_embeddings": bool(raw.get("tie_word_embeddings")),
    }
    if family_of(raw, folder) == "llava-next":
        return LlavaNextConfig(**common, image_grid_pinpoints=_pinpoints(raw, folder))
    return LlavaConfig(**common)


def _pinpoints(raw: Mapping[str, Any], folder: Path) -> list[list[int]]:
    """The canvases as (height, width); the original code says (width, height), and its order decides ties."""
    found = raw.get("image_grid_pinpoints")
    if isinstance(found, str):
        try:
            found = json.loads(found.replace("(", "[").replace(")", "]"))
        except ValueError:
            found = None
    if not isinstance(found, list) or not found:
        raise CheckpointError(
            f"{folder}: image_grid_pinpoints is {raw.get('image_grid_pinpoints')!r}; expected a list of [width, height]"
        )
    return [[int(height), int(width)] for width, height in found]


def named_llava(shape: ModelShape) -> Any:
    """Configuration of a named LLaVA from its published sizes."""
    text = llama(shape.language, shape.context, theta=10000.0)
    common: dict[str, Any] = {
        "vision_config": _clip_vision(shape.vision),
        "text_config": text,
        "image_token_index": min(32000, shape.language.vocab - 1),
        "vision_feature_layer": -2,
        "tie_word_embeddings": False,
    }
    if shape.family == "llava-next":
        return LlavaNextConfig(**common, image_grid_pinpoints=LLAVA_NEXT_PINPOINTS)
    return LlavaConfig(**common)


def named_internvl2(shape: ModelShape) -> Any:
    """Configuration of a named InternVL2 from its published sizes."""
    language, vision = shape.language, shape.vision
    raw = {
        "llm_config": {
            "vocab_size": language.vocab,
            "hidden_size": language.hidden,
            "intermediate_size": language.intermediate,
            "num_hidden_layers": language.num_layers,
            "num_attention_heads": language.num_heads,
            "num_key_value_heads": language.num_kv_heads,
            "max_position_embeddings": shape.context,
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-5,
        },
        "vision_config": {
            "hidden_size": vision.hidden,
            "num_hidden_layers": vision.num_layers,
            "num_attention_heads": vision.num_heads,
            "intermediate_size": vision.intermediate,
            "image_size": round((vision.tokens - 1) ** 0.5) * vision.patch,
            "patch_size": vision.patch,
            "qkv_bias": True,
        },
    }
    return native_config(raw, shape.name)


def internvl(folder: Path, raw: Mapping[str, Any]) -> tuple[Any, Translate]:
    """(configuration, names of the weights) of an InternVL folder, in either of its two layouts.

    Raises:
        CheckpointError: settings this adapter does not know.
    """
    if raw["model_type"] == "internvl_chat":
        released = read_native_config(folder)
        return released, reader(released.text_config, kind_of(raw["llm_config"]) == "internlm2")
    config: Any = InternVLConfig.from_pretrained(folder)
    expected = {"vision_feature_select_strategy": "default", "vision_feature_layer": -1}
    for key, value in expected.items():
        if getattr(config, key) != value:
            raise CheckpointError(f"{folder}: {key} is {getattr(config, key)!r}; only {value!r} is supported")
    if not config.vision_config.use_mean_pooling:
        raise CheckpointError(
            f"{folder}: vision_config.use_mean_pooling is false; no released InternVL norms its features"
        )
    return config, hub


def qwen_vl(folder: Path | None, family: str, name: str) -> Any:
    """Configuration of a Qwen-VL folder, or of a published model by its name."""
    chosen = _QWEN_CLASSES[family]
    if folder is not None:
        return chosen.from_pretrained(folder)
    said = qwen_shapes.published(name)[0]
    return chosen(**{key: value for key, value in said.items() if key not in ("model_type", "dtype")})


_QWEN_CLASSES: dict[str, Any] = {"qwen2.5-vl": Qwen2_5_VLConfig, "qwen3-vl": Qwen3VLConfig}


def intern_vit_shape(config: Any) -> VisionShape:
    """Sizes of an InternVL2's vision tower and projector."""
    vision, layer = config.vision_config, config.vision_feature_layer
    depth, width = vision.num_hidden_layers, config.text_config.hidden_size
    size, patch = (
        value[0] if isinstance(value, list | tuple) else value for value in (vision.image_size, vision.patch_size)
    )
    return VisionShape(
        num_layers=depth,
        layers_run=layer if layer >= 0 else depth + 1 + layer,
        hidden=vision.hidden_size,
        intermediate=vision.intermediate_size,
        num_heads=vision.num_attention_heads,
        tokens=(size // patch) ** 2 + 1,
        patch=patch,
        projector=(vision.hidden_size * round(1 / config.downsample_ratio) ** 2, width, width),
    )


def llama(shape: LanguageShape, context: int, theta: float, bias: bool = False, eps: float = 1e-5) -> Any:
    """A Llama configuration of the given sizes."""
    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=context,
        rms_norm_eps=eps,
        attention_bias=bias,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )


def language_shape(config: Any) -> LanguageShape:
    """Sizes of the language model inside a configuration; the flag of the whole says whether its head is tied."""
    text = config.text_config
    heads = text.num_attention_heads
    return LanguageShape(
        num_layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        num_heads=heads,
        num_kv_heads=text.num_key_value_heads or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        vocab=text.vocab_size,
        tied=bool(config.tie_word_embeddings),
    )


def llava_vision_shape(config: Any) -> VisionShape:
    """Sizes of a LLaVA's vision tower and projector; SigLIP has no CLS."""
    has_cls = int(config.vision_config.model_type != "siglip_vision_model")
    vision, layer = config.vision_config, config.vision_feature_layer
    depth, width = vision.num_hidden_layers, config.text_config.hidden_size
    return VisionShape(
        num_layers=depth,
        layers_run=layer if layer >= 0 else depth + 1 + layer,
        hidden=vision.hidden_size,
        intermediate=vision.intermediate_size,
        num_heads=vision.num_attention_heads,
        tokens=(vision.image_size // vision.patch_size) ** 2 + has_cls,
        patch=vision.patch_size,
        projector=(vision.hidden_size, width, width),
        cls=has_cls,
    )


def _clip_vision(shape: VisionShape) -> Any:
    return CLIPVisionConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        image_size=_CLIP_IMAGE,
        patch_size=shape.patch,
        projection_dim=768,
    )
