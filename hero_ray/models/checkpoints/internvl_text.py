"""The language model inside OpenGVLab's configurations, in transformers' terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig, Phi3Config, Qwen2Config, Qwen3Config

from hero_ray.core.errors import CheckpointError
from hero_ray.models.supported import INTERNVL_LANGUAGE

_CLASSES: dict[str, Any] = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config, "phi3": Phi3Config}
# Said by the class itself, or about how the file was made; the rest of `llm_config` is the class's own to read.
_NOT_SIZES = {
    *("architectures", "auto_map", "model_type", "torch_dtype", "dtype", "transformers_version", "_name_or_path"),
    *("attn_implementation", "_attn_implementation", "use_cache", "use_bfloat16", "return_dict"),
}


def kind_of(language: Mapping[str, Any]) -> str:
    """`internlm2`, or transformers' name of the language model."""
    named = language.get("architectures") or ["InternLM2ForCausalLM"]
    return INTERNVL_LANGUAGE[named[0] if isinstance(named, list) else named]


def text_config(language: Mapping[str, Any], where: object) -> Any:
    """The configuration of the language model; InternLM2 is a Llama whose projections are fused.

    Raises:
        CheckpointError: InternLM2 with tied embeddings, which no released one has.
    """
    kind = kind_of(language)
    if kind != "internlm2":
        said = {key: value for key, value in language.items() if key not in _NOT_SIZES}
        return _CLASSES[kind](**said | _long_range(language))
    if language.get("tie_word_embeddings"):
        raise CheckpointError(f"{where}: tied word embeddings are not expected of InternLM2")
    return LlamaConfig(
        vocab_size=language["vocab_size"],
        hidden_size=language["hidden_size"],
        intermediate_size=language["intermediate_size"],
        num_hidden_layers=language["num_hidden_layers"],
        num_attention_heads=language["num_attention_heads"],
        num_key_value_heads=language["num_key_value_heads"],
        hidden_act=language.get("hidden_act", "silu"),
        rms_norm_eps=language.get("rms_norm_eps", 1e-6),
        attention_bias=language.get("bias", False),
        max_position_embeddings=language["max_position_embeddings"],
        # Dynamic scaling is inactive below max_position_embeddings, and longer prompts are refused.
        rope_parameters={"rope_type": "default", "rope_theta": float(language.get("rope_theta", 10000.0))},
        bos_token_id=language.get("bos_token_id", 1),
        eos_token_id=language.get("eos_token_id", 2),
        pad_token_id=language.get("pad_token_id", 2),
        tie_word_embeddings=False,
    )


def _long_range(language: Mapping[str, Any]) -> dict[str, Any]:
    """Phi-3's rotary scaling under the name transformers knows it by; "su" was its first one."""
    scaling = language.get("rope_scaling")
    if not isinstance(scaling, Mapping) or scaling.get("type") not in ("su", "longrope"):
        return {}
    original = language.get("original_max_position_embeddings", 4096)
    return {"rope_scaling": {**scaling, "type": "longrope", "original_max_position_embeddings": original}}
