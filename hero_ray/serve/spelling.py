"""How an answer is spelled: stop strings, what may be shown of an unfinished text, and the text of single tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hero_ray.models.draws import TokenChance

_BEFORE = 8
"""Tokens in front of one whose text is read: the text of a whole character, and white space, depends on them."""


def before_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Text before the first stop string, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def showable(text: str, stops: Sequence[str]) -> str:
    """The part of an unfinished text that later tokens cannot take back.

    Held back: whitespace at the ends, an unfinished character, and an end that may grow into a stop string.
    """
    text, stopped = before_stop(text.strip(), stops)
    text = text.rstrip("\ufffd")
    longest = 0 if stopped else max(map(len, stops), default=0) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            text = text[:-size]
            break
    return text.rstrip()


class StopWatch:
    """Looks at an answer as it grows; called with its next token, it says whether a stop string is there."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops, self._ids = tokenizer, stops, list[int]()

    def __call__(self, token: int) -> bool:
        if not self._stops:
            return False
        self._ids.append(token)
        return before_stop(self._tokenizer.decode(self._ids).strip(), self._stops)[1]


def tokens_until(tokenizer: Any, ids: Sequence[int], stops: Sequence[str]) -> int:
    """How many tokens an answer took, up to the one that completes a stop string."""
    for count in range(1, len(ids)) if stops else ():
        if before_stop(tokenizer.decode(ids[:count]).strip(), stops)[1]:
            return count
    return len(ids)


def openai_logprobs(tokenizer: Any, before: Sequence[int], chances: Sequence[TokenChance], most: int) -> list[Any]:
    """Entries of OpenAI's `logprobs.content`, one per token.

    Args:
        before: the answer's tokens in front of the first of `chances`.
        most: alternatives told of each.
    """
    ids, found = list(before), []
    for chance in chances:
        near = ids[-_BEFORE:]
        entry = _entry(tokenizer, near, chance.token, chance.logprob)
        entry["top_logprobs"] = [_entry(tokenizer, near, *one) for one in chance.likeliest[:most]]
        found.append(entry)
        ids.append(chance.token)
    return found


def _entry(tokenizer: Any, before: list[int], token: int, logprob: float) -> dict[str, Any]:
    """Text and bytes that a token adds to those before it; no bytes of what is part of a character alone."""
    start, whole = tokenizer.decode(before), tokenizer.decode([*before, token])
    text = whole[len(start) :] if whole.startswith(start) else tokenizer.decode([token])
    broken = "\ufffd" in text or start.endswith("\ufffd")
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": None if broken else list(text.encode())}
