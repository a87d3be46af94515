"""Main scores of cells as arrays: what intervals, comparisons and charts read, a million at a time.

Cells of a benchmark share their questions, so a reader of many cells keeps an `Asked`, and each question's id and
picture is read once. What is left of a cell are numbers and scores, packed by the database.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from hero_ray.store import packed
from hero_ray.store.samples import columns_by_number
from hero_ray.store.tables import SampleTable
from hero_ray.store.writes import numbers_of, table

Numbers = NDArray[np.int64]
Names = NDArray[np.object_]
Values = NDArray[np.float64]
Scores = tuple[Names, Names, Values]
_Pairs = dict[int, tuple[Numbers, Values]]
_NO_NUMBERS: Numbers = np.empty(0, dtype=np.int64)

_SCORED = "FROM outcomes WHERE {} AND error_type IS NULL AND score IS NOT NULL"
_LISTED = (
    "SELECT group_concat(sample) FILTER (WHERE score = 1), group_concat(sample) FILTER (WHERE score = 0), "
    f"count(*) FILTER (WHERE score NOT IN (0, 1)) {_SCORED.format('cell = ?')}"
)
"""Questions by score: most scores are 0 or 1, and SQLite joins integers sooner than Python is handed rows."""
_OTHERS = f"SELECT score, group_concat(sample) {_SCORED.format('cell = ? AND score NOT IN (0, 1)')} GROUP BY score"
_NUMBERS, _VALUES = "string_agg(int8send(sample), '')", "string_agg(float8send(score), '')"
_PACKED = (
    f"SELECT cell, {_NUMBERS} FILTER (WHERE score = 1), {_NUMBERS} FILTER (WHERE score = 0), "
    f"{_NUMBERS} FILTER (WHERE score NOT IN (0, 1)), {_VALUES} FILTER (WHERE score NOT IN (0, 1)) "
    f"{_SCORED.format('cell = ANY(CAST(%s AS int[]))')} GROUP BY cell"
)
"""PostgreSQL packs numbers in big-endian order. Rows of cells lie mixed, so that one scan serves them all."""


@dataclass(frozen=True)
class Numbered:
    """Questions by their numbers (ascending): ids, pictures, and places in the order of ids, each [n]."""

    numbers: Numbers
    ids: Names
    pictures: Names
    places: Numbers

    def unknown(self, numbers: Numbers) -> Numbers:
        """Those of `numbers` that are not here."""
        if not self.numbers.size:
            return numbers
        return numbers[self.numbers[self._at(numbers)] != numbers]

    def ordered(self, numbers: Numbers, values: Values) -> Scores:
        """Ids, pictures and values of some questions that are all here, in the order of ids."""
        places = self.places[self._at(numbers)]
        laid, there = np.empty(len(self.places)), np.zeros(len(self.places), dtype=bool)
        laid[places], there[places] = values, True
        if len(numbers) == len(there):
            return *self.by_id, laid
        ids, pictures = self.by_id
        return ids[there], pictures[there], laid[there]

    @cached_property
    def by_id(self) -> tuple[Names, Names]:
        """Ids and pictures in the order of ids."""
        order = np.argsort(self.places)
        return self.ids[order], self.pictures[order]

    def _at(self, numbers: Numbers) -> Numbers:
        """Where numbers lie, or would lie; the last place for what lies behind it."""
        return np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)

    def joined(self, numbers: Sequence[int], ids: Sequence[str], pictures: Sequence[str]) -> Numbered:
        """These and others that are not here."""
        known = np.concatenate([self.numbers, np.array(numbers, dtype=np.int64)])
        order = np.argsort(known)
        named = np.concatenate([self.ids, np.array(ids, dtype=object)])[order]
        places = np.empty_like(known)
        places[np.argsort(named)] = np.arange(len(known))
        shown = np.concatenate([self.pictures, np.array(pictures, dtype=object)])[order]
        return Numbered(known[order], named, shown, places)


def _none() -> Numbered:
    return Numbered(*(np.empty(0, dtype=kind) for kind in (np.int64, object, object, np.int64)))


@dataclass
class Asked:
    """The questions that a reader of many cells met so far; keep one for a report, since a number may be given anew.

    They are replaced as a whole: of two threads that put some in at once one reads its own again later.
    """

    questions: Numbered = field(default_factory=_none)


def scores(connection: Connection, run_id: str, cell_id: str, asked: Asked | None = None) -> Scores:
    """`of_cells` of one cell, which may be none of the run's."""
    return of_cells(connection, run_id, [cell_id], asked)[cell_id]


def of_cells(
    connection: Connection, run_id: str, cell_ids: Sequence[str], asked: Asked | None = None
) -> dict[str, Scores]:
    """Main scores of cells as arrays, by cell id: sample ids, picture hashes, scores; ordered by sample id, failures
    left out. Cells that answered the same questions share the arrays of ids and pictures: write into none.

    Args:
        cell_ids: about as many as a portion of `results.close` holds, since all of them are held at a time.
        asked: questions that the caller met in other cells; new ones are put in.
    """
    asked = asked or Asked()
    pairs = _pairs(connection, run_id, cell_ids)
    known = asked.questions
    fresh = np.unique(np.concatenate([known.unknown(numbers) for numbers, _ in pairs.values()] or [_NO_NUMBERS]))
    if fresh.size:
        columns = (table(SampleTable).c.id, table(SampleTable).c.image_hash)
        rows: Any = zip(*columns_by_number(connection, fresh.tolist(), columns), strict=True)
        asked.questions = known = known.joined(*rows)
    return {cell: known.ordered(*pair) for cell, pair in pairs.items()}


def _pairs(connection: Connection, run_id: str, cell_ids: Sequence[str]) -> dict[str, tuple[Numbers, Values]]:
    """Numbers of the questions of cells and their scores."""
    names = numbers_of(connection, run_id, cell_ids)
    some = _packed if connection.dialect.name == "postgresql" else _listed
    found = some(connection, names.values())
    nothing = _NO_NUMBERS, np.empty(0)
    return {cell: found.get(names[cell], nothing) if cell in names else nothing for cell in cell_ids}


def _packed(connection: Connection, numbers: Collection[int]) -> _Pairs:
    """PostgreSQL's: one scan over all of them."""
    if not numbers:
        return {}
    rows = connection.exec_driver_sql(_PACKED, (packed.array(numbers),)).all()
    found = {}
    for cell, ones, noughts, others, values in rows:
        parts = [packed.integers(part) for part in (ones, noughts, others)]
        told = np.ones(len(parts[0])), np.zeros(len(parts[1])), packed.floats(values)
        found[cell] = np.concatenate(parts), np.concatenate(told)
    return found


def _listed(connection: Connection, numbers: Collection[int]) -> _Pairs:
    """SQLite's: the rows of a cell lie together, and are scanned cell by cell."""
    return {cell: _listed_one(connection, cell) for cell in numbers}


def _listed_one(connection: Connection, cell: int) -> tuple[Numbers, Values]:
    ones, noughts, more = connection.exec_driver_sql(_LISTED, (cell,)).one()
    rows = [(1.0, ones), (0.0, noughts), *(connection.exec_driver_sql(_OTHERS, (cell,)).all() if more else ())]
    lists = [packed.integers(listed) for _, listed in rows]
    values = np.repeat(np.array([score for score, _ in rows], dtype=float), [len(listed) for listed in lists])
    return np.concatenate(lists), values
