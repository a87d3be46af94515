"""One miniature checkpoint per language model type that vLLM is handed, in a layout that type is released in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests import checkpoints
from tests.checkpoints import INTERNVL, LLAVA_NEXT, ONEVISION, Chosen

Write = Callable[[Chosen, Path], Any]


def wide(chosen: Chosen, **more: Any) -> Chosen:
    """With heads of 32, the narrowest that vLLM's CPU attention has: two of them over one of keys and values."""
    return replace(chosen, text=chosen.text | {"num_attention_heads": 2, "num_key_value_heads": 1} | more)


# As released, but that its second set of frequencies begins behind the prompts asked here.
LONG = {"type": "su", "short_factor": [1.0 + n / 10 for n in range(16)], "long_factor": [4.0 + n for n in range(16)]}
PHI = wide(INTERNVL["internvl2-4b"], rope_scaling=LONG, original_max_position_embeddings=1024)

MINIATURES: dict[str, tuple[Write, Chosen]] = {
    "llama": (checkpoints.llava_next, wide(LLAVA_NEXT["vicuna-7b"])),
    "llama-original": (checkpoints.original_llava_next, wide(LLAVA_NEXT["llama3-8b"])),
    "mistral": (checkpoints.llava_next, wide(LLAVA_NEXT["mistral-7b"])),
    "qwen2": (checkpoints.llava_onevision, wide(ONEVISION["onevision-0.5b"])),
    "qwen2-dynamic": (checkpoints.internvl_chat, wide(INTERNVL["internvl3-8b"])),
    "qwen3": (checkpoints.internvl_hf, wide(INTERNVL["internvl3_5-8b"], head_dim=32)),
    "internlm2": (checkpoints.internvl_chat, wide(INTERNVL["internvl2-8b"])),
    "phi3": (checkpoints.internvl_chat, PHI),
    "mistral-window": (checkpoints.llava_next, wide(LLAVA_NEXT["mistral-window"])),
    "qwen2-window": (checkpoints.llava_next, wide(LLAVA_NEXT["qwen2-window"], max_window_layers=0)),
    "qwen2-no-window": (checkpoints.llava_next, wide(LLAVA_NEXT["qwen2-window"], max_window_layers=4)),
    "qwen3-tied": (checkpoints.internvl_chat, wide(INTERNVL["internvl3_5-1b"], head_dim=32)),
}
