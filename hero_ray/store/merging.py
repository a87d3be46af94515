"""Take another database's finished runs in: two teams' results in one place, their equal cells and questions one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from hero_ray.core.errors import StoreError
from hero_ray.store import bulk, row_files
from hero_ray.store.base import Base
from hero_ray.store.engine import parse_url, sqlite_path
from hero_ray.store.records import TERMINAL
from hero_ray.store.store import Store
from hero_ray.store.tables import (
    Alert,
    CellTable,
    ImageTable,
    MetricTable,
    PredictionTable,
    Profile,
    Run,
    RunCell,
    SampleNumber,
    SampleTable,
    StudyTable,
    UnitAttempt,
    VerificationTable,
)
from hero_ray.store.writes import insert_missing, number_cells, table

CHUNK = 5000
_SHARED: tuple[type[Base], ...] = (CellTable, ImageTable, SampleTable)
"""What several runs may hold; equal ids mean equal content."""
_OWNED: tuple[type[Base], ...] = (RunCell, UnitAttempt, PredictionTable, MetricTable, Profile)
"""What belongs to one run. Leases stay behind: nobody works on a run through a copy of it."""
_MEANING = ("model", "method", "variant", "params", "retention_ratio", "tokens", "seed", "benchmark", "flavour")
_PASSING = ("cancel_requested", "name", "tags", "note", "described_at")


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        runs: ids of the runs taken in, as they are called now.
        known: runs that were there already, equal.
        unfinished: runs left out because somebody may still be at work on them, or rows of theirs are not loaded.
        shared_cells: cells of the runs taken in that the database had before.
        predictions: answers taken in.
    """

    runs: tuple[str, ...]
    known: tuple[str, ...]
    unfinished: tuple[str, ...]
    shared_cells: int
    predictions: int


def merge(source: Store, target: Store, prefix: str = "") -> Merged:
    """Take every finished run of `source` into `target`, all or nothing; a second time changes nothing.

    Args:
        prefix: put before the ids of the runs that come in.

    Raises:
        StoreError: both are one database, a run is in both and differs, or a cell's id means something else there.
    """
    if _place(source) == _place(target):
        raise StoreError(f"{source.shown_url} is the database to merge into; name another one to merge from")

    def change(into: Connection) -> Merged:
        with source.engine.connect() as out:
            if out.dialect.name == "postgresql":
                out = out.execution_options(isolation_level="REPEATABLE READ")  # one moment for all tables
            return _merge(out, into, prefix)

    return target.transaction(change)


def _place(store: Store) -> str:
    path = sqlite_path(parse_url(store.url))
    return str(path.resolve()) if path else store.url


def _merge(out: Connection, into: Connection, prefix: str) -> Merged:
    found = [dict(row) for row in out.execute(select(table(Run))).mappings()]
    outside = row_files.runs_outside(out)
    ended = [row for row in found if row["status"] in TERMINAL and row["id"] not in outside]
    known = [row["id"] for row in ended if _known(out, into, row, prefix)]
    fresh = [row for row in ended if row["id"] not in known]
    ids = [row["id"] for row in fresh]
    shared = _check_cells(out, into, ids)
    for model in _SHARED:
        for chunk in _chunks(out, model, _of_runs(model, ids)):
            insert_missing(into, model, chunk)
            if model is SampleTable:
                insert_missing(into, SampleNumber, [{"sample_id": row["id"]} for row in chunk])
    if fresh:
        into.execute(insert(table(Run)), [row | {"id": prefix + row["id"]} for row in fresh])
    answers = 0
    for model in _OWNED:
        for chunk in _chunks(out, model, table(model).c.run_id.in_(ids)):
            rows = [row | {"run_id": prefix + row["run_id"]} for row in chunk]
            if model is PredictionTable:
                bulk.write_rows(into, rows)
                answers += len(rows)
            else:
                into.execute(insert(table(model)), rows)
            if model is RunCell:
                number_cells(into, rows)
    for chunk in _chunks(out, VerificationTable, table(VerificationTable).c.run_id.in_(ids)):
        insert_missing(into, VerificationTable, [row | {"run_id": prefix + row["run_id"]} for row in chunk])
    _alerts(out, into, ids, prefix)
    for chunk in _chunks(out, StudyTable, None):
        insert_missing(into, StudyTable, chunk)
    unfinished = tuple(row["id"] for row in found if row not in ended)
    return Merged(tuple(prefix + run for run in ids), tuple(known), unfinished, shared, answers)


