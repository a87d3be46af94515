"""What a sweep prints at its end: its table with notes, worked out once for the same figures, and its record.

A finished sweep is asked again more often than it is run; what was said of it then holds as long as the rows it was
made from and the code that made it are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hero_ray.results.writer import Column, Grid, grid
from hero_ray.store import Store, answers, endings

ROOMS = ("core", "stats", "store", "benchmarks", "results")
"""Whose code decides what is said: this room and those it may import."""


GONE = "Its answers were removed (`db prune --answers-only`): straw men are not compared, failures not named."


@dataclass(frozen=True)
class Ending:
    """The table, what its readers must know, and how many samples failed by kind."""

    table: Grid
    notes: Sequence[str]
    failures: Mapping[str, int]


def ending(store: Store, run_id: str, benchmarks: Sequence[str]) -> Ending:
    """What to print of a run that has ended.

    Args:
        benchmarks: the table's columns, in order.
    """
    parts = [_code(), store.read(endings.figures_hash, run_id), *benchmarks]
    made_from = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if kept := store.read(endings.kept, run_id, made_from):
        return _as_kept(kept)
    # What was said while the answers were there is all that is known of them.
    if _removed(store, run_id) and (kept := store.read(endings.kept, run_id)):
        return _as_kept(kept)
    made = work_out(store, run_id, benchmarks)
    store.transaction(endings.keep, run_id, made_from, asdict(made))
    return made


def _as_kept(kept: Mapping[str, Any]) -> Ending:
    columns, rows = kept["table"]["columns"], kept["table"]["rows"]
    return Ending(**{**kept, "table": grid([Column(**one) for one in columns], rows)})


def _removed(store: Store, run_id: str) -> int:
    """How many answers and failures of a run were removed, if all were."""
    return 0 if any(store.totals(run_id)) else sum(cell.n_done + cell.n_failed for cell in store.cells(run_id))


def work_out(store: Store, run_id: str, benchmarks: Sequence[str]) -> Ending:
    """The same from the rows."""
    from hero_ray.results import summary
    from hero_ray.results.contenders import every_model

    found, failures = every_model(store, run_id), store.read(answers.failure_counts, run_id)
    table = summary.table([mark for results in found for mark in results.marks()], benchmarks)
    if not _removed(store, run_id):
        return Ending(table, summary.notes(found, failures), failures)
    failed = sum(cell.n_failed for cell in store.cells(run_id))
    return Ending(table, [*summary.notes(found, {}), GONE], {"errors no longer kept": failed} if failed else {})


@cache
def _code() -> str:
    """Hash of the code that decides what is said, and of the packages that compute."""
    package, found = Path(__file__).parents[1], hashlib.sha256()
    for room in ROOMS:
        for path in sorted((package / room).rglob("*.py")):
            found.update(path.read_bytes())
    return " ".join([found.hexdigest(), version("numpy"), version("scipy")])


def record(store: Store, run_id: str, status: str, cells: int, seconds: float, **more: Any) -> dict[str, Any]:
    """What scripts are told of a sweep that has ended."""
    answered, failures = store.totals(run_id)
    return {
        "run_id": run_id,
        "status": status,
        "cells": cells,
        "samples": answered,
        "failed": failures,
        "db": store.shown_url,
        "seconds": round(seconds, 2),
        **more,
    }
