"""Every question the rest of the program asks the database, by name. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, exists, func, or_, select

from hero_ray.core.errors import StoreError
from hero_ray.store.records import CellCount, CellRow, MetricRow, PointRow, RunRow, ScoreRow
from hero_ray.store.tables import (
    CellTable,
    MetricTable,
    PredictionTable,
    Profile,
    Published,
    PublishedAblation,
    PublishedEfficiency,
    Run,
    RunCell,
    SampleTable,
)
from hero_ray.store.writes import MEANS, table

PERMANENT = (
    "BudgetError",
    "DatasetError",
    "ImageError",
    "NonFiniteScoreError",
    "ParameterError",
    "PromptError",
    "SelectionError",
    "UnitAbandoned",
)
"""Failures that the same input gives again; a second try would only cost time."""

_PROFILE = [column.name for column in table(Profile).columns if column.name not in ("run_id", "cell_id")]


def _run(row: Row[Any]) -> RunRow:
    return RunRow(**row._mapping)


def runs(connection: Connection, limit: int | None = None) -> list[RunRow]:
    """Runs, newest first."""
    statement = select(table(Run)).order_by(Run.created_at.desc(), Run.id.desc()).limit(limit)
    return [_run(row) for row in connection.execute(statement)]


def run(connection: Connection, run_id: str) -> RunRow:
    """One run by its id or by a prefix that only it has.

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
        raise StoreError(f"run {run_id!r} is not in the database; `hero-ray status` lists the runs")
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


def done(connection: Connection, run_id: str, max_attempts: int) -> set[tuple[str, str]]:
    """(cell id, sample id) of everything that need not be run again.

    A failure counts as done when the same input would fail again, or when it was tried `max_attempts` times.
    """
    p = table(PredictionTable).c
    statement = select(p.cell_id, p.sample_id).where(p.run_id == run_id, _settled(max_attempts))
    rows = connection.execute(statement).all()
    names: dict[str, str] = {}
    return {(names.setdefault(cell, cell), sample) for cell, sample in rows}


def _settled(max_attempts: int) -> Any:
    p = table(PredictionTable).c
    return p.error_type.is_(None) | p.error_type.in_(PERMANENT) | (p.attempts >= max_attempts)


def done_counts(connection: Connection, run_id: str, cell_ids: Sequence[str], max_attempts: int) -> dict[str, int]:
    """Sample id -> in how many of `cell_ids` it need not be run again; small even for 10^8 (cell, sample) pairs."""
    p = table(PredictionTable).c
    statement = (
        select(p.sample_id, func.count())
        .where(p.run_id == run_id, p.cell_id.in_(cell_ids), _settled(max_attempts))
        .group_by(p.sample_id)
    )
    return {sample: int(count) for sample, count in connection.execute(statement)}


def done_cells(
    connection: Connection, run_id: str, sample_ids: Sequence[str], max_attempts: int
) -> dict[str, set[str]]:
    """Sample id -> cells in which it need not be run again, for the samples of one unit."""
    p = table(PredictionTable).c
    statement = select(p.sample_id, p.cell_id).where(
        p.run_id == run_id, p.sample_id.in_(sample_ids), _settled(max_attempts)
    )
    found: dict[str, set[str]] = {}
    for sample, cell in connection.execute(statement):
        found.setdefault(sample, set()).add(cell)
    return found


def stopped(connection: Connection, run_id: str) -> dict[str, str]:
    """Cell id -> why racing stopped it early."""
    rc = table(RunCell).c
    rows = connection.execute(
        select(rc.cell_id, rc.stop_reason).where(rc.run_id == run_id, rc.stop_reason.is_not(None))
    )
    return {row.cell_id: row.stop_reason for row in rows}


