"""Whole stored answers, to be held against what a model says today, and what that found.

Functions over an open connection: ask them by `store.read(verifications.NAME, ...)`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from hero_ray.core.types import Prediction, Sample
from hero_ray.store import bulk
from hero_ray.store.engine import dump_json
from hero_ray.store.records import sample_id
from hero_ray.store.samples import sample_row
from hero_ray.store.tables import CellTable, MetricTable, PredictionTable, SampleTable, VerificationTable
from hero_ray.store.writes import finite, insert_missing, table

_KEYS = ("run_id", "cell_id", "sample_id")


@dataclass(frozen=True)
class WholeAnswer:
    """One row of `predictions` with its question's.

    Attributes:
        stored: every column of the row but its keys, by name.
        question: every column of the question's row, by name.
    """

    cell_id: str
    sample_id: str
    stored: Mapping[str, Any]
    question: Mapping[str, Any]


@dataclass(frozen=True)
class VerificationRow:
    """One verification of a run.

    Attributes:
        verdict: `bit-equal`, `equal text`, `differs` or `not asked`.
        fraction: share of pictures asked for; `drawn` of `pictures` were.
        seed: of the draw.
        answers: stored answers that were asked again; `bit_equal`, `equal_text` and `differs` of them.
        unasked: answers drawn that could not be asked again.
        recounted: questions, scores, costs and figures unlike the rows they come from.
        content: hash of the run's rows as they were held against.
        report: everything else that was found.
    """

    id: str
    run_id: str
    created_at: datetime
    verdict: str
    fraction: float
    seed: str
    pictures: int
    drawn: int
    answers: int
    bit_equal: int
    equal_text: int
    differs: int
    unasked: int
    recounted: int
    content: str
    git_commit: str | None
    report: Mapping[str, Any]


def whole_answers(connection: Connection, run_id: str, cell_id: str) -> list[WholeAnswer]:
    """The rows of a cell, failures included, in a fixed order."""
    p, s = table(PredictionTable).c, table(SampleTable).c
    own = [column for column in p if column.name not in _KEYS]
    questions = [column.label(f"question_{column.name}") for column in s]
    statement = (
        select(p.sample_id, *own, *questions)
        .join_from(table(PredictionTable), table(SampleTable), s.id == p.sample_id)
        .where(p.run_id == run_id, p.cell_id == cell_id)
        .order_by(p.sample_id)
    )
    found = []
    for row in connection.execute(statement).mappings():
        stored = {column.name: row[column.name] for column in own}
        if stored["keep_mask"] is not None:
            stored["keep_mask"] = bytes(stored["keep_mask"])
        question = {column.name: row[f"question_{column.name}"] for column in s}
        found.append(WholeAnswer(cell_id, row["sample_id"], stored, question))
    return found


def as_stored(prediction: Prediction, metric: str | None) -> dict[str, Any]:
    """A prediction as `whole_answers` would give it back, had it been written.

    Args:
        metric: the one kept in `predictions.score`.
    """
    batch = bulk.Batch.of("", [prediction], [prediction.sample], {prediction.sample.benchmark: metric or ""})
    (row,) = batch.rows.values()
    cut = dict.fromkeys(bulk.CUT) if row[0] is None else dict(zip(bulk.CUT, batch.cuts[row[0]], strict=True))
    told = cut | dict(zip(bulk.OWN, row[1:], strict=True))
    return {name: json.loads(value) if name in bulk.IN_JSON and value else value for name, value in told.items()}


def question_as_stored(sample: Sample) -> dict[str, Any]:
    """A question's row, had it been written; what JSON cannot tell apart (a tuple from a list) is one."""
    return json.loads(dump_json(sample_row(sample_id(sample), sample)))  # type: ignore[no-any-return]


def content(connection: Connection, run_id: str, cell_ids: Sequence[str]) -> str:
    """Hash of everything that a run says: its cells, their answers and questions, and its figures; timings left out."""
    hashed = hashlib.sha256()
    for cell_id in sorted(cell_ids):
        for line in _lines(connection, run_id, cell_id):
            hashed.update(line.encode())
    return hashed.hexdigest()


def _lines(connection: Connection, run_id: str, cell_id: str) -> Iterator[str]:
    c = table(CellTable)
    meant = connection.execute(select(c).where(c.c.id == cell_id)).mappings().one()
    yield dump_json(_ordered(dict(meant)))
    for answer in whole_answers(connection, run_id, cell_id):
        stored = dict(answer.stored) | {"keep_mask": (answer.stored["keep_mask"] or b"").hex()}
        yield dump_json([cell_id, *(_ordered(one) for one in (stored, answer.question))])
    m = table(MetricTable)
    figures = select(m).where(m.c.run_id == run_id, m.c.cell_id == cell_id).order_by(m.c.metric, m.c.category)
    for row in connection.execute(figures).mappings():
        yield dump_json([value for name, value in row.items() if name != "run_id"])


def _ordered(value: Any) -> Any:
    """Mappings as sorted pairs: PostgreSQL keeps no order of keys."""
    if isinstance(value, Mapping):
        return [[key, _ordered(value[key])] for key in sorted(value)]
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def add(connection: Connection, row: VerificationRow) -> None:
    """Keep a verification with its run."""
    values = {each.name: getattr(row, each.name) for each in fields(row)}
    insert_missing(connection, VerificationTable, [values | {"report": finite(dict(row.report))}])


def of_run(connection: Connection, run_id: str) -> list[VerificationRow]:
    """Verifications of a run, newest first."""
    v = table(VerificationTable)
    statement = select(v).where(v.c.run_id == run_id).order_by(v.c.created_at.desc(), v.c.id)
    return [VerificationRow(**row) for row in connection.execute(statement).mappings()]


def newest(connection: Connection) -> dict[str, str]:
    """Run id -> verdict of its newest verification."""
    v = table(VerificationTable).c
    rows = connection.execute(select(v.run_id, v.verdict).order_by(v.created_at))
    return {row.run_id: row.verdict for row in rows}
