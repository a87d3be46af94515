"""Clients of one vLLM engine: their requests join those under way at its next step (continuous batching).

One thread alone touches the engine. It takes what clients have brought, makes a step for all of them, and hands out
what is done; whoever asks waits in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Thread
from typing import Any

from hero_ray.core.errors import ReplicaError
from hero_ray.models.base import Request
from hero_ray.models.engines import EitherEngine, vllm_of
from hero_ray.models.engines.line import LineRequest
from hero_ray.models.generation import DecodedAnswer, GenerationOptions
from hero_ray.models.live import Positions


@dataclass(frozen=True)
class _Asked:
    """One call: its requests, and what becomes of them."""

    requests: Sequence[Request]
    options: GenerationOptions
    answers: Future[list[DecodedAnswer]]


class JoinedEngine:
    """A vLLM decoder that many threads ask at once; an `AnswerEngine` as it is itself.

    Args:
        decoder: `hero_ray.models.engines.vllm.VllmDecoder`; nobody else may ask it from now on.

    Attributes:
        broken: why it failed; it is asked no more then.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._brought: SimpleQueue[_Asked] = SimpleQueue()
        self.broken: ReplicaError | None = None
        Thread(target=self._serve, name="vllm-steps", daemon=True).start()

    def answer(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Positions = "compact",
        options: GenerationOptions | None = None,
    ) -> list[DecodedAnswer]:
        """As `VllmDecoder.answer`; `options.on_token` is called in the engine's thread."""
        if pruner is not None:
            return list(self._decoder.answer(requests, pruner))  # refuses, and asks the engine nothing
        asked = _Asked(requests, options or GenerationOptions(), Future())
        self._brought.put(asked)
        return asked.answers.result()

    def _serve(self) -> None:
        under_way: list[tuple[_Asked, list[LineRequest]]] = []
        while self.broken is None:
            while not under_way or not self._brought.empty():
                asked = self._brought.get()
                try:
                    under_way.append((asked, self._decoder.put(asked.requests, asked.options)))
                except Exception as error:
                    asked.answers.set_exception(error)
            try:
                self._decoder.line.step()
                under_way = [one for one in under_way if not self._handed_out(*one)]
            except Exception as error:
                self.broken = error if isinstance(error, ReplicaError) else ReplicaError(f"vLLM failed: {error}")
        for asked, _ in under_way:
            if not asked.answers.done():
                asked.answers.set_exception(self.broken)
        while True:  # whoever comes now is told at once
            self._brought.get().answers.set_exception(self.broken)

    def _handed_out(self, asked: _Asked, rows: list[LineRequest]) -> bool:
        """Hand out the answers of a call, where all are there or somebody left."""
        left = next((row.error for row in rows if row.error is not None), None)
        if left is not None:
            self._decoder.line.drop([row for row in rows if not row.over])
            asked.answers.set_exception(left)
        elif all(row.over for row in rows):
            try:
                asked.answers.set_result(self._decoder.answered(rows))
            except ReplicaError:
                raise
            except Exception as error:
                asked.answers.set_exception(error)
        return asked.answers.done()


def join(adapter: Any) -> JoinedEngine | None:
    """Put a `JoinedEngine` before an adapter's vLLM; None where our own blocks alone answer."""
    decoder: Any = vllm_of(adapter)
    if decoder is None:
        return None
    joined = JoinedEngine(decoder)
    engine: Any = adapter.engine
    adapter.engine = replace(engine, vllm=joined) if isinstance(engine, EitherEngine) else joined
    return joined
