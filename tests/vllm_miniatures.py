"""One miniature checkpoint per language model type that vLLM is handed, in a layout that type is released in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests import checkpoints
from tests.checkpoints import INTERNVL, LLAVA_NEXT, ONEVISION, Chosen

Write = Callable[[Chosen, Path], Any]
# As released, but that its second set of frequencies begins behind the prompts asked here.
ROOMY = INTERNVL["internvl2-4b"].text | {"original_max_position_embeddings": 1024, "sliding_window": 2047}

MINIATURES: dict[str, tuple[Write, Chosen]] = {
    "llama": (checkpoints.llava_next, LLAVA_NEXT["vicuna-7b"]),
    "llama-original": (checkpoints.original_llava_next, LLAVA_NEXT["llama3-8b"]),
    "mistral": (checkpoints.llava_next, LLAVA_NEXT["mistral-7b"]),
    "mistral-window": (checkpoints.llava_next, LLAVA_NEXT["mistral-window"]),
    "qwen2": (checkpoints.llava_onevision, ONEVISION["onevision-0.5b"]),
    "qwen2-window": (checkpoints.llava_next, LLAVA_NEXT["qwen2-window"]),
    "qwen2-dynamic": (checkpoints.internvl_chat, INTERNVL["internvl3-8b"]),
    "qwen3": (checkpoints.internvl_hf, INTERNVL["internvl3_5-8b"]),
    "qwen3-tied": (checkpoints.internvl_chat, INTERNVL["internvl3_5-1b"]),
    "internlm2": (checkpoints.internvl_chat, INTERNVL["internvl2-8b"]),
    "phi3": (checkpoints.internvl_chat, replace(INTERNVL["internvl2-4b"], text=ROOMY)),
}
