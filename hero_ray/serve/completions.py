"""Chat results in OpenAI's form, whole or as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from hero_ray.serve.engine_types import ChatResult, Piece
from hero_ray.serve.observe import Metrics
from hero_ray.serve.problems import Problem, problem_from
from hero_ray.serve.settings import ServeSettings


def usage_of(result: ChatResult) -> dict[str, Any]:
    """Token counts, visual ones apart: the prompt once, the tokens of all answers."""
    return {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "total_tokens": result.prompt_tokens + result.completion_tokens,
        "visual_tokens": result.visual or None,
    }


def completion(answer_id: str, model: str, result: ChatResult) -> dict[str, Any]:
    """OpenAI's `chat.completion`."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "finish_reason": choice.finish,
            "logprobs": _logprobs(choice.logprobs),
        }
        for index, choice in enumerate(result.choices)
    ]
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage_of(result),
    }


def _logprobs(content: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    return None if content is None else {"content": content, "refusal": None}


async def events(
    first: Piece | ChatResult,
    pieces: AsyncIterator[Piece | ChatResult],
    choices: int,
    answer_id: str,
    model: str,
    usage: bool,
    settings: ServeSettings,
    metrics: Metrics,
) -> AsyncIterator[str]:
    """Server-sent events. Status 200 is out already, so a failure comes as an event."""

    def event(listed: list[dict[str, Any]], **more: Any) -> str:
        chunk = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "choices": listed,
            **more,
        }
        return f"data: {json.dumps(chunk)}\n\n"

    def one(index: int, delta: dict[str, Any], finish: str | None = None, told: Any = None) -> list[dict[str, Any]]:
        return [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": _logprobs(told)}]

    deadline = asyncio.get_running_loop().time() + settings.limits.request_seconds
    piece = first
    try:
        for index in range(choices):
            yield event(one(index, {"role": "assistant", "content": ""}))
        while isinstance(piece, Piece):
            yield event(one(piece.index, {"content": piece.text}, told=piece.logprobs))
            async with asyncio.timeout_at(deadline):  # around the wait alone: a slow reader is no slow model
                piece = await anext(pieces)
        metrics.count_tokens(model, piece.visual)
        for index, choice in enumerate(piece.choices):
            yield event(one(index, {}, choice.finish))
        if usage:
            yield event([], usage=usage_of(piece))
    except TimeoutError:
        problem = Problem(504, "the answer took too long", "timeout_error", code="timeout")
        yield f"data: {json.dumps(problem.body())}\n\n"
    except Exception as error:
        yield f"data: {json.dumps(problem_from(error).body())}\n\n"
    finally:
        with contextlib.suppress(Exception):
            await pieces.aclose()  # type: ignore[attr-defined]
    yield "data: [DONE]\n\n"
