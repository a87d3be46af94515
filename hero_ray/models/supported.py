"""What a `config.json` alone decides: the family it belongs to, or why no family of ours can load it.

Asked before anything else of a checkpoint is fetched or read, so that a refusal costs one small file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from hero_ray.core.errors import CheckpointError
from hero_ray.models.registry import NATIVE

LANGUAGE = ("llama", "mistral", "qwen2", "qwen3", "phi3")
"""transformers' language models whose blocks the block loop runs."""

INTERNVL_LANGUAGE = {
    "InternLM2ForCausalLM": "internlm2",
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Phi3ForCausalLM": "phi3",
}
"""What OpenGVLab's configurations call them."""

ORIGINAL_LANGUAGE = {
    "llava": "llama",
    "llava_llama": "llama",
    "share4v": "llama",
    "llava_mistral": "mistral",
    "llava_qwen": "qwen2",
}
"""The language model behind a `model_type` of the original LLaVA code."""

_FAMILIES = {
    "llava_next": "llava-next",
    "llava": "llava-1.5",
    "llava_onevision": "llava-onevision",
    "internvl_chat": "internvl2",
    "internvl": "internvl2",
    "qwen2_5_vl": "qwen2.5-vl",
    "qwen3_vl": "qwen3-vl",
}
_KNOWN = (
    "llava, llava_next, llava_onevision, internvl, internvl_chat, qwen2_5_vl, qwen3_vl and the original LLaVA layouts"
)
_HUB_LAYOUTS = ("llava", "llava_next", "llava_onevision", "internvl", "qwen2_5_vl", "qwen3_vl")
_QWEN = ("qwen2_5_vl", "qwen3_vl")
_TOWERS = {"internvl": "internvl_vision", "llava_onevision": "siglip_vision_model"}
CLIP_TOWER = "clip-vit-large-patch14-336"
_OTHER_TOWERS = ("siglip", "eva", "dino", "convnext", "internvit", "openclip", "laion", "clip-vit-base", "imagebind")