def picture_means(connection: Connection, run_id: str, cell_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Cell id -> picture -> mean main score of its questions, failures left out."""
    p, s = table(PredictionTable).c, table(SampleTable).c
    statement = (
        select(p.cell_id, s.image_hash, func.avg(p.score))
        .join_from(table(PredictionTable), table(SampleTable), s.id == p.sample_id)
        .where(p.run_id == run_id, p.cell_id.in_(cell_ids), p.score.is_not(None), p.error_type.is_(None))
        .group_by(p.cell_id, s.image_hash)
    )
    found: dict[str, dict[str, float]] = {}
    for cell, picture, value in connection.execute(statement):
        found.setdefault(cell, {})[picture] = float(value)
    return found


def counts(connection: Connection, run_id: str) -> dict[str, CellCount]:
    """Live progress of every cell of a run, straight from the predictions."""
    p, rc = table(PredictionTable).c, table(RunCell).c
    found = (
        select(p.cell_id, func.count().label("n"), func.count(p.error_type).label("failed"))
        .where(p.run_id == run_id)
        .group_by(p.cell_id)
        .subquery()
    )
    statement = (
        select(rc.cell_id, rc.n_expected, func.coalesce(found.c.n, 0), func.coalesce(found.c.failed, 0))
        .join_from(table(RunCell), found, found.c.cell_id == rc.cell_id, isouter=True)
        .where(rc.run_id == run_id)
        .order_by(rc.position)
    )
    return {
        cell: CellCount(expected, int(n) - int(failed), int(failed))
        for cell, expected, n, failed in connection.execute(statement)
    }


def cell_scores(connection: Connection, run_id: str, cell_id: str, failed: bool = False) -> list[ScoreRow]:
    """The answers of a cell in a fixed order, with what a scorer needs to aggregate them; failures only on request."""
    p, s = table(PredictionTable).c, table(SampleTable).c
    statement = (
        select(
            s.id.label("sample_id"),
            s.sample_key,
            s.image_hash.label("image_key"),
            s.category,
            p.text,
            p.score,
            p.scores,
            s.question,
            s.reference,
            s.extra,
            p.error_type,
            p.error_message,
        )
        .join_from(table(PredictionTable), table(SampleTable), s.id == p.sample_id)
        .where(p.run_id == run_id, p.cell_id == cell_id)
        .order_by(s.id)
    )
    if not failed:
        statement = statement.where(p.error_type.is_(None))
    rows = (row._mapping for row in connection.execute(statement))
    return [ScoreRow(**{**row, "scores": row["scores"] or {}, "extra": row["extra"] or {}}) for row in rows]


def scores(connection: Connection, run_id: str, cell_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Main scores of a cell as arrays: sample ids, picture hashes, scores; ordered by sample, failures left out."""
    p, s = table(PredictionTable).c, table(SampleTable).c
    statement = (
        select(p.sample_id, s.image_hash, p.score)
        .join_from(table(PredictionTable), table(SampleTable), s.id == p.sample_id)
        .where(p.run_id == run_id, p.cell_id == cell_id, p.error_type.is_(None), p.score.is_not(None))
    )
    rows = sorted(connection.execute(statement).all())
    ids, images, values = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(ids, dtype=object), np.array(images, dtype=object), np.array(values, dtype=float)


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
        .add_columns(m.metric, m.category, m.value, m.ci_low, m.ci_high, m.n, m.n_clusters, m.scale)
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
    costs = ("n_selected", "n_visual_llm", "equivalent_tokens", "flops", "kv_bytes")
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


def failures(connection: Connection, run_id: str, limit: int = 100) -> list[dict[str, Any]]:
    """Failed samples of a run with their error, for the summary and the failures page."""
    p, s = table(PredictionTable).c, table(SampleTable).c
    statement = (
        select(p.cell_id, s.benchmark, s.sample_key, p.error_type, p.error_message, p.attempts)
        .join_from(table(PredictionTable), table(SampleTable), s.id == p.sample_id)
        .where(p.run_id == run_id, p.error_type.is_not(None))
        .order_by(p.cell_id, s.sample_key)
        .limit(limit)
    )
    return [dict(row._mapping) for row in connection.execute(statement)]


def failure_counts(connection: Connection, run_id: str) -> dict[str, int]:
    """Error type -> failed samples of a run."""
    p = table(PredictionTable).c
    statement = (
        select(p.error_type, func.count())
        .where(p.run_id == run_id, p.error_type.is_not(None))
        .group_by(p.error_type)
        .order_by(p.error_type)
    )
    return {name: int(count) for name, count in connection.execute(statement)}


def published(connection: Connection, plot_only: bool = True) -> list[dict[str, Any]]:
    """Main results printed in papers; `plot_only` leaves out text that contradicts a table."""
    statement = select(table(Published)).order_by(Published.line)
    if plot_only:
        statement = statement.where(Published.plot)
    return [dict(row._mapping) for row in connection.execute(statement)]


def published_efficiency(connection: Connection) -> list[dict[str, Any]]:
    """Cost figures printed in papers, with ours recomputed beside them."""
    statement = select(table(PublishedEfficiency)).order_by(PublishedEfficiency.line)
    return [dict(row._mapping) for row in connection.execute(statement)]


def published_ablations(connection: Connection, plot_only: bool = True) -> list[dict[str, Any]]:
    """Ablation figures printed in papers."""
    statement = select(table(PublishedAblation)).order_by(PublishedAblation.line)
    if plot_only:
        statement = statement.where(PublishedAblation.plot)
    return [dict(row._mapping) for row in connection.execute(statement)]


def totals(connection: Connection, run_id: str) -> tuple[int, int]:
    """(answered, failed) samples of a whole run."""
    p = table(PredictionTable).c
    failed = func.count(case((p.error_type.is_not(None), 1)))
    n, bad = connection.execute(select(func.count(), failed).where(p.run_id == run_id)).one()
    return int(n) - int(bad), int(bad)
