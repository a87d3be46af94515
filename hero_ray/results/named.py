"""Stored rows in the words of those who look for them: a cell by its method and budget, a question by its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hero_ray.benchmarks.custom import picture_names
from hero_ray.results.names import name_all, seeds_told
from hero_ray.store import CellRow, Store

OWN = "file:"


def cell_names(cells: Sequence[CellRow]) -> dict[str, str]:
    """Cell id -> `hero@20%`, with the seed where there are several, and the model where the cells are of several."""
    names = name_all(cells)
    several = len({cell.model for cell in cells}) > 1
    return {
        cell.id: f"{cell.model} {name.key}{seed}" if several else f"{name.key}{seed}"
        for cell, name, seed in zip(cells, names, seeds_told(cells, names), strict=True)
    }


def question_name(benchmark: str, key: str, extra: Mapping[str, Any] | None) -> str:
    """A question as one finds it: by its row, counted from 1, in data of one's own (and by its id where rows have
    some), else by its key."""
    row = (extra or {}).get("doc_id")
    if not benchmark.startswith(OWN) or not isinstance(row, int):
        return key
    return f"row {row + 1}" if key == str(row) else f"row {row + 1} ({key})"


def failures(store: Store, run_id: str, limit: int) -> list[dict[str, Any]]:
    """Failed samples: cell, benchmark and question by name, what went wrong, and how often it was tried."""
    names = cell_names(store.cells(run_id))
    return [
        {
            "cell": names[row["cell_id"]],
            "benchmark": row["benchmark"],
            "question": question_name(row["benchmark"], row["sample_key"], row["extra"]),
            "error": row["error_type"],
            "message": row["error_message"],
            "attempts": row["attempts"],
        }
        for row in store.failures(run_id, limit=limit)
    ]


def picture_of(benchmark: str) -> Callable[[Mapping[str, Any]], str]:
    """Says which picture a question is about: the file that a row of one's own data names, else the row.

    The file is looked into anew; where it is gone, or holds the pictures themselves, the row stands alone.
    """
    files = picture_names(benchmark.removeprefix(OWN)) if benchmark.startswith(OWN) else []

    def name(extra: Mapping[str, Any]) -> str:
        row = extra.get("doc_id")
        if not isinstance(row, int):
            return ""
        return (files[row] if row < len(files) else "") or f"row {row + 1} of {benchmark}"

    return name
