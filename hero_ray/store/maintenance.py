"""Keeping a database in shape: remove old runs, copy it away while in use, bring a copy back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Connection, Table, cast, delete, func, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from hero_ray.core.errors import StoreError
from hero_ray.store import bulk, counters
from hero_ray.store.base import Base, stored_tables
from hero_ray.store.engine import explain, parse_url
from hero_ray.store.merge import BLOCK
from hero_ray.store.records import TERMINAL, RunRow
from hero_ray.store.store import Store, open_store
from hero_ray.store.tables import (
    Alert,
    CellNumber,
    CellTable,
    CutTable,
    ImageTable,
    OutcomeTable,
    PredictionTable,
    RowFileTable,
    Run,
    RunCell,
    SampleNumber,
    SampleTable,
    UnitAttempt,
)
from hero_ray.store.writes import now, table

CHUNK = 5000


@dataclass(frozen=True)
class Pruned:
    """What pruning removed (or would remove)."""

    runs: tuple[str, ...]
    predictions: int
    samples: int
    images: int


def old_runs(store: Store, keep: int | None, older_than: timedelta | None) -> list[RunRow]:
    """Finished runs beyond the newest `keep` and older than `older_than`; a condition that is None holds for all."""
    limit: datetime | None = now() - older_than if older_than is not None else None
    beyond = store.runs()[keep or 0 :]
    return [run for run in beyond if run.status in TERMINAL and (limit is None or run.created_at < limit)]


def prune(store: Store, run_ids: Sequence[str], answers_only: bool = False) -> Pruned:
    """Remove runs with everything that belongs to no other run, in one transaction.

    Args:
        answers_only: keep the runs with their metrics and profiles; only answers, questions and thumbnails go. Such
            runs can still be charted, but no longer compared.
    """
    ids = list(run_ids)

    def change(connection: Connection) -> Pruned:
        gone = bulk.forget(connection, ids)
        connection.execute(update(table(UnitAttempt)).where(table(UnitAttempt).c.run_id.in_(ids)).values(settled=None))
        if not answers_only:
            connection.execute(delete(table(Alert)).where(table(Alert).c.run_id.in_(ids)))
            connection.execute(delete(table(Run)).where(table(Run).c.id.in_(ids)))
            used_cells = select(table(RunCell).c.cell_id)
            connection.execute(delete(table(CellTable)).where(table(CellTable).c.id.not_in(used_cells)))
        samples, images = table(SampleTable), table(ImageTable)
        waiting = _benchmarks_under_way(connection)
        orphans = samples.c.id.not_in(bulk.asked()) & samples.c.benchmark.not_in(waiting)
        lost = connection.execute(delete(samples).where(orphans)).rowcount
        unseen = images.c.hash.not_in(select(samples.c.image_hash))
        pictures = connection.execute(delete(images).where(unseen)).rowcount
        return Pruned(tuple(ids), gone, lost, pictures)

    found = store.transaction(change)
    _outside_transaction(store, "VACUUM")  # give freed pages back
    return found


def _benchmarks_under_way(connection: Connection) -> list[str]:
    """Benchmarks of runs whose samples may be stored ahead of their first answer: unfinished, or with row files."""
    outside = select(table(RowFileTable).c.run_id).where(table(RowFileTable).c.loaded_at.is_(None))
    statement = (
        select(table(CellTable).c.benchmark)
        .join(RunCell, table(RunCell).c.cell_id == table(CellTable).c.id)
        .join(Run, table(Run).c.id == table(RunCell).c.run_id)
        .where(table(Run).c.status.not_in(TERMINAL) | table(Run).c.id.in_(outside))
        .distinct()
    )
    return list(connection.execute(statement).scalars())


def _outside_transaction(store: Store, statement: str) -> None:
    """Run what neither database allows inside a transaction."""
    if store.engine.dialect.name == "sqlite":
        raw = store.engine.raw_connection()  # its driver begins nothing by itself
        try:
            raw.cursor().execute(statement).close()
        finally:
            raw.close()
        return
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))


def copy(source: Store, target: Store) -> dict[str, int]:
    """Copy every row into an empty database of either kind, all or nothing; returns rows per table.

    Raises:
        StoreError: the target already holds runs.
    """
    counts: dict[str, int] = {}
    published = {name for name in Base.metadata.tables if name.startswith("published")}

    def change(into: Connection) -> None:
        if into.execute(select(func.count()).select_from(table(Run))).scalar_one():
            raise StoreError(f"database {target.shown_url} already holds runs; restore into an empty one")
        with source.engine.connect() as out:
            if out.dialect.name == "postgresql":
                out = out.execution_options(isolation_level="REPEATABLE READ")  # one moment for all tables
            for each in stored_tables():
                if each.name in published:
                    into.execute(delete(each))
                counts[_shown(each)] = 0
                for chunk in out.execution_options(yield_per=CHUNK).execute(select(each)).mappings().partitions():
                    into.execute(insert(each), [dict(row) for row in chunk])
                    counts[_shown(each)] += len(chunk)
        if into.dialect.name == "postgresql":
            numbered = (CellNumber, RowFileTable, SampleNumber)
            for column in (table(Alert).c.id, *(table(model).c.number for model in numbered)):
                sequence = func.pg_get_serial_sequence(column.table.name, column.name)
                into.execute(select(func.setval(sequence, _behind(column), False)))
            into.execute(
                select(func.setval("cut_blocks", _behind(cast(table(CutTable).c.number // BLOCK, BigInteger)), False))
            )

    target.transaction(change)
    return counts


def _behind(column: Any) -> Any:
    return select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()


def _shown(one: Table) -> str:
    """A table as users call it: they read outcomes as `predictions`."""
    return table(PredictionTable).name if one is table(OutcomeTable) else one.name


def backup(store: Store, path: Path) -> dict[str, int]:
    """Copy a database (also one in use, also PostgreSQL) to a new SQLite file.

    Raises:
        StoreError: the file exists already, or cannot be written.
    """
    if path.exists():
        raise StoreError(f"backup file {path} exists already; name a new one")
    try:
        with open_store(f"sqlite:///{path}") as target:
            counts = copy(store, target)
            _outside_transaction(target, "PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        return counts
    except (SQLAlchemyError, StoreError) as problem:
        for part in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            part.unlink(missing_ok=True)
        raise problem if isinstance(problem, StoreError) else explain(problem, parse_url(str(path))) from problem


def restore(path: Path, store: Store) -> dict[str, int]:
    """Bring a backup back into an empty database of either kind.

    Raises:
        StoreError: no such backup, or the database is not empty.
    """
    if not path.exists():
        raise StoreError(f"backup file {path} does not exist")
    with open_store(f"sqlite:///{path}", read_only=True) as source:
        return copy(source, store)


def sizes(store: Store) -> dict[str, int]:
    """Rows per table, for `db check`."""

    def count(connection: Connection) -> dict[str, int]:
        found = {one: connection.execute(select(func.count()).select_from(one)) for one in stored_tables()}
        return {_shown(one): int(rows.scalar_one()) for one, rows in found.items()}

    return store.read(count)


def broken(store: Store) -> list[str]:
    """Damage that the database itself reports, rows that point nowhere, counters that are wrong; empty when sound."""

    def look(connection: Connection) -> list[str]:
        wrong = [
            f"run {run} cell {cell}: counters say {kept} rows, {bad} of them failed; there are {n} and {failed}; "
            "`hero-ray db check --recount` sets them right"
            for run, cell, kept, bad, n, failed in counters.recount(connection)
        ]
        if stray := counters.strays(connection):
            wrong.append(f"{stray} answers belong to no cell of any run")
        if connection.dialect.name != "sqlite":
            return wrong  # PostgreSQL enforces its foreign keys and checksums its own pages
        faults = [str(row[0]) for row in connection.execute(text("PRAGMA integrity_check")) if row[0] != "ok"]
        strays = connection.execute(text("PRAGMA foreign_key_check")).all()
        return wrong + faults + [f"{row[0]} row {row[1]} points to no {row[2]}" for row in strays]

    return store.read(look)


def recount(store: Store) -> int:
    """Set every counter right that does not say what is stored; how many cells had wrong ones."""

    return store.transaction(counters.set_right)
