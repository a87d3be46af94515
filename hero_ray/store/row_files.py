"""Answers that lie in row files outside the database: one file a unit, loaded later.

The counters of a file's answers move when it is written, in one transaction with the unit's state, so that progress and
resume are those of a sweep that stores its answers at once. Loading brings the rows in and moves no counter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from hero_ray.core.types import Sample
from hero_ray.store import bulk, merge, writes
from hero_ray.store.records import ImageRecord, RowFile
from hero_ray.store.samples import add_samples, sample_numbers
from hero_ray.store.tables import OutcomeTable, RowFileTable, UnitAttempt
from hero_ray.store.writes import table

_OUTSIDE = RowFileTable.loaded_at.is_(None)


def outside(connection: Connection, run_id: str) -> tuple[int, int]:
    """(files, rows in them) of a run that are not loaded."""
    f = table(RowFileTable).c
    statement = select(func.count(), func.coalesce(func.sum(f.n_rows), 0)).where(f.run_id == run_id, _OUTSIDE)
    files, rows = connection.execute(statement).one()
    return int(files), int(rows)


def told(run_id: str, files: int, rows: int) -> str:
    """What readers of a run must know while `outside` is not 0."""
    return (
        f"{rows} answers of run {run_id} lie in {files} row files and are in no table yet: the sweep loads them at its "
        f"end, `hero-ray db load {run_id}` now"
    )


def runs_outside(connection: Connection) -> list[str]:
    """Runs of which some rows are not loaded."""
    return list(connection.execute(select(table(RowFileTable).c.run_id).where(_OUTSIDE).distinct()).scalars())


def waiting(
    connection: Connection, run_id: str, unit_id: str | None = None, after: int = 0, limit: int | None = None
) -> list[RowFile]:
    """Files not loaded, in the order in which they were written: of a run, or of one unit of it."""
    f = table(RowFileTable).c
    columns = [f[name] for name in RowFile.__dataclass_fields__]
    statement = select(*columns).where(f.run_id == run_id, _OUTSIDE, f.number > after).order_by(f.number).limit(limit)
    if unit_id is not None:
        statement = statement.where(f.unit_id == unit_id)
    return [RowFile(**row._mapping) for row in connection.execute(statement)]


def add(
    connection: Connection,
    file: RowFile,
    batch: bulk.Batch,
    cells: Mapping[str, int],
    samples: Iterable[Sample],
    images: Iterable[ImageRecord],
    settled: int | None,
) -> None:
    """Note that the rows of a unit lie in a file, and move the counters of its cells.

    Args:
        cells: numbers by id.
        settled: how many questions the unit has, if nothing of it is missing now.

    Raises:
        StoreError: a cell that is none of the run's.
        SeenBefore: another file of the unit is to be loaded first. Nothing may be committed.
    """
    bulk.refuse_strangers(batch, cells)
    f, u = table(RowFileTable).c, table(UnitAttempt).c
    mine = (u.run_id == file.run_id) & (u.unit_id == file.unit_id)
    # Who else writes this unit (a worker given up for dead) waits here until this transaction is over.
    begun = connection.execute(select(u.attempts, u.settled).where(mine).with_for_update()).one_or_none()
    others = select(f.loaded_at).where(f.run_id == file.run_id, f.unit_id == file.unit_id)
    there = list(connection.execute(others).scalars())
    if None in there:
        raise bulk.SeenBefore
    numbers = add_samples(connection, samples, images)
    rows = [(cells[cell], numbers[sample], failed) for (cell, sample), failed in batch.failed()]
    before = _stored(connection, rows) if there or begun is None or tuple(begun) != (1, None) else {}
    moved = _moved(rows, before)
    row = {name: getattr(file, name) for name in RowFile.__dataclass_fields__ if name != "number"}
    connection.execute(table(RowFileTable).insert(), row | {"counts": _packed(moved), "written_at": writes.now()})
    merge.move(connection, [(cell, n, bad) for cell, (n, bad) in sorted(moved.items())])
    if settled is not None:
        writes.settle_unit(connection, file.run_id, file.unit_id, settled)


def _stored(connection: Connection, rows: Sequence[tuple[int, int, bool]]) -> dict[tuple[int, int], bool]:
    """(cell, sample) -> whether it is a failure, of what is in the database of a unit."""
    o = table(OutcomeTable).c
    mine = o.cell.in_(sorted({row[0] for row in rows})) & o.sample.in_(sorted({row[1] for row in rows}))
    found = connection.execute(select(o.cell, o.sample, o.error_type.is_not(None)).where(mine))
    return {(cell, sample): bool(failed) for cell, sample, failed in found}


def _moved(rows: Sequence[tuple[int, int, bool]], before: Mapping[tuple[int, int], bool]) -> bulk.Counts:
    """What these rows will add to the counters once they are loaded: an answer that is there stays as it is."""
    moved: bulk.Counts = {}
    for cell, sample, failed in rows:
        old = before.get((cell, sample))
        if old is not False:
            n, bad = moved.get(cell, (0, 0))
            moved[cell] = n + (old is None), bad + failed - bool(old)
    return moved


def _packed(moved: bulk.Counts) -> list[list[int]]:
    """[first cell, last cell, rows, failures] of neighbours that counted alike: mostly one entry for all of a unit."""
    ordered = enumerate(sorted(moved))
    alike = (list(group) for _, group in groupby(ordered, lambda pair: (pair[1] - pair[0], moved[pair[1]])))
    return [[group[0][1], group[-1][1], *moved[group[0][1]]] for group in alike]


def counted(connection: Connection) -> bulk.Counts:
    """What the counters hold of rows that are not loaded."""
    found: bulk.Counts = {}
    for packed in connection.execute(select(table(RowFileTable).c.counts).where(_OUTSIDE)).scalars():
        for cell, (n, bad) in _unpacked(packed).items():
            before = found.get(cell, (0, 0))
            found[cell] = before[0] + n, before[1] + bad
    return found


def _unpacked(packed: Sequence[Sequence[int]]) -> bulk.Counts:
    return {cell: (n, bad) for first, last, n, bad in packed for cell in range(first, last + 1)}


def take(
    connection: Connection, careful: bool, run_id: str, files: Sequence[RowFile], read: Mapping[int, bulk.Batch]
) -> list[int]:
    """Bring rows of files into the database; numbers of the files that this call loaded, each exactly once.

    Args:
        careful: as in `bulk.write`, whose `SeenBefore` it raises.
        read: rows by the number of their file.
    """
    f = table(RowFileTable)
    mine = f.c.number.in_([file.number for file in files]) & _OUTSIDE
    # Who else loads them waits here, and then finds them loaded.
    claimed = connection.execute(update(f).where(mine).values(loaded_at=writes.now()).returning(f.c.number))
    numbers = sorted(claimed.scalars())
    batch = bulk.Batch(run_id)
    for number in numbers:
        batch.take_in(read[number])
    samples = sample_numbers(connection, sorted({sample for _, sample in batch.rows}))
    bulk.write(connection, batch, bulk.cell_numbers(connection, run_id), samples, careful, counted=True)
    return numbers


def lose(connection: Connection, file: RowFile) -> None:
    """Forget a file that is gone or damaged: its unit owes its answers again, and has one beginning fewer behind it."""
    f, u = table(RowFileTable), table(UnitAttempt)
    gone = delete(f).where(f.c.number == file.number, _OUTSIDE).returning(f.c.counts)
    packed: Any = connection.execute(gone).scalar_one_or_none()
    if packed is None:
        return
    merge.move(connection, [(cell, -n, -bad) for cell, (n, bad) in sorted(_unpacked(packed).items())])
    mine = (u.c.run_id == file.run_id) & (u.c.unit_id == file.unit_id)
    connection.execute(update(u).where(mine).values(settled=None))
    connection.execute(update(u).where(mine, u.c.attempts > 0).values(attempts=u.c.attempts - 1))


def forget_loaded(connection: Connection, run_id: str) -> None:
    """Keep no word of the files of a run that are loaded. Only for whoever holds its lease."""
    f = table(RowFileTable)
    connection.execute(delete(f).where(f.c.run_id == run_id, f.c.loaded_at.is_not(None)))
