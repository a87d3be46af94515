"""InternVL checkpoints in OpenGVLab's layout, read straight into transformers' native class and written back.

The released layout needs remote code, fuses query, key and value, and names everything its own way; the mathematics
is that of `InternVLForConditionalGeneration`, over a Llama where the language model is InternLM2. Every key maps to its
native entries exactly once, in both directions. InternLM2 groups `wqkv` rows per key-value head:
`[q_0 .. q_{G-1}, k, v]`, G query heads to each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import InternVLConfig, InternVLVisionConfig

from hero_ray.core.errors import CheckpointError
from hero_ray.models.checkpoints.internvl_text import text_config
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.checkpoints.reader import Translate

CONTEXT, IMAGE_START, IMAGE_END, TURN_END = "<IMG_CONTEXT>", "<img>", "</img>", "<|im_end|>"

# (released, native), longest match first within a room.
_VISION = (
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.position_embedding", "embeddings.position_embeddings"),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
    ("encoder.layers.", "encoder.layer."),
    (".attn.proj.", ".attention.projection_layer."),
    (".attn.q_norm.", ".attention.q_norm."),
    (".attn.k_norm.", ".attention.k_norm."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".ls1", ".lambda_1"),
    (".ls2", ".lambda_2"),
)
_LANGUAGE = (
    ("tok_embeddings.", "embed_tokens."),
    (".attention.wo.", ".self_attn.o_proj."),
    (".feed_forward.w1.", ".mlp.gate_proj."),
    (".feed_forward.w3.", ".mlp.up_proj."),
    (".feed_forward.w2.", ".mlp.down_proj."),
    (".attention_norm.", ".input_layernorm."),
    (".ffn_norm.", ".post_attention_layernorm."),
)
_PROJECTOR = (("mlp1.0.", "layer_norm."), ("mlp1.1.", "linear_1."), ("mlp1.3.", "linear_2."))
_VISION_ROOM = ("vision_model.", "model.vision_tower.")
_LANGUAGE_ROOM = ("language_model.model.", "model.language_model.")
_PROJECTOR_ROOM = "model.multi_modal_projector."
_HEAD = ("language_model.output.weight", "lm_head.weight")
_HEAD_ALONE = "language_model.lm_head.weight"  # as every language model but InternLM2 names it


def reader(text: Any, internlm2: bool = True) -> Translate:
    """The released entry -> native entries.

    Args:
        text: the language model's configuration; it decides how `wqkv` is split.
        internlm2: else the language model's entries bear transformers' own names.
    """

    def translate(key: str, tensor: Tensor) -> dict[str, Tensor]:
        if key.endswith("rotary_emb.inv_freq"):  # derived; older checkpoints carry it along
            return {}
        if key in (_HEAD[0], _HEAD_ALONE):
            return {_HEAD[1]: tensor}
        if key.startswith("mlp1."):
            return {_PROJECTOR_ROOM + _swap(key, _PROJECTOR): tensor}
        if key.startswith(_VISION_ROOM[0]):
            name = _VISION_ROOM[1] + _swap(key.removeprefix(_VISION_ROOM[0]), _VISION)
            if ".attn.qkv." in name:
                return _named(name, ".attn.qkv.", ".attention.{}_proj.", dict(zip("qkv", tensor.chunk(3), strict=True)))
            return {name: tensor}
        if key.startswith(_LANGUAGE_ROOM[0]):
            name = key.removeprefix(_LANGUAGE_ROOM[0])
            if not internlm2:
                return {_LANGUAGE_ROOM[1] + name: tensor}
            name = _LANGUAGE_ROOM[1] + _swap(name, _LANGUAGE)
            if ".attention.wqkv." in name:
                return _named(name, ".attention.wqkv.", ".self_attn.{}_proj.", split_wqkv(tensor, text))
            return {name: tensor}
        return {key: tensor}

    return translate


def split_wqkv(fused: Tensor, text: Any) -> dict[str, Tensor]:
    """InternLM2's fused rows as separate q, k, v rows; query heads in the order grouped attention expects."""
    groups, per_group = text.num_key_value_heads, text.num_attention_heads // text.num_key_value_heads
    rows = fused.unflatten(0, (groups, per_group + 2, -1))
    parts = {"q": rows[:, :per_group], "k": rows[:, per_group], "v": rows[:, per_group + 1]}
    return {name: part.reshape(-1, *fused.shape[1:]) for name, part in parts.items()}


def fuse_wqkv(query: Tensor, key: Tensor, value: Tensor, text: Any) -> Tensor:
    """The inverse of `split_wqkv`."""
    groups = text.num_key_value_heads
    head = (groups, -1, text.head_dim)
    rows = [tensor.unflatten(0, head) for tensor in (query, key, value)]
    return torch.cat(rows, 1).reshape(-1, *query.shape[1:])


def read_native_config(folder: Path) -> Any:
    """The native configuration of a released folder, from its `config.json` as plain JSON.

    Raises:
        CheckpointError: another family, the older pixel shuffle, or a language model that is not supported.
    """
    raw = read_config(folder)
    if raw.get("model_type") != "internvl_chat":
        raise CheckpointError(f"{folder}: model_type is {raw.get('model_type')!r}, expected 'internvl_chat'")
    try:
        return native_config(raw, folder)
    except KeyError as missing:
        raise CheckpointError(f"{folder}: its config.json lacks the entry {missing}") from missing


