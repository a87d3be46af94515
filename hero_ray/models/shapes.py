"""Sizes of every named model, known without its weights: what FLOP and cache formulas need.

Numbers are those of the published `config.json` files (llava-hf/llava-v1.6-vicuna-*, llava-hf/llava-1.5-*,
Lin-Chen/ShareGPT4V-7B, OpenGVLab/InternVL2-*). Embedded models and local folders are read from their own
`config.json`; no tensor is loaded and nothing is imported beyond the standard library and the records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hero_ray.core.errors import CheckpointError, UnknownNameError
from hero_ray.models.base import LanguageShape, VisionShape
from hero_ray.models.checkpoints.plausible import check_sizes, read_object
from hero_ray.models.registry import EMBEDDED_WEIGHTS

EMBEDDED = ("hero-tiny", "hero-tiny-internvl")


@dataclass(frozen=True)
class ModelShape:
    """One architecture: family, sizes, context length and the dtype its weights are published in."""

    name: str
    family: str
    language: LanguageShape
    vision: VisionShape
    context: int
    dtype: str


def _clip_large(width: int) -> VisionShape:
    """CLIP ViT-L/14 at 336 px with LLaVA's two-layer projector; features leave block 23."""
    return VisionShape(24, 23, 1024, 4096, 16, 577, 14, (1024, width, width))


def _intern_vit(width: int) -> VisionShape:
    """InternViT-300M at 448 px; four patches become one token before the projector."""
    return VisionShape(24, 24, 1024, 4096, 16, 1025, 14, (4096, width, width))


def _vicuna(size: str, vocab: int = 32064) -> LanguageShape:
    if size == "7b":
        return LanguageShape(32, 4096, 11008, 32, 32, 128, vocab)
    return LanguageShape(40, 5120, 13824, 40, 40, 128, vocab)


_NAMED = {
    shape.name: shape
    for shape in (
        ModelShape("llava-next-7b", "llava-next", _vicuna("7b"), _clip_large(4096), 4096, "float16"),
        ModelShape("llava-next-13b", "llava-next", _vicuna("13b"), _clip_large(5120), 4096, "float16"),
        ModelShape("llava-1.5-7b", "llava-1.5", _vicuna("7b"), _clip_large(4096), 4096, "float16"),
        ModelShape("llava-1.5-13b", "llava-1.5", _vicuna("13b"), _clip_large(5120), 4096, "float16"),
        ModelShape("sharegpt4v-7b", "llava-1.5", _vicuna("7b", 32000), _clip_large(4096), 4096, "bfloat16"),
        ModelShape(
            "internvl2-2b",
            "internvl2",
            LanguageShape(24, 2048, 8192, 16, 8, 128, 92553),
            _intern_vit(2048),
            32768,
            "bfloat16",
        ),
        ModelShape(
            "internvl2-8b",
            "internvl2",
            LanguageShape(32, 4096, 14336, 32, 8, 128, 92553),
            _intern_vit(4096),
            32768,
            "bfloat16",
        ),
    )
}


def shape(name: str) -> ModelShape:
    """Sizes of a named model (`:random` allowed), an embedded model or a local folder.

    Raises:
        UnknownNameError: neither a known name nor a folder with a `config.json`.
        CheckpointError: a folder whose configuration belongs to no supported family.
    """
    plain = name.removesuffix(":random")
    if plain in _NAMED:
        return _NAMED[plain]
    folder = EMBEDDED_WEIGHTS / plain if plain in EMBEDDED else Path(plain)
    path = folder / "config.json"
    if not path.is_file():
        if plain and folder.is_dir():
            raise CheckpointError(f"{name!r} is a folder without a config.json; expected a checkpoint's folder")
        raise UnknownNameError("model", name, (*_NAMED, *EMBEDDED))
    config = read_object(path)
    check_sizes(config, path)
    return from_config(config, plain)


def from_config(config: Mapping[str, Any], name: str) -> ModelShape:
    """Sizes from a parsed `config.json` (the hub's LLaVA layouts and OpenGVLab's InternVL2 layout).

    Raises:
        CheckpointError: another model type, or a missing entry.
    """
    readers = {"llava_next": _llava, "llava": _llava, "internvl_chat": _internvl}
    kind = config.get("model_type", "missing")
    if kind not in readers:
        raise CheckpointError(f"{name}: model_type is {kind!r}; expected one of {', '.join(sorted(readers))}")
    try:
        return readers[kind](config, name)
    except KeyError as missing:
        raise CheckpointError(f"{name}: its config.json ({kind}) lacks the entry {missing}") from missing
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{name}: its config.json ({kind}) gives no model: {error}") from error


def _llava(config: Mapping[str, Any], name: str) -> ModelShape:
    # The hub's 7B configurations leave out what equals transformers' Llama defaults.
    text = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    text |= config["text_config"]
    vision = config["vision_config"]
    layers = vision["num_hidden_layers"]
    feature = config.get("vision_feature_layer", -2)
    side = vision["image_size"] // vision["patch_size"]
    width = text["hidden_size"]
    return ModelShape(
        name,
        {"llava_next": "llava-next", "llava": "llava-1.5"}[config["model_type"]],
        _language(text, config.get("vocab_size", 32064)),
        VisionShape(
            num_layers=layers,
            layers_run=feature if feature >= 0 else layers + 1 + feature,
            hidden=vision["hidden_size"],
            intermediate=vision["intermediate_size"],
            num_heads=vision["num_attention_heads"],
            tokens=side * side + 1,
            patch=vision["patch_size"],
            projector=(vision["hidden_size"], width, width),
        ),
        text.get("max_position_embeddings", 4096),
        _dtype(config, text),
    )


def _internvl(config: Mapping[str, Any], name: str) -> ModelShape:
    text, vision = config["llm_config"], config["vision_config"]
    layers, select = vision["num_hidden_layers"], config.get("select_layer", -1)
    side = config.get("force_image_size", vision["image_size"]) // vision["patch_size"]
    fold = round(1 / config.get("downsample_ratio", 0.5)) ** 2
    width = text["hidden_size"]
    return ModelShape(
        name,
        "internvl2",
        _language(text, text["vocab_size"]),
        VisionShape(
            num_layers=layers,
            layers_run=select if select >= 0 else layers + 1 + select,
            hidden=vision["hidden_size"],
            intermediate=vision["intermediate_size"],
            num_heads=vision["num_attention_heads"],
            tokens=side * side + 1,
            patch=vision["patch_size"],
            projector=(vision["hidden_size"] * fold, width, width),
        ),
        text["max_position_embeddings"],
        _dtype(config, text),
    )


def _language(text: Mapping[str, Any], vocab: int) -> LanguageShape:
    heads = text["num_attention_heads"]
    return LanguageShape(
        num_layers=text["num_hidden_layers"],
        hidden=text["hidden_size"],
        intermediate=text["intermediate_size"],
        num_heads=heads,
        num_kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or text["hidden_size"] // heads,
        vocab=text.get("vocab_size", vocab),
    )


def _dtype(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    for source in (config, text):
        for key in ("dtype", "torch_dtype"):
            if source.get(key):
                return str(source[key]).removeprefix("torch.")
    return "float32"