def is_original_llava(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was saved by the original LLaVA code: sizes at top level, tower named by hub id."""
    return "mm_vision_tower" in config and "text_config" not in config


def family_of(config: Mapping[str, Any], where: object) -> str:
    """The family a parsed `config.json` belongs to.

    Raises:
        CheckpointError: none of ours, a language model or tower we do not run, or quantised weights that cannot be
            read here.
    """
    if method := quantised(config):
        _readable(config, method, where)
    if is_original_llava(config):
        return _original(config, where)
    kind = config.get("model_type")
    if kind not in _FAMILIES:
        raise CheckpointError(f"{where}: model_type is {kind!r}; supported are {_KNOWN}")
    if kind == "internvl_chat":
        _internvl_chat(config, where)
        return "internvl2"
    if kind in _QWEN:
        _qwen_vl(config, where)
        return _FAMILIES[str(kind)]
    text, vision = _part(config, "text_config", where), _part(config, "vision_config", where)
    _language(text.get("model_type") or ("qwen2" if kind in _TOWERS else "llama"), where)
    tower = _TOWERS.get(str(kind), "clip_vision_model")
    if vision.get("model_type", tower) != tower:
        raise CheckpointError(f"{where}: its vision tower is {vision['model_type']!r}; expected {tower}")
    return _FAMILIES[str(kind)]


def quantised(config: Mapping[str, Any]) -> str:
    """How a checkpoint's weights are quantised, in the configuration's own words; "" where they are not."""
    found = config.get("quantization_config")
    if isinstance(found, Mapping):
        bits = found.get("bits") or found.get("w_bit") or found.get("num_bits")
        bits = bits or (4 if found.get("load_in_4bit") else 8 if found.get("load_in_8bit") else None)
        return f"{found.get('quant_method', 'method unnamed')}{f', {bits} bit' if bits else ''}"
    parts = (value for key, value in config.items() if key.endswith("_config") and isinstance(value, Mapping))
    return next((method for part in parts if (method := quantised(part))), "")


def check_for_vllm(config: Mapping[str, Any], where: object) -> None:
    """Refuse a checkpoint whose language model vLLM would not be handed as it is.

    Raises:
        CheckpointError: its weights are quantised, its tokens stand in rows and columns, or a window slides in some
            blocks of a Qwen and not in others.
    """
    if method := quantised(config):
        raise CheckpointError(
            f"{where}: its weights are quantised ({method}); engine=vllm is handed unquantised ones. "
            "Load the checkpoint it was made from, or use engine=ours"
        )
    if (family := family_of(config, where)) in NATIVE:
        raise CheckpointError(
            f"{where}: the tokens of {family} stand in rows and columns (M-RoPE), and vLLM is handed embeddings "
            "without their places; use engine=ours"
        )
    kinds = _attention_kinds(config)
    if len(set(kinds)) > 1:
        raise CheckpointError(
            f"{where}: a window slides in {kinds.count(True)} of its language model's {len(kinds)} blocks, and vLLM's "
            "Qwen lets it slide in all of them or in none; use engine=ours"
        )


def _attention_kinds(config: Mapping[str, Any]) -> list[bool]:
    """Whether a window slides in each block of a Qwen2 or Qwen3; nothing for other language models, which vLLM takes
    block by block."""
    parts = (config.get(name) for name in ("text_config", "llm_config"))
    text = next((part for part in parts if isinstance(part, Mapping)), config)
    kind = str(text.get("model_type"))
    if ORIGINAL_LANGUAGE.get(kind, kind) not in ("qwen2", "qwen3"):
        return []
    count = text.get("num_hidden_layers", 0)
    if not text.get("use_sliding_window") or text.get("sliding_window") is None:
        return [False] * count
    if types := text.get("layer_types"):
        return [kind == "sliding_attention" for kind in types]
    return [block >= text.get("max_window_layers", count) for block in range(count)]


_QUANTISERS = {
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "awq": ("gptqmodel", "accelerate"),
    "gptq": ("gptqmodel", "optimum", "accelerate"),
}
"""Packages by which transformers reads weights of a `quant_method`."""


def _readable(config: Mapping[str, Any], method: str, where: object) -> None:
    """Refuse quantised weights that transformers cannot read here, or that do not lie as it saves them."""
    said = f"{where}: its weights are quantised ({method})"
    way = "; or load the checkpoint it was made from, in dtype=bfloat16 or float16"
    found = config.get("quantization_config")
    kind = found.get("quant_method") if isinstance(found, Mapping) else None
    if kind not in _QUANTISERS or config.get("model_type") not in _HUB_LAYOUTS:
        raise CheckpointError(
            f"{said}; read are {', '.join(_QUANTISERS)} of a whole checkpoint as transformers saves it{way}"
        )
    if missing := [name for name in _QUANTISERS[kind] if importlib.util.find_spec(name) is None]:
        raise CheckpointError(
            f"{said}; transformers reads them with {' and '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}{way}"
        )


def _part(config: Mapping[str, Any], key: str, where: object) -> Mapping[str, Any]:
    found = config.get(key) or {}
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{where}: {key} holds {type(found).__name__}; expected an object")
    return found


def _language(kind: Any, where: object) -> None:
    if kind not in LANGUAGE:
        raise CheckpointError(f"{where}: its language model is {kind!r}; supported are {', '.join(LANGUAGE)}")


def _qwen_vl(config: Mapping[str, Any], where: object) -> None:
    """Refuse what the released Qwen-VLs do not have and the block loop does not know."""
    text = _part(config, "text_config", where) or config
    vision = _part(config, "vision_config", where)
    if text.get("use_sliding_window"):
        raise CheckpointError(
            f"{where}: use_sliding_window is set; windows over positions in rows and columns are not supported"
        )
    if (fold := vision.get("spatial_merge_size", 2)) != 2:
        raise CheckpointError(f"{where}: spatial_merge_size is {fold!r}; only 2 x 2 patches a token are supported")
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "mrope")) if isinstance(rope, Mapping) else rope
    if kind not in ("mrope", "default", "yarn"):
        raise CheckpointError(f"{where}: its rotary positions are {kind!r}; supported are mrope (default) and yarn")


def _original(config: Mapping[str, Any], where: object) -> str:
    kind, tower = config.get("model_type"), config.get("mm_vision_tower")
    if kind not in ORIGINAL_LANGUAGE:
        raise CheckpointError(
            f"{where}: model_type is {kind!r} in the original LLaVA layout; supported are "
            f"{', '.join(ORIGINAL_LANGUAGE)}"
        )
    if not isinstance(tower, str) or any(name in tower.lower() for name in _OTHER_TOWERS):
        way = ""
        if kind == "llava_qwen" and "siglip" in str(tower).lower():
            way = "; LLaVA-OneVision is read in its -hf layout: llava-hf/llava-onevision-qwen2-*-hf"
        raise CheckpointError(
            f"{where}: its vision tower is {tower!r}; only CLIP ViT-L/14 at 336 px (openai/{CLIP_TOWER}) is supported "
            f"in the original layout{way}"
        )
    for key, value in {"mm_projector_type": "mlp2x_gelu", "mm_vision_select_feature": "patch"}.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"{where}: {key} is {config[key]!r}; only {value!r} is supported")
    ratio, merge = config.get("image_aspect_ratio") or "square", config.get("mm_patch_merge_type") or "flat"
    if ratio == "anyres" and merge == "spatial_unpad":
        return "llava-next"
    if "anyres" in str(ratio) or merge != "flat":
        raise CheckpointError(
            f"{where}: image_aspect_ratio {ratio!r} with mm_patch_merge_type {merge!r} is not a layout of LLaVA-1.5 or "
            "LLaVA-NeXT ('anyres' with 'spatial_unpad')"
        )
    return "llava-1.5"


def _internvl_chat(config: Mapping[str, Any], where: object) -> None:
    language = _part(config, "llm_config", where)
    named = language.get("architectures") or ["InternLM2ForCausalLM"]
    name = str(named[0]) if isinstance(named, list) else str(named)
    if name not in INTERNVL_LANGUAGE:
        raise CheckpointError(
            f"{where}: its language model is {name}; supported are {', '.join(sorted(INTERNVL_LANGUAGE))}"
        )
    version = config.get("ps_version", "v1")
    if version != "v2":
        raise CheckpointError(
            f"{where}: ps_version is {version!r}; only 'v2' (InternVL2 and later) orders tokens as we do"
        )