def native_config(raw: Mapping[str, Any], where: object = "config.json") -> Any:
    """A released configuration in transformers' terms."""
    language, vision = raw["llm_config"], raw["vision_config"]
    text = text_config(language, where)
    size = raw.get("force_image_size") or vision["image_size"]
    tower = InternVLVisionConfig(
        hidden_size=vision["hidden_size"],
        num_hidden_layers=vision["num_hidden_layers"],
        num_attention_heads=vision["num_attention_heads"],
        intermediate_size=vision["intermediate_size"],
        image_size=size,
        patch_size=vision["patch_size"],
        attention_bias=vision.get("qkv_bias", False),
        use_qk_norm=vision.get("qk_normalization", False),
        norm_type=vision.get("norm_type", "layer_norm"),
        layer_norm_eps=vision.get("layer_norm_eps", 1e-6),
        layer_scale_init_value=vision.get("initializer_factor", 0.1),
        hidden_act=vision.get("hidden_act", "gelu"),
        use_absolute_position_embeddings=True,
        use_mean_pooling=True,  # makes the final norm an identity, as in the released code
    )
    ratio = raw.get("downsample_ratio", 0.5)
    return InternVLConfig(
        vision_config=tower,
        text_config=text,
        image_token_id=language["vocab_size"] - 1,  # the tokenizer decides; the native class only wants a number
        image_seq_length=int((size // vision["patch_size"] * ratio) ** 2),
        downsample_ratio=ratio,
        vision_feature_layer=raw.get("select_layer", -1),
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )


def write(model: Any, folder: Path, settings: Mapping[str, Any] | None = None) -> Path:
    """Save a native model in the released layout: `config.json` and `model.safetensors`.

    Args:
        model: transformers' `InternVLForConditionalGeneration` over a Llama.
        settings: further entries of `config.json`, for example `max_dynamic_patch`, `template`, `system_message`.

    The tokenizer's files are the caller's to add.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = model.config.text_config
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("inv_freq")}
    released: dict[str, Tensor] = {}
    for name, tensor in state.items():
        released.update(_release(name, tensor, state, text))
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in released.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = released_config(model.config) | dict(settings or {})
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return folder


def released_config(config: Any) -> dict[str, Any]:
    """A native configuration in the released terms; the inverse of `native_config`."""
    text, vision = config.text_config, config.vision_config
    size = vision.image_size[0] if isinstance(vision.image_size, list | tuple) else vision.image_size
    patch = vision.patch_size[0] if isinstance(vision.patch_size, list | tuple) else vision.patch_size
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "ps_version": "v2",
        "select_layer": config.vision_feature_layer,
        "downsample_ratio": config.downsample_ratio,
        "force_image_size": size,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 12,
        "template": "internlm2-chat",
        "tie_word_embeddings": False,
        "llm_config": {
            "model_type": "internlm2",
            "architectures": ["InternLM2ForCausalLM"],
            "bias": text.attention_bias,
            "rope_theta": text.rope_parameters["rope_theta"],
            "tie_word_embeddings": False,
            **{key: getattr(text, key) for key in _SAME_TEXT},
        },
        "vision_config": {
            "model_type": "intern_vit_6b",
            "image_size": size,
            "patch_size": patch,
            "qkv_bias": vision.attention_bias,
            "qk_normalization": vision.use_qk_norm,
            "initializer_factor": vision.layer_scale_init_value,
            **{key: getattr(vision, key) for key in _SAME_VISION},
        },
    }


_SAME_TEXT = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "hidden_act", "rms_norm_eps", "max_position_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
_SAME_VISION = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("norm_type", "layer_norm_eps", "hidden_act"),
)


def _release(name: str, tensor: Tensor, state: Mapping[str, Tensor], text: Any) -> dict[str, Tensor]:
    """One native entry in the released layout; of a fused triple, the query brings all three."""
    if name == _HEAD[1]:
        return {_HEAD[0]: tensor}
    if name.startswith(_PROJECTOR_ROOM):
        return {_swap(name.removeprefix(_PROJECTOR_ROOM), _PROJECTOR, back=True): tensor}
    if name.startswith(_VISION_ROOM[1]):
        return _fused(name, state, _VISION_ROOM, _VISION, "attention", "attn.qkv", lambda q, k, v: torch.cat([q, k, v]))
    return _fused(
        name, state, _LANGUAGE_ROOM, _LANGUAGE, "self_attn", "attention.wqkv", lambda q, k, v: fuse_wqkv(q, k, v, text)
    )


def _fused(
    name: str,
    state: Mapping[str, Tensor],
    room: tuple[str, str],
    table: tuple[tuple[str, str], ...],
    native: str,
    released: str,
    fuse: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    for letter in "qkv":
        if f".{native}.{letter}_proj." in name:
            if letter != "q":
                return {}
            parts = [state[name.replace(".q_proj.", f".{other}_proj.")] for other in "qkv"]
            key = name.replace(f".{native}.q_proj.", f".{released}.").removeprefix(room[1])
            return {room[0] + _swap(key, table, back=True): fuse(*parts)}
    return {room[0] + _swap(name.removeprefix(room[1]), table, back=True): state[name]}


def _named(name: str, old: str, new: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(old, new.format(letter)): part for letter, part in parts.items()}


def _swap(name: str, table: tuple[tuple[str, str], ...], back: bool = False) -> str:
    for released, native in table:
        old, new = (native, released) if back else (released, native)
        if old in name:
            name = name.replace(old, new)
    return name
