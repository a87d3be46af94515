"""Main scores of cells as arrays: what intervals, comparisons and charts read, a million at a time.

Cells of a benchmark share their questions, so a reader of many cells keeps an `Asked`, and each question's id and
picture is read once. What is left of a cell are numbers and scores, packed by the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from hero_ray.store.samples import columns_by_number
from hero_ray.store.tables import SampleTable
from hero_ray.store.writes import table

Numbers = NDArray[np.int64]
Names = NDArray[np.object_]

_MINE = (
    "FROM outcomes WHERE cell = (SELECT number FROM cell_numbers WHERE run_id = {0} AND cell_id = {0}) "
    "AND error_type IS NULL AND score IS NOT NULL"
)
_LISTED = f"SELECT score, group_concat(sample) {_MINE.format('?')} GROUP BY score"
"""Questions by score: scores take few values, and SQLite joins integers sooner than Python is handed rows."""
_PACKED = "SELECT string_agg(int8send(sample), ''::bytea), string_agg(float8send(score), ''::bytea) " + _MINE.format(
    "%s"
)
"""PostgreSQL packs a cell into two strings of big-endian numbers; both are filled in the order of one scan."""


@dataclass(frozen=True)
class Numbered:
    """Questions by their numbers (ascending): ids, pictures, and places in the order of ids, each [n]."""

    numbers: Numbers
    ids: Names
    pictures: Names
    places: Numbers

    def unknown(self, numbers: Numbers) -> Numbers:
        """Those of `numbers` that are not here."""
        return np.setdiff1d(numbers, self.numbers, assume_unique=True)

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


def scores(
    connection: Connection, run_id: str, cell_id: str, asked: Asked | None = None
) -> tuple[Names, Names, NDArray[np.float64]]:
    """Main scores of a cell as arrays: sample ids, picture hashes, scores; ordered by sample id, failures left out.

    Args:
        asked: questions that the caller met in other cells; new ones are put in.
    """
    asked = asked or Asked()
    known = asked.questions
    numbers, values = _pairs(connection, run_id, cell_id)
    fresh = known.unknown(numbers)
    if fresh.size:
        columns = (table(SampleTable).c.id, table(SampleTable).c.image_hash)
        rows: Any = zip(*columns_by_number(connection, fresh.tolist(), columns), strict=True)
        asked.questions = known = known.joined(*rows)
    at = np.searchsorted(known.numbers, numbers)
    order = np.argsort(known.places[at])
    at = at[order]
    return known.ids[at], known.pictures[at], values[order]


def _pairs(connection: Connection, run_id: str, cell_id: str) -> tuple[Numbers, NDArray[np.float64]]:
    """Numbers of a cell's questions and their scores."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(_LISTED, (run_id, cell_id)).all()
        lists = [np.fromstring(listed, dtype=np.int64, sep=",") for _, listed in rows]
        values = np.repeat(np.array([score for score, _ in rows], dtype=float), [len(listed) for listed in lists])
        return np.concatenate([np.empty(0, dtype=np.int64), *lists]), values
    packed, scored = connection.exec_driver_sql(_PACKED, (run_id, cell_id)).one()
    numbers = np.frombuffer(bytes(packed or b""), dtype=">i8").astype(np.int64)
    return numbers, np.frombuffer(bytes(scored or b""), dtype=">f8").astype(float)
