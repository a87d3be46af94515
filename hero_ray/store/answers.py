"""Answers of cells: which are there, what was said and scored. Nothing here writes.

Functions over an open connection: ask them by `store.read(answers.NAME, ...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select

from hero_ray.store.records import ScoreRow
from hero_ray.store.tables import ImageTable, PredictionTable, SampleTable, UnitAttempt
from hero_ray.store.writes import table

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

SAMPLES_AT_ONCE = 500


@dataclass(frozen=True)
class CellRef:
    """A cell inside one run: what an answer belongs to."""

    run_id: str
    cell_id: str


def unlike(connection: Connection, a: CellRef, b: CellRef) -> int:
    """How many samples both cells answered with different texts."""
    first, second = table(PredictionTable).alias("a"), table(PredictionTable).alias("b")
    joined = first.join(second, first.c.sample_id == second.c.sample_id)
    held = [first.c.run_id == a.run_id, first.c.cell_id == a.cell_id]
    held += [second.c.run_id == b.run_id, second.c.cell_id == b.cell_id]
    both = [first.c.score.is_not(None), second.c.score.is_not(None), first.c.text != second.c.text]
    return int(connection.execute(select(func.count()).select_from(joined).where(and_(*held, *both))).scalar_one())


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


def done(connection: Connection, run_id: str, max_attempts: int = 3) -> set[tuple[str, str]]:
    """(cell id, sample id) of everything that need not be run again.

    A failure counts as done when the same input would fail again, or when it was tried `max_attempts` times.
    """
    p = table(PredictionTable).c
    statement = select(p.cell_id, p.sample_id).where(p.run_id == run_id, _settled(max_attempts))
    rows = connection.execute(statement).all()
    names: dict[str, str] = {}
    return {(names.setdefault(cell, cell), sample) for cell, sample in rows}


def _settled(max_attempts: int = 3) -> Any:
    p = table(PredictionTable).c
    return p.error_type.is_(None) | p.error_type.in_(PERMANENT) | (p.attempts >= max_attempts)


def begun_units(connection: Connection, run_id: str) -> dict[str, int]:
    """Unit id -> how many questions it had when nothing of it was missing any more; 0 for one that was only begun."""
    u = table(UnitAttempt).c
    rows = connection.execute(select(u.unit_id, func.coalesce(u.settled, 0)).where(u.run_id == run_id))
    return {unit: int(settled) for unit, settled in rows}


def is_begun(connection: Connection, run_id: str, unit_ids: Sequence[str]) -> bool:
    """Whether anybody began a unit under one of these ids: nothing is stored of one that nobody did."""
    u = table(UnitAttempt).c
    mine = select(u.attempts).where(u.run_id == run_id, u.unit_id.in_(unit_ids)).limit(1)
    return connection.execute(mine).scalar() is not None


def done_counts(
    connection: Connection, run_id: str, cell_ids: Sequence[str], sample_ids: Sequence[str], max_attempts: int = 3
) -> dict[str, int]:
    """Sample id -> in how many of `cell_ids` it need not be run again, for the samples asked about."""
    p = table(PredictionTable).c
    found: dict[str, int] = {}
    for start in range(0, len(sample_ids), SAMPLES_AT_ONCE):
        statement = (
            select(p.sample_id, func.count())
            .where(p.run_id == run_id, p.cell_id.in_(cell_ids), _settled(max_attempts))
            .where(p.sample_id.in_(sample_ids[start : start + SAMPLES_AT_ONCE]))
            .group_by(p.sample_id)
        )
        found |= {sample: int(count) for sample, count in connection.execute(statement)}
    return found


def done_cells(
    connection: Connection,
    run_id: str,
    sample_ids: Sequence[str],
    unit_ids: Sequence[str] = (),
    max_attempts: int = 3,
) -> dict[str, set[str]]:
    """Sample id -> cells in which it need not be run again, for the samples of one unit.

    Args:
        unit_ids: what the unit is called, where that is known; of one that nobody began no answer is looked for.
    """
    if unit_ids and not is_begun(connection, run_id, unit_ids):
        return {}
    p = table(PredictionTable).c
    statement = select(p.sample_id, p.cell_id).where(
        p.run_id == run_id, p.sample_id.in_(sample_ids), _settled(max_attempts)
    )
    found: dict[str, set[str]] = {}
    for sample, cell in connection.execute(statement):
        found.setdefault(sample, set()).add(cell)
    return found


def picture_sums(
    connection: Connection, run_id: str, cell_ids: Sequence[str], pictures: Sequence[str] | None = None
) -> list[tuple[str, str, float, int, int]]:
    """(cell id, picture, sum of main scores, answers, failures) of all pictures, or of those named."""
    p, s = table(PredictionTable).c, table(SampleTable).c
    ok = and_(p.score.is_not(None), p.error_type.is_(None))
    statement = (
        select(
            p.cell_id,
            s.image_hash,
            func.coalesce(func.sum(case((ok, p.score))), 0.0),
            func.count(case((ok, 1))),
            func.count(),
        )
        .join_from(table(PredictionTable), table(SampleTable), s.id == p.sample_id)
        .where(p.run_id == run_id, p.cell_id.in_(cell_ids))
        .group_by(p.cell_id, s.image_hash)
    )
    if pictures is not None:
        statement = statement.where(s.image_hash.in_(pictures))
    rows = connection.execute(statement)
    return [(cell, picture, float(total), int(n), int(rows) - int(n)) for cell, picture, total, n, rows in rows]


def most_questions(connection: Connection, benchmark: str) -> int:
    """Most questions about one picture that a benchmark's stored samples hold; 0 without any."""
    s = table(SampleTable).c
    each = select(func.count().label("n")).where(s.benchmark == benchmark).group_by(s.image_hash).subquery()
    return int(connection.execute(select(func.coalesce(func.max(each.c.n), 0))).scalar_one())


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


def failures(connection: Connection, run_id: str, limit: int = 100) -> list[dict[str, Any]]:
    """Failed samples of a run with their error, for the summary and the failures page."""
    p, s = table(PredictionTable).c, table(SampleTable).c
    statement = (
        select(p.cell_id, s.benchmark, s.sample_key, s.extra, p.error_type, p.error_message, p.attempts)
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
