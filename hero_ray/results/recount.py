"""Recount what needs no model: questions against the dataset, scores against texts, figures and costs against rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.errors import HeroRayError
from hero_ray.core.plan import ENDPOINT
from hero_ray.core.text import brief
from hero_ray.core.types import Prediction, Sample
from hero_ray.results.close import metrics_of, scored_of
from hero_ray.results.truth import Untrue, mask_fault
from hero_ray.store import CellRow, MetricRow, Store, answers
from hero_ray.store.verifications import WholeAnswer, as_stored, question_as_stored
from hero_ray.store.writes import MEANS


def questions(rows: Sequence[WholeAnswer], known: Mapping[str, Sample]) -> Iterator[Untrue]:
    """Stored questions that are none of the dataset's, or were altered since.

    Args:
        known: the benchmark's samples by their ids.
    """
    for row in rows:
        sample = known.get(row.sample_id)
        key = str(row.question["sample_key"])
        if sample is None:
            yield Untrue("sample", "", key, brief(str(row.question["question"])), "no such question in the dataset")
            continue
        expected = question_as_stored(sample)
        for name, value in expected.items():
            if row.question[name] != value:
                yield Untrue("sample", "", key, f"{name} {brief(str(row.question[name]))}", brief(str(value)))


def rows_alone(
    cell: CellRow, rows: Sequence[WholeAnswer], known: Mapping[str, Sample], benchmark: Benchmark | None
) -> Iterator[Untrue]:
    """Scores that their texts do not earn, and masks that hold another number of tokens than is said.

    Args:
        benchmark: scores the texts; None where scoring needs a judge.
    """
    for row in rows:
        key = str(row.question["sample_key"])
        if fault := mask_fault(row.stored):
            yield Untrue("mask", cell.id, key, f"{row.stored['n_selected']} tokens kept", fault)
        sample = known.get(row.sample_id)
        if benchmark is None or sample is None or row.stored["error_type"]:
            continue
        try:
            scores = benchmark.score(row.stored["text"], sample.references, sample)
        except HeroRayError as error:
            yield Untrue("score", cell.id, key, str(row.stored["score"]), f"{type(error).__name__}: {error}")
            continue
        stored = {name: row.stored[name] for name in ("score", "scores")}
        stored["scores"] = {key: one for key, one in (stored["scores"] or {}).items() if key != ENDPOINT}
        earned = as_stored(Prediction(cell.id, sample, row.stored["text"], scores), benchmark.main_metric)
        for name in ("score", "scores"):
            if earned[name] != stored[name]:
                yield Untrue("score", cell.id, key, brief(str(stored[name])), brief(str(earned[name])))
                break


def figures(store: Store, run_id: str, cell: CellRow, benchmark: Benchmark) -> Iterator[Untrue]:
    """Figures, intervals and mean costs of a cell that its rows do not give."""
    scored = scored_of(benchmark, store.cell_scores(run_id, cell.id))
    largest = store.read(answers.most_questions, cell.benchmark) if cell.stop_reason else 0
    made = {
        (row.metric, row.category): row for row in (metrics_of(benchmark, scored, largest=largest) if scored else ())
    }
    made = {key: row for key, row in made.items() if math.isfinite(row.value)}
    held = {(row.metric, row.category): row for row in store.metrics(run_id, cell.id).get(cell.id, [])}
    for key in sorted(made.keys() | held.keys()):
        name = " ".join(part for part in key if part)
        if key not in made or key not in held:
            yield Untrue("metric", cell.id, name, _shown(held.get(key)), _shown(made.get(key)))
        elif changed := [n for n, value in asdict(made[key]).items() if not _close(value, getattr(held[key], n))]:
            yield Untrue("metric", cell.id, name, _shown(held[key], changed), _shown(made[key], changed))


def costs(cell: CellRow, rows: Sequence[WholeAnswer], asked: int | None) -> Iterator[Untrue]:
    """Counts and mean costs of a cell that its rows do not give, and answers left out.

    Args:
        asked: questions the run put to the cell; None where its configuration does not say.
    """
    failed = sum(row.stored["error_type"] is not None for row in rows)
    if cell.stop_reason is None and len(rows) != (asked or cell.n_expected):
        yield Untrue("count", cell.id, "questions", str(len(rows)), str(asked or cell.n_expected))
    for name, stored, counted in (
        ("answers", cell.n_done, len(rows) - failed),
        ("failures", cell.n_failed, failed),
    ):
        if stored != counted:
            yield Untrue("count", cell.id, name, str(stored), str(counted))
    for name in MEANS:
        values = [row.stored[name] for row in rows if row.stored[name] is not None]
        mean = math.fsum(values) / len(values) if values else None
        stored = getattr(cell, f"mean_{name}")
        if not _close(mean, stored):
            yield Untrue("cost", cell.id, f"mean {name}", str(stored), str(mean))


def _close(made: Any, held: Any) -> bool:
    if isinstance(made, float) and isinstance(held, int | float):
        return math.isclose(made, held, rel_tol=1e-9, abs_tol=1e-12)
    return bool(made == held)


def _shown(row: MetricRow | None, names: Sequence[str] = ("value",)) -> str:
    return "absent" if row is None else ", ".join(f"{name} {getattr(row, name)}" for name in names)
