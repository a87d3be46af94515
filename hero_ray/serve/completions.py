"""Chat results in OpenAI's form, whole or as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from hero_ray.serve.engine_types import ChatResult
from hero_ray.serve.observe import Metrics
from hero_ray.serve.problems import Problem, problem_from
from hero_ray.serve.settings import ServeSettings


def usage_of(result: ChatResult) -> dict[str, Any]:
    """Token counts, visual ones apart."""
    return {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "total_tokens": result.prompt_tokens + result.completion_tokens,
        "visual_tokens": result.visual or None,
    }


def completion(answer_id: str, model: str, result: ChatResult) -> dict[str, Any]:
    """OpenAI's `chat.completion`."""
    message = {"role": "assistant", "content": result.text, "refusal": None}
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": result.finish, "logprobs": None}],
        "usage": usage_of(result),
    }


async def events(
    first: str | ChatResult,
    pieces: AsyncIterator[str | ChatResult],
    answer_id: str,
    model: str,
    usage: bool,
    settings: ServeSettings,
    metrics: Metrics,
) -> AsyncIterator[str]:
    """Server-sent events. Status 200 is out already, so a failure comes as an event."""

    def event(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        chunk = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "choices": choices,
            **more,
        }
        return f"data: {json.dumps(chunk)}\n\n"

    deadline = asyncio.get_running_loop().time() + settings.limits.request_seconds
    piece = first
    try:
        yield event({"role": "assistant", "content": ""})
        while isinstance(piece, str):
            yield event({"content": piece})
            async with asyncio.timeout_at(deadline):  # around the wait alone: a slow reader is no slow model
                piece = await anext(pieces)
        metrics.count_tokens(model, piece.visual)
        yield event({}, piece.finish)
        if usage:
            yield event(None, usage=usage_of(piece))
    except TimeoutError:
        problem = Problem(504, "the answer took too long", "timeout_error", code="timeout")
        yield f"data: {json.dumps(problem.body())}\n\n"
    except Exception as error:
        yield f"data: {json.dumps(problem_from(error).body())}\n\n"
    finally:
        with contextlib.suppress(Exception):
            await pieces.aclose()  # type: ignore[attr-defined]
    yield "data: [DONE]\n\n"
