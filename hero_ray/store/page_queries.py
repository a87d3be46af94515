"""What the dashboard's pages and the share bundle ask the database. Nothing here writes.

Plain functions over an open connection, like `queries`; kept apart because only pages need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select, true

from hero_ray.store.records import CELL
from hero_ray.store.tables import (
    Alert,
    CellTable,
    ImageTable,
    Lease,
    MetricTable,
    PredictionTable,
    Profile,
    Run,
    RunCell,
    SampleTable,
    StudyTable,
)
from hero_ray.store.writes import now, table


@dataclass(frozen=True)
class CellRef:
    """A cell inside one run: what an answer belongs to."""

    run_id: str
    cell_id: str


@dataclass(frozen=True)
class FlipRow:
    """A sample that two cells score differently. `score_b - score_a` > 0: the second cell is better."""

    sample_id: str
    sample_key: str
    category: str
    score_a: float
    score_b: float

    @property
    def change(self) -> float:
        return self.score_b - self.score_a


@dataclass(frozen=True)
class FlipCounts:
    """How two cells compare on the samples that both answered."""

    both: int
    better: int
    worse: int


@dataclass(frozen=True)
class AnswerRow:
    """One cell's answer to one sample, with the mask that says which tokens it saw."""

    run_id: str
    cell_id: str
    text: str
    score: float | None
    n_selected: int | None
    n_visual_llm: int | None
    budget_nominal: int | None
    keep_mask: bytes | None
    geometry: tuple[int, int, int, int] | None
    error_type: str | None
    error_message: str | None


@dataclass(frozen=True)
class SampleRow:
    """A question with its picture's size and small copy; sizes are 0 where the picture was not kept."""

    id: str
    benchmark: str
    sample_key: str
    question: str
    reference: Any
    category: str
    extra: Any
    image_hash: str
    width: int
    height: int
    thumbnail: bytes | None


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
    metric: str
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int
    scale: float


def version(connection: Connection) -> tuple[Any, ...]:
    """A cheap stamp that changes when pages should look again; what cached loaders take as an argument.

    Runs added, changed state or closed another cell change it, and new studies; single answers do not.
    """
    runs = connection.execute(
        select(func.count(), func.max(Run.created_at), func.max(Run.started_at), func.max(Run.finished_at))
    ).one()
    closed = connection.execute(select(func.count(RunCell.summarised_at), func.max(RunCell.summarised_at))).one()
    alerts = connection.execute(select(func.max(Alert.id))).scalar()
    studies = connection.execute(select(func.max(StudyTable.created_at))).scalar()
    return (*runs, *closed, alerts, studies)


def _flips(a: CellRef, b: CellRef, category: str | None) -> tuple[Any, Any, Any]:
    first, second = table(PredictionTable).alias("a"), table(PredictionTable).alias("b")
    s = table(SampleTable)
    joined = first.join(second, first.c.sample_id == second.c.sample_id).join(s, s.c.id == first.c.sample_id)
    where = [
        first.c.run_id == a.run_id,
        first.c.cell_id == a.cell_id,
        second.c.run_id == b.run_id,
        second.c.cell_id == b.cell_id,
        first.c.score.is_not(None),
        second.c.score.is_not(None),
    ]
    if category:
        where.append(s.c.category == category)
    return joined, and_(*where), (first.c.score, second.c.score)


def flip_counts(connection: Connection, a: CellRef, b: CellRef, category: str | None = None) -> FlipCounts:
    """How many samples both cells answered, and how many the second answers better or worse."""
    joined, where, (score_a, score_b) = _flips(a, b, category)
    better, worse = func.count(case((score_b > score_a, 1))), func.count(case((score_b < score_a, 1)))
    row = connection.execute(select(func.count(), better, worse).select_from(joined).where(where)).one()
    return FlipCounts(*map(int, row))


