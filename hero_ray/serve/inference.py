"""The routes that ask a model: chat, explain, and which models there are."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from hero_ray.serve.completions import completion, events
from hero_ray.serve.engine_types import ChatJob, ChatResult, Piece
from hero_ray.serve.observe import Metrics
from hero_ray.serve.problems import Problem, problem_from, replica_lost
from hero_ray.serve.requests import chat_job, explain_call, tokens_of
from hero_ray.serve.schemas import ChatRequest, Completion, ExplainRequest, Model, ModelList, PruningRequest
from hero_ray.serve.settings import Limits, ServeSettings
from hero_ray.serve.work import work_of

T = TypeVar("T")


class Backend(Protocol):
    """Where models live; Ray Serve handles in production."""

    async def chat(self, model: str, job: ChatJob) -> ChatResult:
        """One answer; raises `Problem`."""
        ...

    def stream(self, model: str, job: ChatJob) -> AsyncIterator[Piece | ChatResult]:
        """Pieces of text, then the result."""
        ...

    async def explain(
        self, model: str, picture: bytes, question: str, prunings: list[PruningRequest], options: dict[str, Any]
    ) -> dict[str, Any]:
        """The engine's explanation."""
        ...

    async def ready(self) -> bool:
        """Whether a replica answers."""
        ...

    def lost(self, within_s: float) -> bool:
        """Whether a replica died in the last `within_s` seconds, or before and no answer has come since."""
        ...


class Places:
    """Room for what is in flight: so many requests, and so much work."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._taken, self._work = limits, 0, 0.0

    def enter(self, request: Request, work: float) -> None:
        """Take a place; the guard gives it back when the last byte is out, or the client is gone.

        Raises:
            Problem: 429; all places are taken, or what waits is already worth minutes.
        """
        most = self._limits.queued
        free = self._taken < most and (not self._taken or self._work + work <= self._limits.queued_work)
        request.state.places = (most, max(0, most - self._taken - 1) if free else 0)
        if not free:
            headers = {"retry-after": "1"}
            raise Problem(429, "too many requests are waiting", "rate_limit_error", code="queue_full", headers=headers)
        self._taken += 1
        self._work += work

        def leave() -> None:
            self._taken -= 1
            self._work -= work

        request.state.release = leave


STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the completion; with `stream` true, server-sent events of `chat.completion.chunk`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def inference(api: FastAPI, settings: ServeSettings, backend: Backend, metrics: Metrics) -> None:
    """Add the routes."""
    limits, places = settings.limits, Places(settings.limits)
    cards = {name: {"id": name, "object": "model", "created": 0, "owned_by": "hero_ray"} for name in settings.models}

    def card(model: str) -> dict[str, Any]:
        if model not in cards:
            known = ", ".join(cards)
            raise Problem(404, f"unknown model; this service has {known}", param="model", code="model_not_found")
        return cards[model]

    async def limited(work: Awaitable[T]) -> T:
        try:
            return await within(work, limits.request_seconds)
        except Problem as problem:
            if problem.status == 504 and backend.lost(limits.request_seconds):  # not slow but gone
                raise replica_lost() from None
            raise

    @api.get("/v1/models", response_model=ModelList)
    async def list_models() -> dict[str, Any]:
        """Models this service answers with."""
        return {"object": "list", "data": list(cards.values())}

    @api.get("/v1/models/{model:path}", response_model=Model)
    async def one_model(model: str) -> dict[str, Any]:
        """One of them."""
        return card(model)

    @api.post("/v1/chat/completions", response_model=Completion, responses=STREAMED)
    async def chat(body: ChatRequest, request: Request) -> Any:
        """A chat about at most one picture, its visual tokens pruned as `pruning` says; up to 8 answers to it."""
        card(body.model)
        job = await asyncio.to_thread(chat_job, body, limits)
        places.enter(request, work_of(job.megapixels, 1, tokens_of(job), limits))
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        if body.stream:
            usage = bool(body.stream_options and body.stream_options.include_usage)
            pieces = backend.stream(body.model, job)
            first = await limited(anext(pieces))  # a request that fails at once gets a status, not an event
            stream = events(first, pieces, job.choices, answer_id, body.model, usage, settings, metrics)
            return StreamingResponse(stream, media_type="text/event-stream")
        result = await limited(backend.chat(body.model, job))
        metrics.count_tokens(body.model, result.visual)
        metrics.batch.observe(result.batch)
        for stage, seconds in result.seconds.items():
            metrics.stages.labels(stage).observe(seconds)
        return completion(answer_id, body.model, result)

    @api.post("/v1/explain")
    async def explain(body: ExplainRequest, request: Request) -> dict[str, Any]:
        """Answer, kept masks, budgets, scores, ledger and timings of one picture under several prunings."""
        card(body.model)
        picture, options, work = await asyncio.to_thread(explain_call, body, limits)
        places.enter(request, work)
        return await limited(backend.explain(body.model, picture, body.question, body.pruning, options))


async def within(work: Awaitable[T], seconds: float) -> T:
    """What `work` gives; raises: Problem: its own, 504 after so many seconds, or 500 for what nobody foresaw."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise Problem(504, f"no answer within {seconds:g} s", "timeout_error", code="timeout") from None
    except Problem:
        raise
    except Exception as error:
        raise problem_from(error) from None
