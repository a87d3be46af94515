"""Stored figures of servers under load: which rows they are, and what a cell gains over the one it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.stats.crossing import Gain

LOAD = "load"
"""Kind of certificate under which they stand; they share an axis with no other."""

Row = Mapping[str, Any]


def is_load(row: Row) -> bool:
    """Whether a profile record, or a row of the table `profiles`, is of a server under load."""
    return (row.get("certificate") or {}).get("kind") == LOAD


def by_cell(rows: Sequence[Row], name: str = "key") -> dict[tuple[str, float], list[Row]]:
    """(name, share kept) -> a cell's rows by number of clients.

    Args:
        name: which entry of a row names its cell.
    """
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row[name], row["retention_ratio"]), []).append(row)
    return {key: sorted(group, key=lambda row: int(row["batch_size"])) for key, group in groups.items()}


def gains_of(rows: Sequence[Row], figure: str) -> tuple[list[int], list[Gain]]:
    """Numbers of clients and the gains there, of one cell's rows; where a request failed there is none.

    Args:
        figure: `requests_per_s` or `ttft_ms_p95`.
    """
    told = [(int(row["batch_size"]), (row["details"]["load"]["over_base"] or {}).get(figure)) for row in rows]
    known = [(clients, Gain(**found)) for clients, found in told if found]
    return [clients for clients, _ in known], [one for _, one in known]
