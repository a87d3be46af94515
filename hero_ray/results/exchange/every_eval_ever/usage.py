"""Tokens and times of one request: what a server said of it, or what our own row counts, as the format's own fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hero_ray.core.errors import DatasetError
from hero_ray.core.plan import ENDPOINT

_TOKENS = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
_TIMES = {"total_ms": "latency_ms", "ttft_ms": "time_to_first_token_ms"}
_REST = {"token_usage": "more_usage", "performance": "more_performance"}
"""Field of the format -> where a record keeps what it says beside the figures above, so that nothing is lost."""
_DERIVED = frozenset({*_TOKENS.values(), *_TIMES.values(), "total_tokens", "generation_time_ms"})


Count = Callable[[str, Mapping[str, Any]], int | None]
"""Tokens of an answer of our own, from its model and its row (`hero_ray.costs.counted.completion_tokens`)."""


def counted(model: str, row: Mapping[str, Any], count: Count) -> dict[str, Any]:
    """`token_usage` of an answer of our own: text and visual tokens that entered the language model, and its own.

    Of an answer's times the rows hold none: timed figures stand in the aggregate, by profile.
    """
    prompt = prompt_tokens(row)
    answer = None if prompt is None else count(model, row)
    if prompt is None or answer is None:
        return {}
    return {"token_usage": {"input_tokens": prompt, "output_tokens": answer, "total_tokens": prompt + answer}}


def prompt_tokens(row: Mapping[str, Any]) -> int | None:
    """Text and visual tokens of the prompt of our own row, None where it holds none."""
    text, visual = row.get("n_text"), row.get("n_visual_llm")
    return None if text is None or visual is None else int(text) + int(visual)


def is_counted(row: Mapping[str, Any], line: Mapping[str, Any]) -> bool:
    """Whether a line's usage is what `counted` made of our row, and so no record that comes in with it.

    Raises:
        DatasetError: the line says another prompt than its row.
    """
    usage = line.get("token_usage")
    if usage is None or line.get("performance") or ENDPOINT in (row.get("scores") or {}):
        return False
    prompt = prompt_tokens(row)
    if prompt is not None and usage["input_tokens"] != prompt:
        raise DatasetError(f"{usage['input_tokens']} input tokens stand beside a row of {prompt}; the file was altered")
    return prompt is not None


def written(scores: Mapping[str, Any] | None) -> dict[str, Any]:
    """`token_usage` and `performance` of an instance, as far as its row knows them.

    `token_usage` needs both counts; the time of generation is that from the first token to the last.
    """
    told = (scores or {}).get(ENDPOINT)
    if not isinstance(told, Mapping):
        return {}
    found: dict[str, Any] = {}
    counts: dict[str, Any] = {theirs: told.get(ours) for ours, theirs in _TOKENS.items()}
    if all(isinstance(count, int) for count in counts.values()):
        more = told.get(_REST["token_usage"]) or {}
        found["token_usage"] = counts | {"total_tokens": more.get("total_tokens", sum(counts.values()))} | more
    times = {theirs: told[ours] for ours, theirs in _TIMES.items() if told.get(ours) is not None}
    if len(times) == len(_TIMES):
        times["generation_time_ms"] = max(0.0, told["total_ms"] - told["ttft_ms"])
    if times:
        found["performance"] = times | (told.get(_REST["performance"]) or {})
    return found


def read(line: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a line's two fields, {} where it has none."""
    usage, times = line.get("token_usage") or {}, line.get("performance") or {}
    found = {ours: usage[theirs] for ours, theirs in _TOKENS.items() if usage.get(theirs) is not None}
    found |= {ours: times[theirs] for ours, theirs in _TIMES.items() if times.get(theirs) is not None}
    rest = {name: _rest(field) for name, field in (("token_usage", usage), ("performance", times))}
    if usage and usage["total_tokens"] != usage["input_tokens"] + usage["output_tokens"]:
        rest["token_usage"]["total_tokens"] = usage["total_tokens"]
    if "generation_time_ms" in times and len(found.keys() & _TIMES.keys()) < len(_TIMES):
        rest["performance"]["generation_time_ms"] = times["generation_time_ms"]
    return found | {_REST[name]: more for name, more in rest.items() if more}


def _rest(field: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in field.items() if key not in _DERIVED and value is not None}
