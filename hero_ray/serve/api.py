"""The HTTP routes. They translate: models answer behind `Backend`, sweeps and results behind `Desk`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from hero_ray.core.version import __version__
from hero_ray.serve.completions import completion, events
from hero_ray.serve.desk import Desk
from hero_ray.serve.engine_types import ChatJob, ChatResult
from hero_ray.serve.guard import Guard
from hero_ray.serve.observe import Metrics
from hero_ray.serve.problems import Problem, problem_from, replica_lost
from hero_ray.serve.requests import chat_job, picture_bytes
from hero_ray.serve.schemas import ChatRequest, Completion, ErrorBody, ExplainRequest, PruningRequest, SweepRequest
from hero_ray.serve.settings import Limits, ServeSettings, Tokens

T = TypeVar("T")


class Backend(Protocol):
    """Where models live; Ray Serve handles in production."""

    async def chat(self, model: str, job: ChatJob) -> ChatResult:
        """One answer; raises `Problem`."""
        ...

    def stream(self, model: str, job: ChatJob) -> AsyncIterator[str | ChatResult]:
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


def build_api(
    settings: ServeSettings,
    backend: Backend,
    desk: Desk,
    metrics: Metrics | None = None,
    tokens: Tokens | None = None,
) -> FastAPI:
    """The application, from typed settings."""
    metrics = metrics or Metrics()
    api = FastAPI(
        responses=ERRORS,
        title="hero_ray",
        version=__version__,
        description="Vision-language models with visual-token pruning, in OpenAI's form; sweeps and results.",
    )
    _handlers(api)
    _inference(api, settings, backend, metrics)
    _results(api, desk)

    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The API process lives."""
        return {"status": "ok"}

    @api.get("/readyz")
    async def readyz() -> dict[str, str]:
        """A model replica answers."""
        if not await _within(backend.ready(), 5.0):
            raise Problem(503, "no model replica answers yet", "server_error", code="not_ready")
        return {"status": "ready"}

    @api.get("/metrics", response_class=PlainTextResponse)  # the Prometheus text format, which is plain text
    async def prometheus() -> Response:
        """Prometheus metrics of this API process."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    api.add_middleware(Guard, limits=settings.limits, tokens=tokens or Tokens.from_environment(), metrics=metrics)
    api.openapi = lambda: _document(api)  # type: ignore[method-assign]
    return api


def _document(api: FastAPI) -> dict[str, Any]:
    """FastAPI's OpenAPI document, without the 422 that this service never sends, and with the bearer token."""
    if api.openapi_schema is None:
        made = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
        for operations in made["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        components = made["components"]
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{}, {"token": []}]  # none needed on a loopback service without tokens
        api.openapi_schema = made
    return api.openapi_schema


def _handlers(api: FastAPI) -> None:
    def shaped(problem: Problem) -> JSONResponse:
        return JSONResponse(problem.body(), problem.status, headers=problem.headers)

    @api.exception_handler(Problem)
    async def on_problem(_: Request, problem: Problem) -> JSONResponse:
        return shaped(problem)

    @api.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return shaped(Problem(400, f"{where or 'body'}: {first['msg']}", param=where or None))

    @api.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        return shaped(Problem(error.status_code, str(error.detail), headers=dict(error.headers or {})))

    @api.exception_handler(Exception)
    async def on_anything(_: Request, error: Exception) -> JSONResponse:
        return shaped(problem_from(error))


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "model": ErrorBody}
    for status, text in {
        400: "the request cannot be understood",
        401: "no valid token",
        403: "the token's role does not suffice",
        404: "unknown model or id",
        405: "this path has no such method",
        408: "the body came too slowly",
        413: "the body is too large",
        429: "too many requests; see Retry-After",
        500: "the server could not finish this request",
        503: "no replica or database now",
        504: "the request took too long",
    }.items()
}


STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the completion; with `stream` true, server-sent events of `chat.completion.chunk`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def _inference(api: FastAPI, settings: ServeSettings, backend: Backend, metrics: Metrics) -> None:
    in_flight = 0

    def leave() -> None:
        nonlocal in_flight
        in_flight -= 1

    def admit(model: str, request: Request) -> None:
        nonlocal in_flight
        if model not in settings.models:
            known = ", ".join(settings.models)
            raise Problem(404, f"unknown model; this service has {known}", param="model", code="model_not_found")
        if in_flight >= settings.limits.queued:
            raise Problem(
                429,
                "too many requests are waiting",
                "rate_limit_error",
                code="queue_full",
                headers={"retry-after": "1"},
            )
        in_flight += 1
        request.state.release = leave  # the guard calls it when the last byte is out, or the client is gone

    async def limited(work: Awaitable[T]) -> T:
        try:
            return await _within(work, settings.limits.request_seconds)
        except Problem as problem:
            if problem.status == 504 and backend.lost(settings.limits.request_seconds):  # not slow but gone
                raise replica_lost() from None
            raise

    @api.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """Models this service answers with."""
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "hero_ray"} for name in settings.models]
        return {"object": "list", "data": rows}

    @api.post("/v1/chat/completions", response_model=Completion, responses=STREAMED)
    async def chat(body: ChatRequest, request: Request) -> Any:
        """A chat completion about at most one picture, its visual tokens pruned as `pruning` says."""
        job = chat_job(body, settings.limits)
        admit(body.model, request)
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        if body.stream:
            usage = bool(body.stream_options and body.stream_options.include_usage)
            pieces = backend.stream(body.model, job)
            first = await limited(anext(pieces))  # a request that fails at once gets a status, not an event
            stream = events(first, pieces, answer_id, body.model, usage, settings, metrics)
            return StreamingResponse(stream, media_type="text/event-stream")
        result = await limited(backend.chat(body.model, job))
        metrics.count_tokens(body.model, result.visual)
        metrics.batch.observe(result.batch)
        for stage, seconds in result.seconds.items():
            metrics.stages.labels(stage).observe(seconds)
        return completion(answer_id, body.model, result)

    _explanation(api, settings.limits, backend, admit, limited)


def _explanation(
    api: FastAPI,
    limits: Limits,
    backend: Backend,
    admit: Callable[[str, Request], None],
    limited: Callable[[Awaitable[dict[str, Any]]], Awaitable[dict[str, Any]]],
) -> None:
    @api.post("/v1/explain")
    async def explain(body: ExplainRequest, request: Request) -> dict[str, Any]:
        """Answer, kept masks, budgets, scores, ledger and timings of one picture under several prunings."""
        if len(body.question) > limits.prompt_chars:
            raise Problem(400, f"the question is over {limits.prompt_chars} characters", param="question")
        if len(body.pruning) > limits.explain_pairs:
            raise Problem(400, f"{len(body.pruning)} prunings; the limit is {limits.explain_pairs}", param="pruning")
        if body.max_tokens > limits.new_tokens:
            raise Problem(400, f"max_tokens is over {limits.new_tokens}", param="max_tokens")
        options = {
            "max_new_tokens": body.max_tokens,
            "scores": body.scores,
            "overlay": body.overlay,
            "max_pixels": limits.pixels,
        }
        picture = picture_bytes(body.image, "image")
        admit(body.model, request)
        return await limited(backend.explain(body.model, picture, body.question, body.pruning, options))


def _results(api: FastAPI, desk: Desk) -> None:
    @api.post("/v1/sweeps", status_code=202)
    async def submit(body: SweepRequest) -> dict[str, Any]:
        """Validate a sweep and submit it as a Ray job."""
        return await asyncio.to_thread(desk.submit, body.config)

    @api.get("/v1/sweeps")
    async def sweeps(limit: int = Query(default=50, ge=1, le=500)) -> dict[str, Any]:
        """Runs in the database, newest first."""
        return {"data": await asyncio.to_thread(desk.runs, limit)}

    @api.get("/v1/sweeps/{sweep_id}")
    async def sweep(sweep_id: str) -> dict[str, Any]:
        """Progress of one sweep."""
        return await asyncio.to_thread(desk.run, sweep_id)

    @api.delete("/v1/sweeps/{sweep_id}")
    async def cancel(sweep_id: str) -> dict[str, Any]:
        """Ask a sweep to stop after the units in flight; it stays resumable."""
        return await asyncio.to_thread(desk.cancel, sweep_id)

    @api.get("/v1/frontier")
    async def frontier(run: str = "latest", benchmark: str | None = None) -> dict[str, Any]:
        """Points with intervals and costs, and whether they are on the frontier."""
        return await asyncio.to_thread(desk.frontier, run, benchmark)

    @api.get("/v1/cells")
    async def cells(run: str = "latest") -> dict[str, Any]:
        """Cells of a run with their progress."""
        return await asyncio.to_thread(desk.cells, run)

    @api.get("/v1/published")
    async def published() -> dict[str, Any]:
        """The papers' own numbers."""
        return await asyncio.to_thread(desk.published)


async def _within(work: Awaitable[T], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise Problem(504, f"no answer within {seconds:g} s", "timeout_error", code="timeout") from None
    except Problem:
        raise
    except Exception as error:
        raise problem_from(error) from None
