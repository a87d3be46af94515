"""Records between the API process and a model replica; no torch, so that the API stays light."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hero_ray.serve.schemas import PruningRequest


@dataclass(frozen=True)
class ChatJob:
    """One chat request, reduced to what a model needs."""

    text: str
    question: str
    image: bytes | None
    pruning: PruningRequest
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stops: tuple[str, ...] = ()
    max_pixels: int = 40_000_000
    megapixels: float = 0.0
    request_id: str = ""


@dataclass(frozen=True)
class ChatResult:
    """An answer with its token figures; `batch` is how many requests ran together, `seconds` the time by stage."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    visual: dict[str, Any] = field(default_factory=dict)
    batch: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
