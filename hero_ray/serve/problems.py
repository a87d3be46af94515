"""Errors in OpenAI's shape. Nothing in them tells of paths, stacks or secrets."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hero_ray.core.errors import (
    BudgetError,
    CheckpointError,
    DeviceMemoryError,
    HeroRayError,
    ImageError,
    InputError,
    NonFiniteScoreError,
    ParameterError,
    PromptError,
    StoreError,
    UnknownNameError,
)
from hero_ray.serve.observe import REQUEST, access_logger

MOST_CHARACTERS = 1000
"""Of a message: it may repeat what was sent."""


def _bounded(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


class Problem(Exception):
    """An answer that is an error: HTTP status, type, message, and which parameter caused it."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        # A lone surrogate of the caller's cannot be sent back.
        message = _bounded(message, MOST_CHARACTERS).encode("utf-8", "replace").decode()
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        if param is not None:
            self.param = _bounded(param, 100).encode("utf-8", "replace").decode()
        self.headers = headers or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.message, self.kind, self.param, self.code, self.headers)

    def body(self) -> dict[str, Any]:
        """`{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


_PARAMS: tuple[tuple[type[HeroRayError], str], ...] = (
    (ImageError, "messages"),
    (PromptError, "messages"),
    (BudgetError, "pruning.retention_ratio"),
    (ParameterError, "pruning"),
)


def problem_from(error: BaseException) -> Problem:
    """Our own errors keep their message; anything else becomes a plain 500."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, UnknownNameError):
        return Problem(
            400 if error.kind != "model" else 404, str(error), param=error.kind, code=f"unknown_{error.kind}"
        )
    if isinstance(error, DeviceMemoryError):
        return Problem(503, "the device is out of memory; try fewer tokens", "server_error", code="out_of_memory")
    if isinstance(error, NonFiniteScoreError):
        return Problem(500, str(error), "server_error", code="not_finite")
    if isinstance(error, StoreError):
        return Problem(503, "the results database cannot be used now", "server_error", code="store_unavailable")
    if isinstance(error, CheckpointError):  # its message names folders
        return Problem(503, "the model cannot be loaded on this service", "server_error", code="model_unavailable")
    if isinstance(error, InputError):
        param = next((name for kind, name in _PARAMS if isinstance(error, kind)), None)
        return Problem(400, str(error), param=param)
    _log_unknown(error)
    return Problem(500, "the server could not finish this request", "server_error", code="internal_error")


def invalid(errors: Sequence[Mapping[str, Any]], body: Any) -> Problem:
    """What validation found, as one 400 about the place in the body that was sent.

    A union reports one error for each of its forms: the one that got deepest is about the form that was meant.
    """
    places = [".".join(_place(error, body)) for error in errors[:20]]
    where, error = max(zip(places, errors, strict=False), key=lambda pair: pair[0].count(".") + bool(pair[0]))
    if param := error.get("ctx", {}).get("param"):
        return Problem(400, f"{param}: {error['msg']}", param=param, code="unsupported_parameter")
    return Problem(400, f"{where or 'body'}: {error['msg']}", param=where or None)


def _place(error: Mapping[str, Any], body: Any) -> Iterator[str]:
    """Parts of an error's place that the sender knows; pydantic names its own types among them."""
    source, *parts = error["loc"]
    if source != "body":
        yield from map(str, parts)
        return
    for part in parts:
        inside = isinstance(body, Mapping) and part in body
        if inside or (isinstance(body, list) and isinstance(part, int) and part < len(body)):
            body = body[part]
            yield str(part)
    if error["type"] == "missing" and isinstance(body, Mapping):
        yield str(parts[-1])


def _log_unknown(error: BaseException) -> None:
    """Type and stack of an error that nobody foresaw; its message may hold what the caller sent and stays out."""
    place = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    record = {"event": "internal error", "request_id": REQUEST.get(), "error": type(error).__name__}
    access_logger().error(json.dumps(record | {"stack": place[-12:]}))


def replica_lost() -> Problem:
    """The process that held the model died; another one is on its way."""
    headers = {"retry-after": "5"}
    return Problem(503, "the model replica was lost", "server_error", code="replica_lost", headers=headers)
