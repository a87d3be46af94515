"""Errors in OpenAI's shape. Nothing in them tells of paths, stacks or secrets."""

from __future__ import annotations

import json
import traceback
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
from hero_ray.serve.observe import access_logger


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
        message = message.encode("utf-8", "replace").decode()  # a lone surrogate of the caller's cannot be sent back
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
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


def _log_unknown(error: BaseException) -> None:
    """Type and stack of an error that nobody foresaw; its message may hold what the caller sent and stays out."""
    place = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    access_logger().error(json.dumps({"event": "internal error", "error": type(error).__name__, "stack": place[-12:]}))


def replica_lost() -> Problem:
    """The process that held the model died; another one is on its way."""
    headers = {"retry-after": "5"}
    return Problem(503, "the model replica was lost", "server_error", code="replica_lost", headers=headers)
