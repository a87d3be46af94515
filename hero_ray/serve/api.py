"""The HTTP routes. They translate: models answer behind `Backend`, sweeps and results behind `Desk`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from hero_ray.core.version import __version__
from hero_ray.serve.desk import Desk
from hero_ray.serve.guard import RATE, Guard
from hero_ray.serve.inference import Backend, inference, within
from hero_ray.serve.observe import Metrics
from hero_ray.serve.problems import Problem, invalid, problem_from
from hero_ray.serve.schemas import ErrorBody, SweepRequest
from hero_ray.serve.settings import ServeSettings, Tokens

DOCS = Path(__file__).with_name("docs.html")
DOCS_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""The page loads nothing from anywhere, talks to this service alone and stands in no other page, where its token would
be typed into a stranger's."""


DESK_THREADS = 3
"""Of Python's pool, whose least size is five: who asks for large tables must leave some to those who ask models."""
T = TypeVar("T")


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
        docs_url=None,  # those pages load their scripts from elsewhere and cannot send a token
        redoc_url=None,
    )
    _handlers(api)
    inference(api, settings, backend, metrics)
    _results(api, desk)

    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The API process lives."""
        return {"status": "ok"}

    @api.get("/readyz")
    async def readyz() -> dict[str, str]:
        """A model replica answers."""
        if not await within(backend.ready(), 5.0):
            raise Problem(503, "no model replica answers yet", "server_error", code="not_ready")
        return {"status": "ready"}

    @api.get("/metrics", response_class=PlainTextResponse)  # the Prometheus text format, which is plain text
    async def prometheus() -> Response:
        """Prometheus metrics of this API process."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @api.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> Response:
        """The page that reads `/openapi.json` with the token that is typed into it."""
        return HTMLResponse(DOCS.read_bytes(), headers={"content-security-policy": DOCS_POLICY})

    def known(scope: Any) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in api.router.routes)

    granted = tokens or Tokens.from_environment()
    api.add_middleware(Guard, settings=settings, tokens=granted, metrics=metrics, known=known)
    if settings.cors_origins:  # outermost: a browser asks without a token whether it may ask
        api.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
            expose_headers=["retry-after", "x-request-id", *(f"x-ratelimit-{name}-requests" for name in RATE)],
        )
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
        return shaped(invalid(error.errors(), error.body))

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
        415: "the body is not JSON",
        429: "too many requests; see Retry-After",
        500: "the server could not finish this request",
        503: "no replica or database now",
        504: "the request took too long",
    }.items()
}


def _results(api: FastAPI, desk: Desk) -> None:
    seats = asyncio.Semaphore(DESK_THREADS)

    async def at_desk(work: Callable[..., T], *given: Any) -> T:
        async with seats:
            return await asyncio.to_thread(work, *given)

    @api.post("/v1/sweeps", status_code=202)
    async def submit(body: SweepRequest) -> dict[str, Any]:
        """Validate a sweep and submit it as a Ray job."""
        return await at_desk(desk.submit, body.config)

    @api.get("/v1/sweeps")
    async def sweeps(limit: int = Query(default=50, ge=1, le=500)) -> dict[str, Any]:
        """Runs in the database, newest first."""
        return {"data": await at_desk(desk.runs, limit)}

    @api.get("/v1/sweeps/{sweep_id}")
    async def sweep(sweep_id: str) -> dict[str, Any]:
        """Progress of one sweep."""
        return await at_desk(desk.run, sweep_id)

    @api.delete("/v1/sweeps/{sweep_id}")
    async def cancel(sweep_id: str) -> dict[str, Any]:
        """Ask a sweep to stop after the units in flight; it stays resumable."""
        return await at_desk(desk.cancel, sweep_id)

    @api.get("/v1/frontier")
    async def frontier(run: str = "latest", benchmark: str | None = None) -> dict[str, Any]:
        """Points with intervals and costs, and whether they are on the frontier."""
        return await at_desk(desk.frontier, run, benchmark)

    @api.get("/v1/cells")
    async def cells(run: str = "latest") -> dict[str, Any]:
        """Cells of a run with their progress."""
        return await at_desk(desk.cells, run)

    @api.get("/v1/published")
    async def published() -> dict[str, Any]:
        """The papers' own numbers."""
        return await at_desk(desk.published)