def _chunks(out: Connection, model: type[Base], where: Any) -> Iterator[list[dict[str, Any]]]:
    statement = select(table(model))
    if where is not None:
        statement = statement.where(where)
    for chunk in out.execution_options(yield_per=CHUNK).execute(statement).mappings().partitions():
        yield [dict(row) for row in chunk]


def _of_runs(model: type[Base], ids: Sequence[str]) -> Any:
    """The cells, questions or pictures that these runs hold."""
    predictions, cells, samples = table(PredictionTable).c, table(RunCell).c, table(SampleTable).c
    asked = select(predictions.sample_id).where(predictions.run_id.in_(ids))
    if model is CellTable:
        return table(CellTable).c.id.in_(select(cells.cell_id).where(cells.run_id.in_(ids)))
    if model is SampleTable:
        return samples.id.in_(asked)
    return table(ImageTable).c.hash.in_(select(samples.image_hash).where(samples.id.in_(asked)))


def _known(out: Connection, into: Connection, row: Mapping[str, Any], prefix: str) -> bool:
    """Whether a run is there already, equal. Raises `StoreError` if another one has its id."""
    held = into.execute(select(table(Run)).where(table(Run).c.id == prefix + row["id"])).mappings().one_or_none()
    if held is None:
        return False
    same = all(held[name] == value for name, value in row.items() if name not in ("id", *_PASSING))
    if same and all(_count(out, m, row["id"]) == _count(into, m, prefix + row["id"]) for m in _OWNED):
        return True
    raise StoreError(
        f"run {prefix + row['id']} is in both databases and differs; take the other one's runs in under names of "
        "their own with --prefix NAME-"
    )


def _count(connection: Connection, model: type[Base], run_id: str) -> int:
    statement = select(func.count()).select_from(table(model)).where(table(model).c.run_id == run_id)
    return int(connection.execute(statement).scalar_one())


def _check_cells(out: Connection, into: Connection, ids: Sequence[str]) -> int:
    """How many cells of these runs are there already. Raises `StoreError` if one of them means something else."""
    shared = 0
    for chunk in _chunks(out, CellTable, _of_runs(CellTable, ids)):
        names = [row["id"] for row in chunk]
        held = {
            row["id"]: row
            for row in into.execute(select(table(CellTable)).where(table(CellTable).c.id.in_(names))).mappings()
        }
        for row in chunk:
            other = held.get(row["id"])
            if other is not None and any(other[name] != row[name] for name in _MEANING):
                raise StoreError(f"cell {row['id']} is {other['method']} here and {row['method']} there; not merged")
        shared += len(held)
    return shared


def _alerts(out: Connection, into: Connection, ids: Sequence[str], prefix: str) -> None:
    """Alerts get new numbers; those of no run (a missed night) come in once."""
    alerts = table(Alert)
    there = {tuple(row) for row in into.execute(select(alerts.c.kind, alerts.c.message, alerts.c.created_at))}
    for chunk in _chunks(out, Alert, alerts.c.run_id.in_(ids) | alerts.c.run_id.is_(None)):
        rows = [{name: value for name, value in row.items() if name != "id"} for row in chunk]
        rows = [
            row | {"run_id": row["run_id"] and prefix + row["run_id"]}
            for row in rows
            if row["run_id"] or (row["kind"], row["message"], row["created_at"]) not in there
        ]
        if rows:
            into.execute(insert(alerts), rows)
