"""Sizes of every named model, known without its weights: what FLOP and cache formulas need.

Numbers are those of the published `config.json` files (llava-hf/llava-v1.6-vicuna-*, llava-hf/llava-1.5-*,
Lin-Chen/ShareGPT4V-7B, OpenGVLab/InternVL2-*). Embedded models and local folders are read from their own
`config.json`; no tensor is loaded and nothing is imported beyond the standard library and the records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hero_ray.core.errors import CheckpointError, UnknownNameError
from hero_ray.models import left_out, qwen_shapes
from hero_ray.models.base import LanguageShape, VisionShape
from hero_ray.models.checkpoints.plausible import check_sizes, read_object
from hero_ray.models.registry import EMBEDDED_WEIGHTS, NATIVE
from hero_ray.models.settings import read_settings
from hero_ray.models.supported import family_of, is_original_llava

EMBEDDED = ("hero-tiny", "hero-tiny-internvl", "hero-tiny-qwen")


@dataclass(frozen=True)
class ModelShape:
    """One architecture: family, sizes, context length and the dtype its weights are published in.

    Attributes:
        views: of a LLaVA-NeXT's largest picture, thumbnail included.
        most: views whose tokens a LLaVA-OneVision's mosaic is brought down to; 0 where it is not. Of families that look
            at a picture in its own resolution, the tokens of their largest one.
    """

    name: str
    family: str
    language: LanguageShape
    vision: VisionShape
    context: int
    dtype: str
    views: int = 5
    most: int = 0

    @property
    def largest(self) -> int:
        """Patch tokens of the largest unpruned picture, as families look by default."""
        patches = self.vision.patches
        if self.family == "internvl2":
            return 7 * patches // 4
        if self.family == "llava-1.5":
            return patches
        if self.family in NATIVE:
            return self.most
        tiles = (self.views - 1) * patches
        # Up to 1.21 times as many as `most` views have stay as they are.
        return patches + (min(tiles, int(1.21 * self.most * patches)) if self.most else tiles)


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
    if plain in qwen_shapes.PUBLISHED:
        config, settings = qwen_shapes.published(plain)
        return from_config(config, plain, settings)
    folder = EMBEDDED_WEIGHTS / plain if plain in EMBEDDED else Path(plain)
    path = folder / "config.json"
    if not path.is_file():
        if plain and folder.is_dir():
            raise CheckpointError(f"{name!r} is a folder without a config.json; expected a checkpoint's folder")
        raise UnknownNameError("model", name, (*_NAMED, *qwen_shapes.PUBLISHED, *EMBEDDED))
    config = read_object(path)
    check_sizes(config, path)
    return from_config(config, plain, read_settings(folder))


def from_config(config: Mapping[str, Any], name: str, settings: Mapping[str, Any] | None = None) -> ModelShape:
    """Sizes from a parsed `config.json` of any layout that can be loaded.

    Args:
        settings: of its image processor, where they decide how many tokens a picture has.

    Raises:
        CheckpointError: another model type, or a missing entry.
    """
    family = family_of(config, name)
    kind = config.get("model_type", "missing")
    try:
        if is_original_llava(config):
            return _original(config, name, family)
        if family in NATIVE:
            return _native(config, name, family, qwen_shapes.pixel_limits(settings or {}, where=name)[1])
        return (
            _llava(config, name, family) if "text_config" in config and kind != "internvl" else _internvl(config, name)
        )
    except KeyError as missing:
        raise CheckpointError(f"{name}: its config.json ({kind}) lacks the entry {missing}") from missing
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{name}: its config.json ({kind}) gives no model: {error}") from error


def _native(config: Mapping[str, Any], name: str, family: str, most_pixels: int) -> ModelShape:
    text = qwen_shapes.text_of(config, family)
    vision = qwen_shapes.vision_shape(config.get("vision_config") or {}, family, most_pixels)
    tokens, context = qwen_shapes.most_tokens(vision, most_pixels), text["max_position_embeddings"]
    language = _language(text, _tied(config, text, listens=family == "qwen2.5-vl"))
    return ModelShape(name, family, language, vision, context, _dtype(config, text), views=1, most=tokens)


def limited(known: ModelShape, options: Mapping[str, Any]) -> ModelShape:
    """The sizes of a model that is loaded with these options; of Qwen-VL, `max_pixels` says how many tokens there are.

    Raises:
        ParameterError: no number of pixels.
    """
    if known.family not in NATIVE or "max_pixels" not in options:
        return known
    most_pixels = qwen_shapes.pixel_limits({"min_pixels": 1}, options)[1]
    edge = max(1, math.isqrt(most_pixels) // (known.vision.patch * qwen_shapes.FOLD))
    vision = replace(known.vision, tokens=edge * edge * qwen_shapes.FOLD**2, side=(edge, edge))
    return replace(known, vision=vision, most=qwen_shapes.most_tokens(vision, most_pixels))


def _llava(config: Mapping[str, Any], name: str, family: str) -> ModelShape:
    one_vision = family == "llava-onevision"
    kind = config["text_config"].get("model_type", "qwen2" if one_vision else "llama")
    text = left_out.TEXT[kind] | dict(config["text_config"])
    vision = _llava_tower(config.get("vision_config"), one_vision)
    layer = config.get("vision_feature_layer", -1 if one_vision else -2)
    layer = layer[0] if isinstance(layer, list) and len(layer) == 1 else layer
    found = _of_tower(name, family, config, text, vision, layer)
    if not one_vision:
        return replace(found, views=_views(config, vision["image_size"]))
    most = int(str(config.get("vision_aspect_ratio", "anyres_max_9")).removeprefix("anyres_max_"))
    return replace(found, views=_views(config, vision["image_size"], 37), most=most)


def _llava_tower(said: Mapping[str, Any] | None, one_vision: bool) -> dict[str, Any]:
    """A LLaVA's vision tower: its family's where nothing is said, else what its class adds to what is."""
    if said is None:
        return left_out.SIGLIP if one_vision else left_out.CLIP
    return left_out.CLIP_CLASS | ({"patch_size": 16} if one_vision else {}) | dict(said)


def _original(config: Mapping[str, Any], name: str, family: str) -> ModelShape:
    folder = Path(config["mm_vision_tower"])
    found = read_object(folder / "config.json") if folder.is_dir() else {}
    vision = left_out.CLIP | dict(found.get("vision_config") or {})
    layer = config.get("mm_vision_select_layer", -2)
    sizes = _of_tower(name, family, config, config, vision, layer)
    return replace(sizes, views=_views(config, vision["image_size"]))


def _views(config: Mapping[str, Any], size: int, unsaid: int = 5) -> int:
    """The most views that a LLaVA-NeXT's canvases cut a picture into, its thumbnail included."""
    canvases = config.get("image_grid_pinpoints")
    if not isinstance(canvases, list) or not canvases:
        return unsaid
    return 1 + max((height // size) * (width // size) for height, width in canvases)


def _of_tower(
    name: str, family: str, config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any], layer: int
) -> ModelShape:
    width = text["hidden_size"]
    cls = int(family != "llava-onevision")
    tower = _tower(vision, vision["image_size"], layer, (vision["hidden_size"], width, width), cls)
    language = _language(text, _tied(config, text, listens=family != "llava-next"))
    context = text.get("max_position_embeddings", 4096)
    return ModelShape(name, family, language, tower, context, _dtype(config, text))


def _internvl(config: Mapping[str, Any], name: str) -> ModelShape:
    """OpenGVLab's layout and transformers' own, which says the same in other words."""
    native = "llm_config" not in config
    text = dict(config["text_config" if native else "llm_config"])
    if native:
        text = left_out.TEXT[text.get("model_type", "qwen2")] | text
    vision = (left_out.INTERNVIT if native else {}) | dict(config.get("vision_config") or {})
    layer = config.get("vision_feature_layer" if native else "select_layer", -1)
    size = _edge(vision["image_size"] if native else config.get("force_image_size") or vision["image_size"])
    fold = round(1 / config.get("downsample_ratio", 0.5)) ** 2
    width = text["hidden_size"]
    tower = _tower(vision, size, layer, (vision["hidden_size"] * fold, width, width))
    # transformers' class ties unless it is told otherwise; in the released layout the language model speaks for itself.
    language = _language(text, bool(config.get("tie_word_embeddings", True)) if native else _tied(text, text))
    return ModelShape(name, "internvl2", language, tower, text["max_position_embeddings"], _dtype(config, text))


def _tower(vision: Mapping[str, Any], size: int, layer: int, projector: tuple[int, ...], cls: int = 1) -> VisionShape:
    depth, patch = vision["num_hidden_layers"], _edge(vision["patch_size"])
    return VisionShape(
        num_layers=depth,
        layers_run=layer if layer >= 0 else depth + 1 + layer,
        hidden=vision["hidden_size"],
        intermediate=vision["intermediate_size"],
        num_heads=vision["num_attention_heads"],
        tokens=(size // patch) ** 2 + cls,
        patch=patch,
        projector=projector,
        cls=cls,
    )


def _edge(size: Any) -> int:
    return int(size[0] if isinstance(size, list | tuple) else size)


def _tied(config: Mapping[str, Any], text: Mapping[str, Any], listens: bool = False) -> bool:
    """Whether a head is the embeddings' own matrix: as the whole says and, in classes that listen to it, the text."""
    return bool(config.get("tie_word_embeddings") or (listens and text.get("tie_word_embeddings")))


def _language(text: Mapping[str, Any], tied: bool) -> LanguageShape:
    heads = text["num_attention_heads"]
    return LanguageShape(
        num_layers=text["num_hidden_layers"],
        hidden=text["hidden_size"],
        intermediate=text["intermediate_size"],
        num_heads=heads,
        num_kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or text["hidden_size"] // heads,
        vocab=text["vocab_size"],
        tied=tied,
    )


def _dtype(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    for source in (config, text):
        for key in ("dtype", "torch_dtype"):
            if source.get(key):
                return str(source[key]).removeprefix("torch.")
    return "float32"
