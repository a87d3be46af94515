"""A model replica under Ray Serve: it batches, streams, holds a few models, and drops what nobody waits for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from ray import serve

from hero_ray.core.engines import OURS, engine_of
from hero_ray.core.errors import HeroRayError
from hero_ray.serve.engine_types import ChatJob, ChatResult, Piece
from hero_ray.serve.observe import REQUEST
from hero_ray.serve.problems import Problem, problem_from
from hero_ray.serve.schemas import PruningRequest
from hero_ray.serve.settings import ServeSettings
from hero_ray.serve.work import Caller

T = TypeVar("T")
MEGAPIXELS_PER_PLACE = 8.0
"""Of a micro-batch: so many large pictures together would take longer than their callers wait."""


@dataclass(frozen=True)
class Seat:
    """One job in the queue of a micro-batch; `places` is what it takes of the batch's size."""

    model: str
    job: ChatJob
    caller: Caller
    places: int


def places_of(waiting: Sequence[Seat]) -> int:
    """What some jobs take of a batch's size."""
    return sum(seat.places for seat in waiting)


def alone(job: ChatJob) -> bool:
    """Whether a job shares no forward pass: in one batch with others it would only keep them waiting for its end."""
    return bool(job.temperature) or prunes_inside(job)


def prunes_inside(job: ChatJob) -> bool:
    """Whether a job may drop tokens inside the language model."""
    from hero_ray.serve.explanation import pruning_of

    with suppress(HeroRayError):  # what is wrong with it is said when it is answered
        return pruning_of(job.pruning).method.stage == "in-llm"
    return False


def joins(adapter: Any, job: ChatJob) -> bool:
    """Whether a job goes to vLLM, among whatever it is answering then; it waits for no batch and for no other job."""
    return bool(adapter.info.engine != OURS and not prunes_inside(job))


@contextmanager
def left() -> Iterator[Caller]:
    """A caller who is gone once the block has been left, however: its call was answered or cancelled."""
    caller = Caller()
    try:
        yield caller
    finally:
        caller.gone = True