def flips(
    connection: Connection,
    a: CellRef,
    b: CellRef,
    direction: str = "any",
    category: str | None = None,
    limit: int = 1000,
) -> list[FlipRow]:
    """Samples where two cells disagree, the largest change of score first, then by sample key.

    Args:
        direction: "worse" (the second cell loses), "better" (it wins), "any" of both, or "all" samples, ties too.
    """
    joined, where, (score_a, score_b) = _flips(a, b, category)
    wanted = {"worse": score_b < score_a, "better": score_b > score_a, "all": true()}.get(direction, score_a != score_b)
    s = table(SampleTable).c
    statement = (
        select(s.id.label("sample_id"), s.sample_key, s.category, score_a.label("score_a"), score_b.label("score_b"))
        .select_from(joined)
        .where(where, wanted)
        .order_by(func.abs(score_b - score_a).desc(), s.sample_key, s.id)
        .limit(limit)
    )
    return [FlipRow(**row._mapping) for row in connection.execute(statement)]


def categories(connection: Connection, benchmark: str) -> list[str]:
    """Categories of a benchmark's samples, the empty one left out."""
    s = table(SampleTable).c
    statement = select(s.category).where(s.benchmark == benchmark, s.category != "").distinct().order_by(s.category)
    return [row.category for row in connection.execute(statement)]


def sample(connection: Connection, sample_id: str) -> SampleRow | None:
    """One question with its picture; None if it is not in the database."""
    s, i = table(SampleTable), table(ImageTable)
    statement = (
        select(
            *(s.c[name] for name in ("id", "benchmark", "sample_key", "question", "reference", "category", "extra")),
            s.c.image_hash,
            func.coalesce(i.c.width, 0).label("width"),
            func.coalesce(i.c.height, 0).label("height"),
            i.c.thumbnail,
        )
        .select_from(s.outerjoin(i, i.c.hash == s.c.image_hash))
        .where(s.c.id == sample_id)
    )
    row = connection.execute(statement).first()
    return None if row is None else SampleRow(**row._mapping)


def answers(connection: Connection, sample_id: str, cells: Sequence[CellRef]) -> dict[CellRef, AnswerRow]:
    """What each of some cells answered to one sample."""
    p = table(PredictionTable).c
    names = [name for name in AnswerRow.__dataclass_fields__ if name not in ("run_id", "cell_id")]
    wanted = or_(*(and_(p.run_id == ref.run_id, p.cell_id == ref.cell_id) for ref in cells))
    statement = select(p.run_id, p.cell_id, *(p[name] for name in names)).where(p.sample_id == sample_id, wanted)
    found = {}
    for row in connection.execute(statement):
        values = dict(row._mapping)
        values["geometry"] = tuple(values["geometry"]) if values["geometry"] else None
        found[CellRef(row.run_id, row.cell_id)] = AnswerRow(**values)
    return found


def progress(connection: Connection, run_id: str, live: bool = False) -> RunProgress:
    """Counts of a run. `live` counts the answers themselves, exact while a cell is still being worked on."""
    rc, p, lease = table(RunCell).c, table(PredictionTable).c, table(Lease).c
    complete = func.count(case((rc.status == "complete", 1)))
    sums = (func.coalesce(func.sum(column), 0) for column in (rc.n_expected, rc.n_done, rc.n_failed))
    cells, ready, expected, done, failed = connection.execute(
        select(func.count(), complete, *sums).where(rc.run_id == run_id)
    ).one()
    if live:
        n, bad = connection.execute(select(func.count(), func.count(p.error_type)).where(p.run_id == run_id)).one()
        done, failed = n - bad, bad
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


def alerts(connection: Connection, run_id: str | None = None, limit: int = 200) -> list[dict[str, Any]]:
    """Alerts, newest first; of one run if given."""
    a = table(Alert)
    statement = select(a).order_by(a.c.created_at.desc(), a.c.id.desc()).limit(limit)
    if run_id is not None:
        statement = statement.where(a.c.run_id == run_id)
    return [dict(row._mapping) for row in connection.execute(statement)]
