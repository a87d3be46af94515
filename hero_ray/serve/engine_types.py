"""Records between the API process and a model replica; no torch, so that the API stays light."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hero_ray.serve.schemas import PruningRequest


@dataclass(frozen=True)
class ChatJob:
    """One chat request, reduced to what a model needs.

    Attributes:
        text: what the user says last. question: what text-aware methods choose tokens by.
        history: turns before it: what the user said, and what was answered.
        choices: answers, of which number i is drawn with seed + i.
        logprobs: tell how likely each token was, and so many of the likeliest ones; None tells nothing.
    """

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
    history: tuple[tuple[str, str], ...] = ()
    choices: int = 1
    logprobs: int | None = None


@dataclass(frozen=True)
class ChatReply:
    """One answer; `logprobs` in OpenAI's form, one entry per token, where they were asked for."""

    text: str
    finish: str
    tokens: int
    logprobs: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Piece:
    """What was added to choice `index` of a streamed answer; `logprobs` of its tokens, where they were asked for."""

    text: str
    index: int = 0
    logprobs: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class ChatResult:
    """Answers with their token figures; `batch` is how many requests ran together, `seconds` the time by stage."""

    choices: tuple[ChatReply, ...]
    prompt_tokens: int
    visual: dict[str, Any] = field(default_factory=dict)
    batch: int = 1
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The first answer."""
        return self.choices[0].text

    @property
    def finish(self) -> str:
        """How the first answer ended."""
        return self.choices[0].finish

    @property
    def completion_tokens(self) -> int:
        """Of all answers."""
        return sum(choice.tokens for choice in self.choices)
