"""Samples on which two cells differ. Nothing here writes.

Functions over an open connection: ask them by `store.read(flips.NAME, ...)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, select, true

from hero_ray.store.answers import CellRef
from hero_ray.store.tables import (
    PredictionTable,
    SampleTable,
)
from hero_ray.store.writes import table


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
