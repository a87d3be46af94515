"""Questions and answers by a text in them. Nothing here writes.

Functions over an open connection: ask them by `store.read(searching.NAME, ...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from hero_ray.store.answers import AnswerRow
from hero_ray.store.tables import CellTable, PredictionTable, RunCell, SampleTable
from hero_ray.store.writes import table


@dataclass(frozen=True)
class Hit:
    """A question, or one answer to it, that holds a text.

    Attributes:
        text: the answer as it was given; "" for a question.
        cells: how many cells of the runs gave this answer; 0 for a question.
        score: mean of their scores; None where none of them was scored.
    """

    sample_id: str
    benchmark: str
    sample_key: str
    question: str
    text: str = ""
    cells: int = 0
    score: float | None = None


def questions(
    connection: Connection, run_ids: Sequence[str], text: str, benchmark: str | None = None, limit: int = 200
) -> list[Hit]:
    """Questions of the benchmarks these runs asked that hold a text, whatever its case; by benchmark and sample key."""
    s, c, rc = table(SampleTable).c, table(CellTable), table(RunCell)
    asked = select(c.c.benchmark).join(rc, rc.c.cell_id == c.c.id).where(rc.c.run_id.in_(run_ids))
    statement = (
        select(s.id.label("sample_id"), s.benchmark, s.sample_key, s.question)
        .where(s.question.icontains(text, autoescape=True), s.benchmark.in_(asked))
        .order_by(s.benchmark, s.sample_key, s.id)
        .limit(limit)
    )
    if benchmark:
        statement = statement.where(s.benchmark == benchmark)
    return [Hit(**row._mapping) for row in connection.execute(statement)]


def answers(
    connection: Connection, run_ids: Sequence[str], text: str, benchmark: str | None = None, limit: int = 200
) -> list[Hit]:
    """Answers of these runs that hold a text, whatever its case; equal ones to a question are one, most cells first."""
    p, s = table(PredictionTable).c, table(SampleTable).c
    said = (
        select(p.sample_id, p.text, func.count().label("cells"), func.avg(p.score).label("score"))
        .where(p.run_id.in_(run_ids), p.error_type.is_(None), p.text.icontains(text, autoescape=True))
        .group_by(p.sample_id, p.text)
        .subquery()
    )
    statement = (
        select(said.c.sample_id, s.benchmark, s.sample_key, s.question, said.c.text, said.c.cells, said.c.score)
        .join_from(said, table(SampleTable), s.id == said.c.sample_id)
        .order_by(said.c.cells.desc(), s.benchmark, s.sample_key, said.c.text)
        .limit(limit)
    )
    if benchmark:
        statement = statement.where(s.benchmark == benchmark)
    return [Hit(**row._mapping) for row in connection.execute(statement)]


def given(connection: Connection, sample_id: str, run_ids: Sequence[str]) -> list[AnswerRow]:
    """What every cell of some runs answered to one question, failures among it."""
    p = table(PredictionTable).c
    names = list(AnswerRow.__dataclass_fields__)
    statement = select(*(p[name] for name in names)).where(p.sample_id == sample_id, p.run_id.in_(run_ids))
    return [AnswerRow(**row._mapping) for row in connection.execute(statement)]
