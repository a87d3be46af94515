"""Who answers behind an adapter: our own pass over the blocks, or a serving engine that holds the language model.

The vision tower, the methods and the splicing of what they keep stay with the adapter whoever answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hero_ray.core.engines import OURS, VLLM
from hero_ray.models.base import Request
from hero_ray.models.engines.vllm import VllmDecoder
from hero_ray.models.generation import DecodedAnswer, GenerationOptions
from hero_ray.models.live import Positions


class AnswerEngine(Protocol):
    """What `FamilyAdapter.generate` asks; `hero_ray.models.generation.Decoder` is one."""

    def answer(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Positions = "compact",
        options: GenerationOptions | None = None,
    ) -> list[DecodedAnswer]:
        """Answers in the order of the requests."""
        ...


@dataclass(frozen=True)
class EitherEngine:
    """vLLM for what it can carry, our own blocks for the rest.

    Attributes:
        ours: answers what drops tokens between blocks, and what is asked of it by name.
        vllm: answers everything else.
    """

    ours: AnswerEngine
    vllm: AnswerEngine

    def answer(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Positions = "compact",
        options: GenerationOptions | None = None,
    ) -> list[DecodedAnswer]:
        """Answers in the order of the requests; `options.engine` decides where a plan already has."""
        named = options.engine if options is not None else ""
        chosen = named or (VLLM if pruner is None else OURS)
        return (self.vllm if chosen == VLLM else self.ours).answer(requests, pruner, positions, options)


def vllm_of(adapter: Any) -> VllmDecoder | None:
    """What asks vLLM behind an adapter, None where our own blocks alone answer."""
    engine = getattr(adapter, "engine", None)
    found = engine.vllm if isinstance(engine, EitherEngine) else engine
    return found if isinstance(found, VllmDecoder) else None
