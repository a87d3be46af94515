"""Clients of one vLLM engine: their requests join those under way at its next step (continuous batching).

One thread alone touches the engine. It takes what clients have brought, makes a step for all of them, and hands out
what is done; whoever asks waits in a thread of its own. When nobody holds a `JoinedEngine` any more, such as a replica
that made room for another model, its thread ends and the engine gives its memory back.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch

from hero_ray.core.errors import ReplicaError
from hero_ray.models.base import Request
from hero_ray.models.engines import EitherEngine, vllm_of
from hero_ray.models.engines.line import LineRequest
from hero_ray.models.generation import DecodedAnswer, GenerationOptions
from hero_ray.models.live import Positions

ENDING_S = 60.0
"""Seconds that a new model waits for an engine to end."""


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
        steps: the thread that asks it.
    """

    def __init__(self, decoder: Any) -> None:
        self.steps = EngineThread(decoder)
        weakref.finalize(self, self.steps.leave).atexit = False
        self.steps.start()

    def answer(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Positions = "compact",
        options: GenerationOptions | None = None,
    ) -> list[DecodedAnswer]:
        """As `VllmDecoder.answer`; `options.on_token` is called in the engine's thread."""
        if pruner is not None:
            return list(self.steps.decoder.answer(requests, pruner))  # refuses, and asks the engine nothing
        asked = _Asked(requests, options or GenerationOptions(), Future())
        self.steps.brought.put(asked)
        return asked.answers.result()


class EngineThread(Thread):
    """Asks one engine for all; it holds nothing that holds the `JoinedEngine` before it.

    Attributes:
        brought: calls, and None when nobody can make another.
        broken: why the engine failed; it is asked no more then.
        left: nobody can make another call; the thread ends, and with it the engine.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__(name="vllm-steps", daemon=True)
        self.decoder = decoder
        self.brought: SimpleQueue[_Asked | None] = SimpleQueue()
        self.broken: ReplicaError | None = None
        self.left = False
        self._under_way: list[tuple[_Asked, list[LineRequest]]] = []

    def leave(self) -> None:
        """Nobody holds the engine any more, and so nobody waits for an answer either."""
        self.left = True
        self.brought.put(None)

    def run(self) -> None:
        """Answer until nobody is left, then give the engine's memory back."""
        while self.broken is None:
            while not self._under_way or not self.brought.empty():
                if not self._took():
                    decoder, self.decoder = self.decoder, None
                    decoder.close()
                    return
            try:
                self.decoder.line.step()
                self._under_way = [one for one in self._under_way if not self._handed_out(*one)]
            except Exception as error:
                self.broken = error if isinstance(error, ReplicaError) else ReplicaError(f"vLLM failed: {error}")
        for asked, _ in self._under_way:
            if not asked.answers.done():
                asked.answers.set_exception(self.broken)
        while (late := self.brought.get()) is not None:  # whoever comes now is told at once
            late.answers.set_exception(self.broken)

    def _took(self) -> bool:
        """Take the next call; False where there will be none."""
        asked = self.brought.get()
        if asked is None:
            return False
        try:
            self._under_way.append((asked, self.decoder.put(asked.requests, asked.options)))
        except Exception as error:
            asked.answers.set_exception(error)
        return True

    def _handed_out(self, asked: _Asked, rows: list[LineRequest]) -> bool:
        """Hand out the answers of a call, where all are there or somebody left."""
        left = next((row.error for row in rows if row.error is not None), None)
        if left is not None:
            self.decoder.line.drop([row for row in rows if not row.over])
            asked.answers.set_exception(left)
        elif all(row.over for row in rows):
            try:
                asked.answers.set_result(self.decoder.answered(rows))
            except ReplicaError:
                raise
            except Exception as error:
                asked.answers.set_exception(error)
        return asked.answers.done()


def join(adapter: Any) -> EngineThread | None:
    """Put a `JoinedEngine` before an adapter's vLLM, and give its thread; None where our own blocks alone answer."""
    decoder: Any = vllm_of(adapter)
    if decoder is None:
        return None
    joined = JoinedEngine(decoder)
    engine: Any = adapter.engine
    adapter.engine = replace(engine, vllm=joined) if isinstance(engine, EitherEngine) else joined
    return joined.steps


def wait_for_room(threads: Sequence[EngineThread]) -> list[EngineThread]:
    """Those of the threads whose engines somebody still holds; the others have ended, and their memory is back."""
    gc.unfreeze()  # a vLLM keeps all that stands when it starts from ever being collected
    gc.collect()
    for thread in threads:
        if thread.left:
            thread.join(ENDING_S)
    gc.collect()
    torch.cuda.empty_cache()
    return [thread for thread in threads if not thread.left]
