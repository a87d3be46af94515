"""What configurations of the hub leave out because it equals the default of their class in transformers."""

from __future__ import annotations

from typing import Any

_LLAMA = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
_LLAMA |= {"vocab_size": 32000, "max_position_embeddings": 2048}
_QWEN = _LLAMA | {"intermediate_size": 22016, "vocab_size": 151936, "max_position_embeddings": 32768}
TEXT: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA
    | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 131072},
    "qwen2": _QWEN | {"num_key_value_heads": 32},
    "qwen3": _QWEN | {"num_key_value_heads": 32, "head_dim": 128},
    "phi3": _LLAMA
    | {"hidden_size": 3072, "intermediate_size": 8192, "vocab_size": 32064, "max_position_embeddings": 4096},
}
CLIP = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
CLIP |= {"image_size": 336, "patch_size": 14}
CLIP_CLASS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_CLASS |= {"image_size": 224, "patch_size": 32}
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "num_attention_heads": 16}
SIGLIP |= {"image_size": 384, "patch_size": 14}
INTERNVIT = CLIP | {"image_size": 448}
