"""Load records as tables: what every cell does under how many clients, and where pruning stops paying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.results.load import by_cell, gains_of
from hero_ray.results.writer import EMPTY, Grid, grid
from hero_ray.stats.crossing import Gain, described, turning

NOT_KNOWN = "n/a"


def load_table(records: Sequence[Mapping[str, Any]]) -> Grid:
    """One row per cell and number of clients: requests a second, time to first text, score, failures."""
    header = "Cell|Kept|Clients|Requests/s|TTFT ms p50|TTFT ms p95|Score|Failed|Requests/s over first|TTFT p95 gain"
    return grid(header.split("|"), [_row(record) for record in records], left=2)


def _row(record: Mapping[str, Any]) -> list[str]:
    load = record["details"]["load"]
    over = load["over_base"] or {}
    return [
        record["key"].rpartition("@")[0],
        f"{100 * record['retention_ratio']:.4g}%",
        str(record["batch_size"]),
        _with_bounds(load["requests_per_s"], load["requests_per_s_low"], load["requests_per_s_high"], ".1f"),
        _number(record["ttft_ms_p50"], ".1f"),
        _number(record["ttft_ms_p95"], ".1f"),
        _with_bounds(load["score"], load.get("score_low"), load.get("score_high"), ".3f"),
        f"{load['failed']}/{load['requests']}",
        *(_gain(over.get(name)) for name in ("requests_per_s", "ttft_ms_p95")),
    ]


def pays_table(records: Sequence[Mapping[str, Any]]) -> Grid:
    """Where every cell pays over the first one, in requests a second and in time to first text; empty with one cell."""
    rows = []
    for (key, ratio), group in by_cell(records).items():
        for name, title in (("requests_per_s", "requests/s"), ("ttft_ms_p95", "TTFT p95")):
            places, gains = gains_of(group, name)
            if places:
                rows.append(
                    [
                        key.rpartition("@")[0],
                        f"{100 * ratio:.4g}%",
                        title,
                        described(places, gains),
                        turning(places, gains),
                    ]
                )
    return grid(["Cell", "Kept", "In", "Over the first cell", "Break-even, clients"], rows, left=3) if rows else EMPTY


def _gain(told: Mapping[str, Any] | None) -> str:
    if not told:
        return "-"
    one = Gain(**told)
    return f"x{_with_bounds(one.ratio, one.low, one.high, '.2f')} {one.word}"


def _with_bounds(value: float | None, low: float | None, high: float | None, form: str) -> str:
    bounds = "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
    return _number(value, form) + ("" if value is None else bounds)


def _number(value: float | None, form: str) -> str:
    return NOT_KNOWN if value is None else format(value, form)
