"""Counters of cells, recounted: what is stored and what lies in row files, against what the counters say."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, func, select

from hero_ray.store import row_files
from hero_ray.store.bulk import Counts
from hero_ray.store.tables import CellNumber, CellTotal, OutcomeTable
from hero_ray.store.writes import table

_NOTHING = (0, 0)


def recount(connection: Connection) -> list[tuple[str, str, int, int, int, int]]:
    """(run, cell, stored, failed, stored as counted, failed as counted) of every cell whose counters are wrong."""
    t, c = table(CellTotal).c, table(CellNumber).c
    real, kept = _real(connection), _sums(connection, t.cell, func.sum(t.stored), func.sum(t.failed))
    wrong = [n for n in real.keys() | kept.keys() if real.get(n, _NOTHING) != kept.get(n, _NOTHING)]
    named = connection.execute(select(c.run_id, c.cell_id, c.number).order_by(c.run_id, c.cell_id)) if wrong else ()
    return [(*name, *kept.get(n, _NOTHING), *real.get(n, _NOTHING)) for *name, n in named if n in wrong]


def strays(connection: Connection) -> int:
    """How many answers lie under a number that no cell of any run has."""
    o = table(OutcomeTable).c
    known = select(table(CellNumber).c.number)
    return int(connection.execute(select(func.count()).where(o.cell.not_in(known))).scalar_one())


def _real(connection: Connection) -> Counts:
    """What is stored of cells, and what loading the row files that wait will add to it."""
    o, known = table(OutcomeTable).c, set(connection.execute(select(table(CellNumber).c.number)).scalars())
    sums = _sums(connection, o.cell, func.count(), func.count(o.error_type))
    found = {cell: counts for cell, counts in sums.items() if cell in known}
    for cell, (n, bad) in row_files.counted(connection).items():
        stored, failed = found.get(cell, _NOTHING)
        found[cell] = stored + n, failed + bad
    return found


def _sums(connection: Connection, cell: Any, first: Any, second: Any) -> Counts:
    found = connection.execute(select(cell, first, second).group_by(cell))
    return {number: (int(n), int(bad)) for number, n, bad in found}


def set_right(connection: Connection) -> int:
    """Make every counter say what is stored or waits in row files; how many cells had wrong ones."""
    wrong = len(recount(connection))
    if wrong:
        connection.execute(delete(table(CellTotal)))
        rows = [{"cell": c, "shard": 0, "stored": n, "failed": bad} for c, (n, bad) in _real(connection).items()]
        if rows:
            connection.execute(table(CellTotal).insert(), rows)
    return wrong
