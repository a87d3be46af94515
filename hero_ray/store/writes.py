"""Every statement that changes the database; each is safe to run twice.

Functions take an open connection inside a transaction; `Store` opens it, retries and reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, case, delete, func, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from hero_ray.core.errors import StoreError
from hero_ray.core.types import Cell
from hero_ray.store.base import Base, UtcDateTime
from hero_ray.store.records import CELL, TERMINAL, MetricRow, Stopped
from hero_ray.store.tables import (
    CellNumber,
    CellTable,
    CutTable,
    MetricTable,
    OutcomeTable,
    Profile,
    Run,
    RunCell,
    UnitAttempt,
)

MEANS = (
    "n_text",
    "budget_nominal",
    "n_selected",
    "n_visual_llm",
    "equivalent_tokens",
    "flops",
    "encode_flops",
    "kv_bytes",
)
"""Costs of a prediction whose mean a cell keeps."""


def table(model: type[Base]) -> Table:
    """The Core table behind a typed class; bulk statements go through it."""
    found = model.__table__
    assert isinstance(found, Table)
    return found


def insert(dialect: str, model: type[Base]) -> Any:
    """The dialect's own INSERT, which knows ON CONFLICT; the call shape is the same on both databases."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table(model))


def insert_missing(connection: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert what is not there yet and leave the rest as it is."""
    if rows:
        connection.execute(insert(connection.dialect.name, model).on_conflict_do_nothing(), list(rows))


def replace_rows(connection: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or overwrite those with the same primary key."""
    if not rows:
        return
    connection.execute(_replacing(connection.dialect.name, model, tuple(rows[0])), list(rows))


@cache
def _replacing(dialect: str, model: type[Base], names: tuple[str, ...]) -> Any:
    """INSERT or overwrite; to build it takes longer than to run it on the few rows of a cell."""
    statement = insert(dialect, model)
    keys = [column.name for column in table(model).primary_key]
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def now() -> datetime:
    return datetime.now(UTC)


def set_status(connection: Connection, run_id: str, status: str) -> None:
    """Change a run's state; the first "running" starts its clock, a terminal state stops it."""
    runs = table(Run)
    values: dict[str, Any] = {"status": status, "finished_at": now() if status in TERMINAL else None}
    if status == "running":
        values["started_at"] = func.coalesce(runs.c.started_at, now())
        values["cancel_requested"] = False
    if connection.execute(update(runs).where(runs.c.id == run_id).values(values)).rowcount == 0:
        raise StoreError(f"run {run_id!r} is not in the database")


def add_environment(connection: Connection, run_id: str, key: str, facts: Mapping[str, Any]) -> None:
    """Merge facts into one entry of a run's environment, leaving its others as they are."""
    runs = table(Run)
    query = select(runs.c.environment).where(runs.c.id == run_id).with_for_update()  # a no-op on SQLite
    held = connection.execute(query).scalar_one_or_none()
    if held is None:
        raise StoreError(f"run {run_id!r} is not in the database")
    merged = {**held, key: {**held.get(key, {}), **facts}}
    connection.execute(update(runs).where(runs.c.id == run_id).values(environment=merged))


def add_cells(connection: Connection, run_id: str, cells: Sequence[Cell], expected: Mapping[str, int]) -> None:
    """Register the cells of a run with the number of samples each should end with."""
    known = [
        {name: getattr(cell, name) for name in ("id", *CELL)} | {"params": dict(cell.params), "spec": dict(cell.spec)}
        for cell in cells
    ]
    if known:
        # What a cell is never changes under its id, but what its method says of itself may.
        fresh, held = insert(connection.dialect.name, CellTable), table(CellTable).c
        told = {name: fresh.excluded[name] for name in ("straw_man", "own_count")}
        changed_only = or_(*(held[name] != value for name, value in told.items()))
        connection.execute(fresh.on_conflict_do_update(index_elements=["id"], set_=told, where=changed_only), known)
    rows = [
        {"run_id": run_id, "cell_id": cell.id, "position": i, "status": "pending", "n_expected": expected[cell.id]}
        for i, cell in enumerate(cells)
    ]
    if rows:
        statement = insert(connection.dialect.name, RunCell)
        changed = {name: statement.excluded[name] for name in ("position", "n_expected")}
        connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "cell_id"], set_=changed), rows)
        number_cells(connection, rows)


