"""Figures of cells and their costs: what frontiers, tables, charts and trends are made of. Nothing here writes.

Functions over an open connection: ask them by `store.read(figures.NAME, ...)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select

from hero_ray.store.records import CELL, MetricRow, PointRow
from hero_ray.store.runs import _cells
from hero_ray.store.tables import (
    CellTable,
    MetricTable,
    PredictionTable,
    Profile,
    Run,
    RunCell,
)
from hero_ray.store.writes import MEANS, table

_PROFILE = [column.name for column in table(Profile).columns if column.name not in ("run_id", "cell_id")]


@dataclass(frozen=True)
class TrendRow:
    """One main figure of one cell in one run, for charts over time."""

    run_id: str
    created_at: datetime
    cell_id: str
    model: str
    method: str
    variant: str
    params: Any
    retention_ratio: float
    tokens: int | None
    seed: int
    benchmark: str
    flavour: str
    straw_man: bool
    own_count: bool
    metric: str
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int
    scale: float


def metrics(connection: Connection, run_id: str, cell_id: str | None = None) -> dict[str, list[MetricRow]]:
    """Aggregated figures by cell id."""
    m = table(MetricTable).c
    statement = select(table(MetricTable)).where(m.run_id == run_id).order_by(m.cell_id, m.category, m.metric)
    if cell_id is not None:
        statement = statement.where(m.cell_id == cell_id)
    found: dict[str, list[MetricRow]] = {}
    for row in connection.execute(statement):
        values = dict(row._mapping)
        del values["run_id"]
        found.setdefault(values.pop("cell_id"), []).append(MetricRow(**values))
    return found


def metric_names(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[str]]:
    """Benchmark -> its metric keys, the main one first."""
    m = table(MetricTable).c
    statement = (
        select(CellTable.benchmark, m.metric, func.max(case((m.is_main, 1), else_=0)).label("main"))
        .join_from(table(MetricTable), table(CellTable), CellTable.id == m.cell_id)
        .where(m.run_id.in_(run_ids))
        .group_by(CellTable.benchmark, m.metric)
        .order_by(CellTable.benchmark, func.max(case((m.is_main, 1), else_=0)).desc(), m.metric)
    )
    found: dict[str, list[str]] = {}
    for benchmark, metric, _ in connection.execute(statement):
        found.setdefault(benchmark, []).append(metric)
    return found


def _live_means(connection: Connection, run_ids: Sequence[str]) -> dict[tuple[str, str], dict[str, float | None]]:
    """Mean costs of cells that nobody has summarised yet (a run under way)."""
    p, rc = table(PredictionTable).c, table(RunCell).c
    statement = (
        select(p.run_id, p.cell_id, *(func.avg(p[name]).label(name) for name in MEANS))
        .join_from(table(PredictionTable), table(RunCell), and_(rc.run_id == p.run_id, rc.cell_id == p.cell_id))
        .where(p.run_id.in_(run_ids), rc.summarised_at.is_(None))
        .group_by(p.run_id, p.cell_id)
    )
    return {(row.run_id, row.cell_id): dict(row._mapping) for row in connection.execute(statement)}


def points(
    connection: Connection,
    run_ids: Sequence[str],
    metric: str | None = None,
    benchmarks: Iterable[str] | None = None,
    categories: bool = False,
    batch_size: int | None = None,
) -> list[PointRow]:
    """Cells with a figure and their costs: what frontiers, tables and charts are made of.

    Args:
        run_ids: runs to read.
        metric: one metric key; the benchmark's main one if None.
        benchmarks: only these.
        categories: one point per category instead of one per benchmark.
        batch_size: of the profile to join; the smallest measured if None.
    """
    m, rc = table(MetricTable).c, table(RunCell).c
    statement = (
        _cells()
        .add_columns(m.metric, m.category, m.value, m.ci_low, m.ci_high, m.n, m.n_clusters, m.scale, m.flags)
        .join(MetricTable, and_(m.run_id == rc.run_id, m.cell_id == rc.cell_id))
        .where(rc.run_id.in_(run_ids))
        .where(_chosen_metric(metric, categories))
        .where(m.category != "" if categories else m.category == "")
        .order_by(rc.run_id, rc.position, m.category, m.metric)
    )
    if benchmarks is not None:
        statement = statement.where(CellTable.benchmark.in_(list(benchmarks)))
    rows = [dict(row._mapping) for row in connection.execute(statement)]
    live = _live_means(connection, run_ids) if any(row["summarised_at"] is None for row in rows) else {}
    profiles = profiles_of(connection, run_ids, batch_size)
    return [_point(row, live.get((row["run_id"], row["id"]), {}), profiles) for row in rows]


def _chosen_metric(metric: str | None, categories: bool) -> ColumnElement[bool]:
    """Rows of one metric; without a name the main one.

    Parts by category are not marked as main: those of the main metric count, or, where a benchmark prints its
    categories in a metric of their own (MME, OCRBench), every part there is.
    """
    m = table(MetricTable).c
    if metric is not None:
        return m.metric == metric
    if not categories:
        return m.is_main
    main, part = table(MetricTable).alias("main_metric"), table(MetricTable).alias("part")
    of_cell = and_(main.c.run_id == m.run_id, main.c.cell_id == m.cell_id, main.c.is_main)
    its_parts = and_(part.c.run_id == m.run_id, part.c.cell_id == m.cell_id, part.c.category != "")
    split = exists().where(of_cell, its_parts, part.c.metric == main.c.metric)
    return or_(exists().where(of_cell, main.c.metric == m.metric), ~split)


def _point(row: dict[str, Any], live: dict[str, Any], profiles: dict[tuple[str, str], dict[str, Any]]) -> PointRow:
    own = {name: row[name] for name in PointRow.__dataclass_fields__ if name in row}
    costs = ("n_selected", "n_visual_llm", "equivalent_tokens", "flops", "encode_flops", "kv_bytes")
    means = {name: live.get(name, row[f"mean_{name}"]) for name in costs}
    own |= {name: None if value is None else float(value) for name, value in means.items()}
    return PointRow(**own, cell_id=row["id"], profile=profiles.get((row["run_id"], row["id"]), {}))


def profiles_of(
    connection: Connection, run_ids: Sequence[str], batch_size: int | None = None
) -> dict[tuple[str, str], dict[str, Any]]:
    """(run id, cell id) -> speed and memory figures; of several batch sizes the smallest unless one is asked for."""
    p = table(Profile).c
    statement = select(table(Profile)).where(p.run_id.in_(run_ids)).order_by(p.batch_size.desc(), p.new_tokens)
    if batch_size is not None:
        statement = statement.where(p.batch_size == batch_size)
    return {
        (row.run_id, row.cell_id): {name: row._mapping[name] for name in _PROFILE}
        for row in connection.execute(statement)
    }


def profiles(connection: Connection, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Every profile of some runs with the cell it belongs to, batch sizes and answer lengths included."""
    p = table(Profile)
    c = table(CellTable).c
    statement = (
        select(*p.columns, *(c[name].label(f"cell_{name}" if name == "tokens" else name) for name in CELL))
        .join_from(p, table(CellTable), c.id == p.c.cell_id)
        .where(p.c.run_id.in_(run_ids))
        .order_by(p.c.run_id, c.model, c.method, c.retention_ratio.desc(), p.c.batch_size, p.c.new_tokens)
    )
    return [dict(row._mapping) for row in connection.execute(statement)]


def trend(connection: Connection, sweep_name: str, limit: int = 120) -> list[TrendRow]:
    """Main figures of every cell over the latest runs of a sweep, oldest first."""
    m, c, r = table(MetricTable).c, table(CellTable).c, table(Run).c
    latest = (
        select(r.id)
        .where(r.sweep_name == sweep_name, r.status != "superseded")
        .order_by(r.created_at.desc(), r.id.desc())
        .limit(limit)
    )
    statement = (
        select(r.created_at, m.run_id, m.cell_id, m.metric, m.value, m.ci_low, m.ci_high, m.n, m.scale)
        .add_columns(*(c[name] for name in CELL))
        .join_from(table(MetricTable), table(CellTable), c.id == m.cell_id)
        .join(table(Run), r.id == m.run_id)
        .where(m.run_id.in_(latest), m.is_main, m.category == "")
        .order_by(r.created_at, r.id)
    )
    return [TrendRow(**row._mapping) for row in connection.execute(statement)]
