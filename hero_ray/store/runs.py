"""Runs, newest first, and how far they are. Nothing here writes.

Functions over an open connection: ask them by `store.read(runs.NAME, ...)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Subquery, case, exists, func, select

from hero_ray.core.errors import StoreError
from hero_ray.store.records import CellCount, CellRow, RunRow, Stopped
from hero_ray.store.tables import (
    Alert,
    CellNumber,
    CellTable,
    CellTotal,
    Lease,
    MetricTable,
    Run,
    RunCell,
    StudyTable,
)
from hero_ray.store.writes import now, table


def _run(row: Row[Any]) -> RunRow:
    return RunRow(**row._mapping)


def runs(connection: Connection, limit: int | None = None) -> list[RunRow]:
    """Runs, newest first."""
    statement = select(table(Run)).order_by(Run.created_at.desc(), Run.id.desc()).limit(limit)
    return [_run(row) for row in connection.execute(statement)]


def newest(connection: Connection) -> RunRow | None:
    """The newest run that asks something; one of speeds alone (`hero-ray profile`) only where there is no other."""
    rc = table(RunCell).c
    asks = exists().where(rc.run_id == Run.id, rc.n_expected > 0)
    statement = select(table(Run)).order_by(asks.desc(), Run.created_at.desc(), Run.id.desc()).limit(1)
    row = connection.execute(statement).first()
    return None if row is None else _run(row)


def run(connection: Connection, run_id: str) -> RunRow:
    """One run by its id, by a prefix that only it has, or else by the name it was given (`hero-ray describe`).

    Raises:
        StoreError: no such run, or several.
    """
    escaped = run_id.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    statement = select(table(Run)).where(Run.id.like(f"{escaped}%", escape="\\")).order_by(Run.created_at.desc())
    found = [_run(row) for row in connection.execute(statement)]
    exact = [row for row in found if row.id == run_id]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if not found:
        named = select(table(Run)).where(Run.name == run_id, Run.name != "").order_by(Run.created_at.desc())
        found = [_run(row) for row in connection.execute(named)]
        if len(found) == 1:
            return found[0]
    if not found:
        raise StoreError(f"run {run_id!r} is not in the database; `hero-ray status --all` lists the runs")
    raise StoreError(
        f"run {run_id!r} fits {len(found)} runs: {', '.join(row.id for row in found[:5])}; give more of it"
    )


def find_run(connection: Connection, config_hash: str) -> RunRow | None:
    """The latest run of a configuration that nobody superseded."""
    statement = (
        select(table(Run))
        .where(Run.config_hash == config_hash, Run.status != "superseded")
        .order_by(Run.created_at.desc(), Run.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else _run(row)


def _cells() -> Select[Any]:
    own = list(table(CellTable).columns)
    progress = [column for column in table(RunCell).columns if column.name not in ("cell_id", "position")]
    return select(*own, *progress).join(RunCell, RunCell.cell_id == CellTable.id)


def cells(connection: Connection, run_id: str) -> list[CellRow]:
    """The cells of a run in their planned order."""
    statement = _cells().where(RunCell.run_id == run_id).order_by(RunCell.position, RunCell.cell_id)
    return [CellRow(**row._mapping) for row in connection.execute(statement)]


def _totals(run_id: str) -> Subquery:
    """Answers and failures of every cell of a run, from the counters that move with them."""
    t, n = table(CellTotal).c, table(CellNumber).c
    sums = (func.sum(column).label(column.name) for column in (t.stored, t.failed))
    joined = table(CellNumber).join(table(CellTotal), t.cell == n.number)
    return select(n.cell_id, *sums).select_from(joined).where(n.run_id == run_id).group_by(n.cell_id).subquery()


def counts(connection: Connection, run_id: str) -> dict[str, CellCount]:
    """Live progress of every cell of a run, the same cost however far it is; a decided cell expects no more."""
    rc, found = table(RunCell).c, _totals(run_id)
    stored, failed = (func.coalesce(column, 0) for column in (found.c.stored, found.c.failed))
    statement = (
        select(rc.cell_id, case((rc.stop_reason.is_not(None), stored), else_=rc.n_expected), stored, failed)
        .join_from(table(RunCell), found, found.c.cell_id == rc.cell_id, isouter=True)
        .where(rc.run_id == run_id)
        .order_by(rc.position)
    )
    return {
        cell: CellCount(int(expected), int(n) - int(bad), int(bad))
        for cell, expected, n, bad in connection.execute(statement)
    }


def totals(connection: Connection, run_id: str) -> tuple[int, int]:
    """(answered, failed) samples of a whole run."""
    found = _totals(run_id)
    sums = (func.coalesce(func.sum(column), 0) for column in (found.c.stored, found.c.failed))
    n, bad = connection.execute(select(*sums)).one()
    return int(n) - int(bad), int(bad)


def stopped(connection: Connection, run_id: str) -> dict[str, Stopped]:
    """Cell id -> why and when it was decided early."""
    rc = table(RunCell).c
    rows = connection.execute(
        select(rc.cell_id, rc.stop_reason, rc.stop_pictures, rc.stop_log_e).where(
            rc.run_id == run_id, rc.stop_reason.is_not(None)
        )
    )
    return {row.cell_id: Stopped(row.stop_reason, row.stop_pictures or 0, row.stop_log_e or 0.0) for row in rows}


@dataclass(frozen=True)
class RunProgress:
    """Counts of one run, summed over its cells.

    Attributes:
        alive_until: end of the lease of whoever works on it; None if nobody does.
    """

    cells: int
    cells_complete: int
    expected: int
    done: int
    failed: int
    alive_until: datetime | None

    @property
    def share(self) -> float:
        return min(1.0, (self.done + self.failed) / self.expected) if self.expected else 0.0


def progress(connection: Connection, run_id: str, live: bool = False) -> RunProgress:
    """Counts of a run. `live` are those of this moment, exact while a cell is still being worked on."""
    rc, lease = table(RunCell).c, table(Lease).c
    complete = func.count(case((rc.status.in_(("complete", "stopped")), 1)))
    decided = rc.stop_reason.is_not(None) & rc.summarised_at.is_not(None)
    asked = case((decided, rc.n_done + rc.n_failed), else_=rc.n_expected)
    sums = (func.coalesce(func.sum(column), 0) for column in (asked, rc.n_done, rc.n_failed))
    cells, ready, expected, done, failed = connection.execute(
        select(func.count(), complete, *sums).where(rc.run_id == run_id)
    ).one()
    if live:
        done, failed = totals(connection, run_id)
    until = connection.execute(select(lease.expires_at).where(lease.run_id == run_id)).scalar()
    return RunProgress(int(cells), int(ready), int(expected), int(done), int(failed), until)


def is_alive(progress: RunProgress) -> bool:
    """Whether someone holds a claim on the run that has not run out."""
    return progress.alive_until is not None and progress.alive_until > now()


def run_sizes(connection: Connection) -> dict[str, tuple[int, int, int]]:
    """Run id -> (cells, answers expected, cells with a figure)."""
    rc, m = table(RunCell).c, table(MetricTable).c
    cells = select(rc.run_id, func.count(), func.coalesce(func.sum(rc.n_expected), 0)).group_by(rc.run_id)
    closed = select(m.run_id, func.count(m.cell_id.distinct())).group_by(m.run_id)
    figures = {run: int(n) for run, n in connection.execute(closed)}
    return {run: (int(n), int(expected), figures.get(run, 0)) for run, n, expected in connection.execute(cells)}


def version(connection: Connection) -> tuple[Any, ...]:
    """A cheap stamp that changes when pages should look again; what cached loaders take as an argument.

    Runs added, described, in another state or with another cell closed change it, and new studies; answers do not.
    """
    runs = connection.execute(
        select(func.count(), *map(func.max, (Run.created_at, Run.started_at, Run.finished_at, Run.described_at)))
    ).one()
    closed = connection.execute(select(func.count(RunCell.summarised_at), func.max(RunCell.summarised_at))).one()
    alerts = connection.execute(select(func.max(Alert.id))).scalar()
    studies = connection.execute(select(func.max(StudyTable.created_at))).scalar()
    return (*runs, *closed, alerts, studies)


def alerts(connection: Connection, run_id: str | None = None, limit: int = 200) -> list[dict[str, Any]]:
    """Alerts, newest first; of one run if given."""
    a = table(Alert)
    statement = select(a).order_by(a.c.created_at.desc(), a.c.id.desc()).limit(limit)
    if run_id is not None:
        statement = statement.where(a.c.run_id == run_id)
    return [dict(row._mapping) for row in connection.execute(statement)]


def cancel_requested(connection: Connection, run_id: str) -> bool:
    """Whether somebody asked for a run to stop."""
    return bool(connection.execute(select(Run.cancel_requested).where(Run.id == run_id)).scalar())
