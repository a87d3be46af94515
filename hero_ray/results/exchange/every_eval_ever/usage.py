"""What a server said of one request, tokens and times: our row's `endpoint` record and the format's own two fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hero_ray.core.plan import ENDPOINT

_TOKENS = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
_TIMES = {"total_ms": "latency_ms", "ttft_ms": "time_to_first_token_ms"}
_REST = {"token_usage": "more_usage", "performance": "more_performance"}
"""Field of the format -> where a record keeps what it says beside the figures above, so that nothing is lost."""
_DERIVED = frozenset({*_TOKENS.values(), *_TIMES.values(), "total_tokens", "generation_time_ms"})


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
