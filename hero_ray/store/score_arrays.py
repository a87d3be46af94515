"""Main scores of cells as arrays: what intervals, comparisons and charts read, a million at a time.

Cells of a benchmark share their questions, so a reader of many cells keeps an `Asked`, and each question's id and
picture is read once. What is left of a cell are numbers and scores, packed by the database.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from hero_ray.store.tables import SampleNumber, SampleTable
from hero_ray.store.writes import table

Numbers = NDArray[np.int64]
AT_ONCE = 500
"""Questions that are looked up by their numbers; more than that are read with their whole cell."""

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


class Asked:
    """Questions met so far: their numbers (ascending), ids, pictures and places in the order of ids, each [n].

    It holds for as long as nobody prunes the database: keep one for a report, not for a process.
    """

    def __init__(self) -> None:
        self.numbers: Numbers = np.empty(0, dtype=np.int64)
        self.ids = np.empty(0, dtype=object)
        self.pictures = np.empty(0, dtype=object)
        self.places: Numbers = np.empty(0, dtype=np.int64)

    def add(self, rows: list[tuple[int, str, str]]) -> None:
        """Take in (number, id, picture) of questions that are new here."""
        numbers, ids, pictures = zip(*rows, strict=True)
        known = np.concatenate([self.numbers, np.array(numbers, dtype=np.int64)])
        order = np.argsort(known)
        self.numbers = known[order]
        self.ids = np.concatenate([self.ids, np.array(ids, dtype=object)])[order]
        self.pictures = np.concatenate([self.pictures, np.array(pictures, dtype=object)])[order]
        self.places = np.empty(len(order), dtype=np.int64)
        self.places[np.argsort(self.ids)] = np.arange(len(order))

    def unknown(self, numbers: Numbers) -> Numbers:
        """Those that were not met yet."""
        if not self.numbers.size:
            return numbers
        at = np.minimum(np.searchsorted(self.numbers, numbers), self.numbers.size - 1)
        return numbers[self.numbers[at] != numbers]


def scores(
    connection: Connection, run_id: str, cell_id: str, asked: Asked | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Main scores of a cell as arrays: sample ids, picture hashes, scores; ordered by sample id, failures left out.

    Args:
        asked: questions that the caller met in other cells; new ones are put in.
    """
    asked = Asked() if asked is None else asked
    numbers, values = _pairs(connection, run_id, cell_id)
    fresh = asked.unknown(numbers)
    if fresh.size:
        asked.add(_questions(connection, fresh.tolist()))
    at = np.searchsorted(asked.numbers, numbers)
    order = np.argsort(asked.places[at])
    at = at[order]
    return asked.ids[at], asked.pictures[at], values[order]


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


def _questions(connection: Connection, numbers: list[int]) -> list[tuple[int, str, str]]:
    """(number, id, picture) of questions."""
    s, n = table(SampleTable).c, table(SampleNumber).c
    found: list[tuple[int, str, str]] = []
    for start in range(0, len(numbers), AT_ONCE):
        mine = n.number.in_(numbers[start : start + AT_ONCE])
        statement = select(n.number, s.id, s.image_hash).join_from(table(SampleTable), table(SampleNumber)).where(mine)
        found += [(number, name, picture) for number, name, picture in connection.execute(statement)]
    return found