class ModelReplica:
    """One replica: an engine that holds a few models, answers micro-batches, streams and explains."""

    def __init__(self, settings: ServeSettings) -> None:
        from hero_ray.serve.engine import Engine

        self._settings = settings
        self._engine = Engine(dict(settings.model_args), kept_bytes=settings.kept_mib * 2**20)
        self._alone = asyncio.Lock()  # torch work of one replica runs one piece at a time, off the event loop
        self._working: set[asyncio.Task[Any]] = set()
        self._may_join = engine_of(settings.model_args) != OURS
        self._waiting = ThreadPoolExecutor(ongoing(settings))  # threads that wait for a vLLM, which works for all
        batching: Any = self.answer_batch  # `serve.batch` adds setters that its type does not tell of
        batching.set_max_batch_size(settings.batch_size)
        batching.set_batch_wait_timeout_s(settings.batch_wait_s)

    async def _torch(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run in a thread, alone. One who leaves does not wait; the lock stays until the thread has ended."""

        async def locked() -> T:
            async with self._alone:
                return await asyncio.to_thread(work, *args, **options)

        task = asyncio.create_task(locked())
        self._working.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # seen, should nobody wait for it any more

    def check_health(self) -> None:
        """Serve replaces a replica whose engine failed: it may answer nonsense from then on.

        Raises:
            ReplicaError: why it failed.
        """
        self._engine.check()

    async def _joined(self, work: Callable[..., T], adapter: Any, job: ChatJob, caller: Caller, *more: Any) -> T:
        """Encode and cut alone, then answer among others."""
        turn = await self._torch(self._engine.turn, adapter, job, caller)
        return await asyncio.get_running_loop().run_in_executor(self._waiting, work, adapter, turn, *more)

    async def model(self, name: str) -> Any:
        """A loaded adapter; the least recently used one makes room."""
        return await asyncio.to_thread(self._engine.load, name)

    async def _loaded(self, name: str) -> Any:
        """The same, loaded to the end whoever leaves meanwhile: whoever asks next, `/readyz` too, is glad of it."""
        task = asyncio.ensure_future(self.model(name))
        self._working.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def chat(self, job: ChatJob) -> ChatResult | Problem:
        """One answer, batched with whatever waits beside it."""
        REQUEST.set(job.request_id)
        with left() as caller:
            adapter = await self._loaded(serve.get_multiplexed_model_id()) if self._may_join else None
            if adapter is not None and joins(adapter, job):
                try:
                    outcome = await self._joined(self._engine.one, adapter, job, caller)
                except Exception as error:
                    outcome = error
                return problem_from(outcome) if isinstance(outcome, Exception) else outcome
            most = self._settings.batch_size
            size = most if alone(job) else min(most, max(1, math.ceil(job.megapixels / MEGAPIXELS_PER_PLACE)))
            outcome = await self.answer_batch(Seat(serve.get_multiplexed_model_id(), job, caller, size))
        return problem_from(outcome) if isinstance(outcome, Exception) else outcome

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005, batch_size_fn=places_of)
    async def answer_batch(self, waiting: list[Seat]) -> list[ChatResult | Exception]:
        """Answers of all that waited, model by model."""
        results: list[ChatResult | Exception | None] = [None] * len(waiting)
        for name in dict.fromkeys(seat.model for seat in waiting):
            places = [place for place, seat in enumerate(waiting) if seat.model == name]
            jobs, callers = [waiting[p].job for p in places], [waiting[p].caller for p in places]
            try:
                adapter = await self._loaded(name)
                made = await self._torch(self._engine.answer, adapter, jobs, callers)
            except Exception as error:
                made = [error] * len(places)
            for place, result in zip(places, made, strict=True):
                results[place] = result
        return [result for result in results if result is not None]

    async def stream(self, job: ChatJob) -> AsyncIterator[Piece | ChatResult | Problem]:
        """Pieces of text as they appear, then the result."""
        REQUEST.set(job.request_id)
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | ChatResult | Problem] = asyncio.Queue()
        caller = Caller()

        def emit(piece: Piece) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        async def work() -> None:
            try:
                adapter = await self._loaded(serve.get_multiplexed_model_id())
                if joins(adapter, job):
                    pieces.put_nowait(await self._joined(self._engine.told, adapter, job, caller, emit))
                else:
                    pieces.put_nowait(await self._torch(self._engine.stream, adapter, job, emit, caller))
            except Exception as error:
                pieces.put_nowait(problem_from(error))

        task = asyncio.create_task(work())
        try:
            while True:
                piece = await pieces.get()
                yield piece
                if not isinstance(piece, Piece):
                    return
        finally:
            caller.gone = True  # the generation ends at its next token
            task.cancel()

    async def explain(
        self, picture: bytes, question: str, prunings: list[PruningRequest], options: dict[str, Any]
    ) -> dict[str, Any] | Problem:
        """The engine's explanation."""
        REQUEST.set(options.pop("request_id"))
        try:
            with left() as caller:
                adapter = await self._loaded(serve.get_multiplexed_model_id())
                options |= {"caller": caller}
                return await self._torch(self._engine.explain, adapter, picture, question, prunings, **options)
        except Exception as error:
            return problem_from(error)

    async def ready(self, name: str) -> bool:
        """Whether the first model is loaded."""
        await self._loaded(name)
        return True


def ongoing(settings: ServeSettings) -> int:
    """Requests that one replica works on at once: two batches, or all that a vLLM may batch."""
    most = 2 * settings.batch_size
    return most if engine_of(settings.model_args) == OURS else max(most, settings.limits.queued)


def replica_class(models: int) -> type[ModelReplica]:
    """The replica that holds so many models at most."""

    class Sized(ModelReplica):
        model = serve.multiplexed(max_num_models_per_replica=models)(ModelReplica.model)

    return Sized
