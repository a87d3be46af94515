"""From a chat request to a job: turns of one conversation, at most one picture, data URLs only."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import Any

from hero_ray.serve.engine_types import ChatJob
from hero_ray.serve.observe import REQUEST
from hero_ray.serve.problems import Problem
from hero_ray.serve.schemas import (
    MOST_LOGPROBS,
    ChatRequest,
    ExplainRequest,
    ImagePart,
    Message,
    PruningRequest,
    TextPart,
)
from hero_ray.serve.settings import Limits
from hero_ray.serve.work import megapixels, work_of

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+)(?:;[a-z0-9-]+=[^;,]*)*;base64", re.IGNORECASE)
MOST_HEAD_CHARACTERS = 256
LEAST_TOP_P = 1e-9
"""What 0 stands for: the likeliest token alone."""
NO_TEXT = "Describe the picture."
"""What a picture without text is asked; the models' prompts have no form without a question."""
_NOT_PICTURES = ("image/svg+xml",)


def chat_job(request: ChatRequest, limits: Limits) -> ChatJob:
    """A validated job.

    Raises:
        Problem: 400 with the parameter that is wrong.
    """
    if request.top_logprobs and not request.logprobs:
        raise Problem(400, "top_logprobs goes with logprobs: true", param="top_logprobs")
    system = "\n".join(_text(m.content) for m in request.messages if m.role in ("system", "developer"))
    turns = [message for message in request.messages if message.role in ("user", "assistant")]
    pictures = _pictures(turns)
    said = [_text(message.content).strip() for message in turns]
    first = said[0] = said[0] or (NO_TEXT if pictures else "")
    if "" in said[::2]:
        raise Problem(400, "a user message has no text", param="messages")
    said[0] = "\n".join(filter(None, (system.strip(), first)))
    if (size := sum(map(len, said))) > limits.prompt_chars:
        raise Problem(400, f"the prompt has {size} characters; the limit is {limits.prompt_chars}", param="messages")
    pruning = request.pruning or PruningRequest()
    last = said[-1] if len(said) > 1 else first
    asked = request.max_completion_tokens or request.max_tokens or min(256, limits.new_tokens)
    if asked > limits.new_tokens:
        raise Problem(400, f"max_tokens is {asked}; the limit is {limits.new_tokens}", param="max_tokens")
    picture = picture_bytes(pictures[0].url) if pictures else None
    return ChatJob(
        text=said[-1],
        question=first if pruning.by_question == "first" else last,
        image=picture,
        pruning=pruning,
        max_new_tokens=asked,
        temperature=request.temperature or 0.0,
        top_p=1.0 if request.top_p is None else max(request.top_p, LEAST_TOP_P),
        seed=secrets.randbits(31) if request.seed is None else request.seed % 2**31,
        stops=request.stops,
        max_pixels=limits.pixels,
        megapixels=megapixels(picture, limits, "messages"),
        request_id=REQUEST.get(),
        history=tuple(zip(said[:-1:2], said[1:-1:2], strict=True)),
        choices=request.n or 1,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def _pictures(turns: list[Message]) -> list[ImagePart]:
    """The pictures of a conversation, whose form is checked.

    Raises:
        Problem: 400; turns that do not alternate, a second picture, or one that does not open the conversation.
    """
    for place, message in enumerate(turns):
        if message.role != ("user", "assistant")[place % 2]:
            raise Problem(
                400,
                f"message {place + 1} without the system's is the {message.role}'s; send user and assistant messages "
                "in turn, the user's first and last",
                param="messages",
            )
    if len(turns) % 2 == 0:
        raise Problem(400, "a user message must end the conversation; it is the one to be answered", param="messages")
    found = [
        [] if isinstance(message.content, str) else [part for part in message.content if isinstance(part, ImagePart)]
        for message in turns
    ]
    if (count := sum(map(len, found))) > 1:
        raise Problem(
            400, f"{count} pictures were sent; these model families take one per conversation", param="messages"
        )
    if count and not found[0]:
        raise Problem(400, "the picture stands in a later message; send it in the first user message", param="messages")
    return found[0]


def tokens_of(job: ChatJob) -> float:
    """New tokens of all answers to a job, for its work: one whose 20 likeliest alternatives are told is two."""
    return job.choices * job.max_new_tokens * (1 + (job.logprobs or 0) / MOST_LOGPROBS)


def explain_call(request: ExplainRequest, limits: Limits) -> tuple[bytes, dict[str, Any], float]:
    """(picture, options of the engine, work) of a call of `/v1/explain`.

    Raises:
        Problem: 400 with the parameter that is wrong.
    """
    if len(request.question) > limits.prompt_chars:
        raise Problem(400, f"the question is over {limits.prompt_chars} characters", param="question")
    prunings = len(request.pruning)
    if prunings > limits.explain_pairs:
        raise Problem(400, f"{prunings} prunings; the limit is {limits.explain_pairs}", param="pruning")
    if request.max_tokens > limits.new_tokens:
        raise Problem(400, f"max_tokens is over {limits.new_tokens}", param="max_tokens")
    picture = picture_bytes(request.image, "image")
    work = work_of(megapixels(picture, limits, "image"), prunings, request.max_tokens, limits)
    options = {
        "max_new_tokens": request.max_tokens,
        "scores": request.scores,
        "overlay": request.overlay,
        "max_pixels": limits.pixels,
        "request_id": REQUEST.get(),
    }
    return picture, options, work


def _text(content: str | list[TextPart | ImagePart]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, TextPart))


def picture_bytes(url: str, param: str = "messages") -> bytes:
    """Bytes of a data URL; no other URL is ever opened.

    Raises:
        Problem: another scheme, a vector picture, or broken base64.
    """
    head, comma, data = url.strip().partition(",")
    match = _DATA_URL.fullmatch(head) if comma and len(head) <= MOST_HEAD_CHARACTERS else None
    if match is None:
        shown = url[:32].replace("\x00", "?")
        raise Problem(400, f"image_url must be a data URL (data:image/png;base64,...), got {shown!r}", param=param)
    if match[1].lower() in _NOT_PICTURES:
        raise Problem(400, f"{match[1]} is not a raster picture; send PNG, JPEG or WebP", param=param)
    try:
        return base64.b64decode(data.encode("ascii").translate(None, b" \t\r\n\f\v"), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "the picture's base64 is broken", param=param) from None
