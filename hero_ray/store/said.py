"""What cells answered and how it was scored, many cells at a time: what aggregates are made of. Nothing here writes.

The database strings a cell's texts together, which takes less time than to hand over a row an answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from hero_ray.store import packed
from hero_ray.store.writes import numbers_of

BETWEEN = "\x1f"
"""Stands between texts; a cell with a text that holds it is read row by row. JSON writes it as an escape."""

_ANSWERED = "FROM outcomes WHERE {} AND error_type IS NULL"
_JOINED = (
    "SELECT cell, group_concat(sample), group_concat(text, char(31)), group_concat(coalesce(scores, ''), char(31)) "
    f"{_ANSWERED.format('cell = ?')} GROUP BY cell"
)
_PACKED = (
    "SELECT cell, string_agg(int8send(sample), ''), string_agg(text, chr(31)), "
    "string_agg(coalesce(CAST(scores AS text), ''), chr(31)) "
    f"{_ANSWERED.format('cell = ANY(CAST(%s AS int[]))')} GROUP BY cell"
)
_ROWS = f"SELECT sample, text, coalesce(CAST(scores AS text), '') {_ANSWERED.format('cell = {}')}"


@dataclass(frozen=True)
class Said:
    """The answers of a cell, failures left out, in any one order.

    Attributes:
        numbers: of their questions (`samples.by_number`): [n].
        texts: what was said: [n].
        scores: of each: [n]; equal ones are one mapping, since a cell has few kinds and to parse each takes longer
            than to read it.
    """

    numbers: NDArray[np.int64]
    texts: list[str]
    scores: list[dict[str, Any]]


def said(connection: Connection, run_id: str, cell_ids: Sequence[str]) -> dict[str, Said]:
    """The answers of cells, by cell id; of a cell without any there is no entry. All of them are held at a time."""
    names = numbers_of(connection, run_id, cell_ids)
    sqlite, kinds = connection.dialect.name == "sqlite", dict[str, dict[str, Any]]()
    rows = _joined(connection, names.values()) if sqlite else _packed(connection, names.values())
    found = {}
    for cell, listed, texts, scores in rows:
        numbers = packed.integers(listed)
        words, marks = texts.split(BETWEEN), scores.split(BETWEEN)
        if len(words) != len(numbers):
            one_by_one = connection.exec_driver_sql(_ROWS.format("?" if sqlite else "%s"), (cell,)).all()
            samples, words, marks = (list(column) for column in zip(*one_by_one, strict=True))
            numbers = np.array(samples, dtype=np.int64)
        kinds |= {mark: json.loads(mark or "{}") or {} for mark in set(marks) - kinds.keys()}
        found[cell] = Said(numbers, words, [kinds[mark] for mark in marks])
    return {name: found[number] for name, number in names.items() if number in found}


def _joined(connection: Connection, numbers: Collection[int]) -> list[Any]:
    """SQLite's: the rows of a cell lie together."""
    return [row for number in numbers for row in connection.exec_driver_sql(_JOINED, (number,)).all()]


def _packed(connection: Connection, numbers: Collection[int]) -> list[Any]:
    """PostgreSQL's: rows of cells lie mixed, so that one scan serves them all."""
    if not numbers:
        return []
    return list(connection.exec_driver_sql(_PACKED, (packed.array(numbers),)).all())
