"""Model names and what belongs to them; one line per model."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from hero_ray.core.errors import UnknownNameError

EMBEDDED_WEIGHTS = Path(str(files("hero_ray.models"))) / "embedded"  # a folder per embedded model
CLIP_LARGE = "openai/clip-vit-large-patch14-336"


@dataclass(frozen=True)
class ModelSpec:
    """A model by name.

    Attributes:
        name: as users say it.
        family: `llava-next`, `llava-1.5`, `llava-onevision`, `internvl2`, `qwen2.5-vl` or `qwen3-vl`.
        source: hub id, or "" for the embedded models.
        style: name of the prompt style; for a folder, of its family.
        clip: hub id of the CLIP whose text tower pairs with the vision tower, "" where none does.
    """

    name: str
    family: str
    source: str
    style: str
    clip: str = ""

    @property
    def embedded(self) -> Path | None:
        """Folder inside the package, for the embedded models."""
        return None if self.source else EMBEDDED_WEIGHTS / self.name


def _qwen(family: str, series: str, size: int) -> ModelSpec:
    return ModelSpec(f"{family}-{size}b", family, f"Qwen/{series}-{size}B-Instruct", family)


SPECS = {
    spec.name: spec
    for spec in (
        ModelSpec("hero-tiny", "llava-next", "", "plain"),
        ModelSpec("hero-tiny-internvl", "internvl2", "", "internlm2-chat"),
        ModelSpec("hero-tiny-qwen", "qwen2.5-vl", "", "qwen2.5-vl"),
        ModelSpec("llava-next-7b", "llava-next", "llava-hf/llava-v1.6-vicuna-7b-hf", "vicuna", CLIP_LARGE),
        ModelSpec("llava-next-13b", "llava-next", "llava-hf/llava-v1.6-vicuna-13b-hf", "vicuna", CLIP_LARGE),
        ModelSpec("llava-1.5-7b", "llava-1.5", "llava-hf/llava-1.5-7b-hf", "vicuna", CLIP_LARGE),
        ModelSpec("llava-1.5-13b", "llava-1.5", "llava-hf/llava-1.5-13b-hf", "vicuna", CLIP_LARGE),
        ModelSpec("sharegpt4v-7b", "llava-1.5", "Lin-Chen/ShareGPT4V-7B", "vicuna", CLIP_LARGE),
        ModelSpec("internvl2-2b", "internvl2", "OpenGVLab/InternVL2-2B", "internlm2-chat"),
        ModelSpec("internvl2-8b", "internvl2", "OpenGVLab/InternVL2-8B", "internlm2-chat"),
        *(_qwen("qwen2.5-vl", "Qwen2.5-VL", size) for size in (3, 7, 32, 72)),
        *(_qwen("qwen3-vl", "Qwen3-VL", size) for size in (2, 4, 8, 32)),
    )
}

# What a folder or hub id of a family is asked in when nothing in it says how.
FAMILY_STYLES = {
    "llava-next": "vicuna",
    "llava-1.5": "vicuna",
    "llava-onevision": "qwen",
    "internvl2": "internlm2-chat",
    "qwen2.5-vl": "qwen2.5-vl",
    "qwen3-vl": "qwen3-vl",
}
CLIP_TOWERS = ("llava-next", "llava-1.5")
"""Families whose vision tower is a CLIP's, which its text tower can be put beside."""
NATIVE = ("qwen2.5-vl", "qwen3-vl")
"""Families that look at a picture in its own resolution, and whose tokens stand in rows and columns (M-RoPE)."""
WITHOUT_CLS = ("llava-onevision", *NATIVE)
"""Families whose vision tower has no CLS token."""


def tower_of(family: str) -> str:
    """Whose tower a family's works like in memory: `clip`, or `internvit` with a fused GELU."""
    return "internvit" if family in ("internvl2", *NATIVE) else "clip"


def names() -> tuple[str, ...]:
    """Every model name, embedded ones first."""
    return tuple(SPECS)


def spec(name: str) -> ModelSpec:
    """The spec of a known name.

    Raises:
        UnknownNameError: not a known name.
    """
    if name not in SPECS:
        raise UnknownNameError("model", name, SPECS)
    return SPECS[name]


def foreign(name: str, family: str) -> ModelSpec:
    """A spec for a hub id or folder, by its family's defaults."""
    return ModelSpec(name, family, name, FAMILY_STYLES[family], CLIP_LARGE if family in CLIP_TOWERS else "")