def number_cells(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Give cells of runs the numbers under which their answers are kept."""
    insert_missing(connection, CellNumber, [{name: row[name] for name in ("run_id", "cell_id")} for row in rows])


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity inside it as None, which JSON can carry."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


_BEGIN = text(
    "INSERT INTO unit_attempts (run_id, unit_id, attempts, begun_at) VALUES (:run, :unit, 1, :now) "
    "ON CONFLICT (run_id, unit_id) DO UPDATE SET attempts = unit_attempts.attempts + 1, begun_at = excluded.begun_at "
    "RETURNING attempts"
).bindparams(bindparam("now", type_=UtcDateTime()))
_SETTLE = text("UPDATE unit_attempts SET settled = :samples WHERE run_id = :run AND unit_id = :unit")


def begin_unit(connection: Connection, run_id: str, unit_id: str) -> int:
    """Count one more beginning of a unit and return how many there have been."""
    if connection.dialect.name == "postgresql":
        # A server that loses power may forget a beginning, which costs one try; to wait for its disk costs every unit.
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
    return int(connection.execute(_BEGIN, {"run": run_id, "unit": unit_id, "now": now()}).scalar_one())


def hand_back(connection: Connection, run_id: str) -> None:
    """Take back one beginning of every unit that is begun and not settled: whoever stopped them, it was not they."""
    u = table(UnitAttempt)
    mine = (u.c.run_id == run_id) & u.c.settled.is_(None) & (u.c.attempts > 0)
    connection.execute(update(u).where(mine).values(attempts=u.c.attempts - 1))


def settle_unit(connection: Connection, run_id: str, unit_id: str, samples: int) -> None:
    """Note that nothing of a unit is missing, so that whoever goes on with the run need not look at its answers.

    Args:
        samples: how many questions the unit had; one that was cut otherwise is looked at again.
    """
    connection.execute(_SETTLE, {"run": run_id, "unit": unit_id, "samples": samples})


def write_metrics(
    connection: Connection, run_id: str, cell_id: str, rows: Sequence[MetricRow | Mapping[str, Any]]
) -> None:
    """`write_all_metrics` of one cell."""
    write_all_metrics(connection, run_id, {cell_id: rows})


def write_all_metrics(
    connection: Connection, run_id: str, figures: Mapping[str, Sequence[MetricRow | Mapping[str, Any]]]
) -> None:
    """Replace the figures of cells and refresh their counts and mean costs.

    Where no row of a cell says `is_main`, the first one over the whole benchmark is taken as the main figure. A figure
    that is not finite (a mean over nothing) is no figure and leaves no row.

    Args:
        figures: by cell id.
    """
    connection.execute(_without_metrics(), {"run": run_id, "cells": list(figures)})
    values = [value for cell, rows in figures.items() for value in _metric_rows(run_id, cell, rows)]
    replace_rows(connection, MetricTable, values)
    summarise(connection, run_id, list(figures))


def _metric_rows(
    run_id: str, cell_id: str, rows: Sequence[MetricRow | Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    records = [row if isinstance(row, MetricRow) else MetricRow(**row) for row in rows]
    finite_ones = [record for record in records if math.isfinite(record.value)]
    values = [asdict(record) | {"run_id": run_id, "cell_id": cell_id} for record in finite_ones]
    if values and not any(value["is_main"] for value in values):
        main = next((value for value in values if not value["category"]), values[0])
        for value in values:
            value["is_main"] = value["metric"] == main["metric"]
    return values


@cache
def _without_metrics() -> Any:
    m = table(MetricTable)
    return delete(m).where(m.c.run_id == bindparam("run"), m.c.cell_id.in_(bindparam("cells", expanding=True)))


def numbers_of(connection: Connection, run_id: str, cell_ids: Sequence[str]) -> dict[str, int]:
    """Cell id -> the number under which its answers are kept, of those cells that the run has."""
    rows = connection.execute(_numbers(), {"run": run_id, "cells": list(cell_ids)})
    return {row.cell_id: row.number for row in rows}


@cache
def _numbers() -> Select[Any]:
    n = table(CellNumber).c
    mine = (n.run_id == bindparam("run")) & n.cell_id.in_(bindparam("cells", expanding=True))
    return select(n.cell_id, n.number).where(mine)


@cache
def _counts_and_means() -> Select[Any]:
    """Counts and mean costs of cells in one scan; to build the statement takes as long as to run it on a small run."""
    outcomes, cuts = table(OutcomeTable), table(CutTable)
    ok = case((outcomes.c.error_type.is_(None), 1))
    costs = {column.name: column for column in (*cuts.c, *outcomes.c)}
    means = [func.avg(costs[name]).label(f"mean_{name}") for name in MEANS]
    return (
        select(outcomes.c.cell, func.count().label("n"), func.count(ok).label("n_done"), *means)
        .select_from(outcomes.outerjoin(cuts, cuts.c.number == outcomes.c.cut))
        .where(outcomes.c.cell.in_(bindparam("numbers", expanding=True)))
        .group_by(outcomes.c.cell)
    )


def summarise(connection: Connection, run_id: str, cell_ids: Sequence[str]) -> None:
    """Write the counts, state and mean costs of cells from their predictions."""
    numbers = numbers_of(connection, run_id, cell_ids)
    rows = connection.execute(_counts_and_means(), {"numbers": sorted(numbers.values())})
    found, common = {row.cell: row for row in rows}, {"run": run_id, "summarised_at": now()}
    values = [common | {"cell": cell} | _told(found.get(numbers.get(cell))) for cell in cell_ids]
    if values:
        connection.execute(_summarising(), values)


def _told(row: Any | None) -> dict[str, Any]:
    """Counts and means of one cell; of one without a row nothing is stored."""
    if row is None:
        return {"counted": 0, "n_done": 0, "n_failed": 0} | {f"mean_{name}": None for name in MEANS}
    means = {f"mean_{name}": getattr(row, f"mean_{name}") for name in MEANS}
    floats = {name: None if value is None else float(value) for name, value in means.items()}
    return {"counted": row.n, "n_done": row.n_done, "n_failed": row.n - row.n_done, **floats}


@cache
def _summarising() -> Any:
    """The counts, means and state of a cell, out of how many answers of it are stored."""
    cells = table(RunCell)
    counted = bindparam("counted", type_=cells.c.n_expected.type)
    unfinished = (cells.c.n_expected > counted) & cells.c.stop_reason.is_(None)
    status = case((unfinished, "running"), (cells.c.n_expected > counted, "stopped"), else_="complete")
    mine = (cells.c.run_id == bindparam("run")) & (cells.c.cell_id == bindparam("cell"))
    return update(cells).where(mine).values(status=status)  # the rest is set by the names it is called with


def profile_row(run_id: str, cell_id: str, figures: Mapping[str, Any], certificate_hash: str) -> dict[str, Any]:
    """A profile as the table takes it; figures without a column of their own go to `details`."""
    columns = {column.name for column in table(Profile).columns}
    known = {name: value for name, value in figures.items() if name in columns and name != "details"}
    rest = {name: value for name, value in figures.items() if name not in columns}
    row: dict[str, Any] = dict.fromkeys(columns)
    row |= {"batch_size": 1, "new_tokens": 0} | known
    row |= {"run_id": run_id, "cell_id": cell_id, "certificate_hash": certificate_hash}
    return row | {"details": rest | dict(figures.get("details") or {}) or None}


def request_cancel(connection: Connection, run_id: str) -> None:
    """Ask whoever works on a run to stop after its current unit."""
    connection.execute(update(Run).where(Run.id == run_id).values(cancel_requested=True))


def stop_cell(connection: Connection, run_id: str, cell_id: str, stopped: Stopped) -> None:
    """Mark a cell as decided early: it gets no more answers and says so in every table. The first decision stays."""
    mine = (RunCell.run_id == run_id) & (RunCell.cell_id == cell_id) & RunCell.stop_reason.is_(None)
    values = {"stop_reason": stopped.reason, "stop_pictures": stopped.pictures, "stop_log_e": stopped.log_e}
    connection.execute(update(RunCell).where(mine).values(status="stopped", **values))


def note_saved(connection: Connection, run_id: str, answers: int, replica_s: float) -> None:
    """Keep what deciding early saved a run: answers not asked, and a replica's time for them in seconds."""
    connection.execute(update(Run).where(Run.id == run_id).values(saved_answers=answers, saved_replica_s=replica_s))
