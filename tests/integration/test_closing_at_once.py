"""Cells read and closed many at a time say what each says alone, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hero_ray.benchmarks.synth import SynthAttribute
from hero_ray.core.types import Metric, Scored
from hero_ray.results.close import close_cells, portions
from hero_ray.store import MetricRow, Store, said, samples, score_arrays, writes
from hero_ray.store.said import BETWEEN
from hero_ray.store.tables import SampleTable
from hero_ray.store.writes import table
from tests import stored as data

CELLS = [data.cell("hero"), data.cell("random"), data.cell("spatial"), data.cell("hired")]
HERO, RANDOM, FAILED, EMPTY = CELLS
SAMPLES = [data.sample(i, image=i // 2) for i in range(6)]
VALUES = [1.0, 0.0, 1 / 3, 0.1 + 0.2, 1.0, 0.0]


def fill(store: Store, run_id: str = "run1") -> None:
    """Answers of two cells of which one lacks some, failures of a third, nothing of a fourth."""
    data.begin(store, run_id, CELLS, samples=len(SAMPLES))
    store.write_unit(run_id, [data.answer(HERO, s, v) for s, v in zip(SAMPLES[::-1], VALUES, strict=True)])
    store.write_unit(run_id, [data.answer(RANDOM, SAMPLES[4], 0.5), data.answer(RANDOM, SAMPLES[1])])
    store.write_unit(run_id, [data.failure(c, SAMPLES[0], "OSError") for c in (RANDOM, FAILED)])


def listed(arrays: score_arrays.Scores) -> list[list[Any]]:
    return [part.tolist() for part in arrays]


def test_scores_of_cells_at_once_are_those_of_each(store: Store) -> None:
    fill(store)
    names, asked = [*(cell.id for cell in CELLS), "nobody"], score_arrays.Asked()
    found = store.read(score_arrays.of_cells, "run1", names, asked)
    assert list(found) == names
    for name in names:
        rows = [] if name == "nobody" else store.cell_scores("run1", name)
        expected = [[getattr(row, of) for row in rows] for of in ("sample_id", "image_key", "score")]
        assert listed(found[name]) == expected == listed(store.scores("run1", name))
    again = store.read(score_arrays.of_cells, "run1", [HERO.id, RANDOM.id], asked)
    assert [listed(part) for part in again.values()] == [listed(found[cell.id]) for cell in (HERO, RANDOM)]


def test_what_cells_said_comes_at_once_whatever_the_texts_hold(store: Store) -> None:
    fill(store)
    odd = [f"a{BETWEEN}b", "", BETWEEN]
    answers = [replace(data.answer(FAILED, s), text=text) for s, text in zip(SAMPLES[1:4], odd, strict=True)]
    nested = {"accuracy": 1.0, "note": f"x{BETWEEN}y"}
    store.write_unit("run1", [*answers, replace(data.answer(HERO, data.sample(7)), text="later", scores=nested)])
    store.write_unit("run1", [replace(data.answer(EMPTY, SAMPLES[0]), text="", scores={})])
    found = store.read(said.said, "run1", [*(cell.id for cell in CELLS), "nobody"])
    assert set(found) == {cell.id for cell in CELLS}
    for cell in CELLS:
        one, rows = found[cell.id], store.cell_scores("run1", cell.id)
        known = store.read(samples.by_number, one.numbers.tolist())
        told = zip([known[n][0] for n in one.numbers.tolist()], one.texts, one.scores, strict=True)
        assert sorted(told, key=lambda row: row[0]) == [(row.sample_id, row.text, row.scores) for row in rows]


def test_figures_of_cells_at_once_are_those_of_each(store: Store) -> None:
    figures = {
        HERO.id: [MetricRow("accuracy", 0.5, 6), MetricRow("f1", 0.25, 6), MetricRow("broken", float("nan"), 0)],
        RANDOM.id: [MetricRow("accuracy", 0.75, 2, is_main=True), MetricRow("accuracy", 1.0, 1, category="small")],
        EMPTY.id: [],
    }
    for run in ("run1", "run2"):
        fill(store, run)
        store.write_metrics(run, HERO.id, [MetricRow("gone", 1.0, 1)])
    for cell, rows in figures.items():
        store.write_metrics("run1", cell, rows)
    store.transaction(writes.write_all_metrics, "run2", figures)
    assert store.metrics("run1") == store.metrics("run2")
    alone, at_once = ([replace(c, run_id="", summarised_at=None) for c in store.cells(run)] for run in ("run1", "run2"))
    assert alone == at_once
    progress = {cell.id: (cell.status, cell.n_done, cell.n_failed, cell.mean_kv_bytes) for cell in at_once}
    assert progress[RANDOM.id] == ("running", 2, 1, 2048.0)
    assert progress[EMPTY.id] == ("running", 0, 0, None)
    assert progress[FAILED.id] == ("pending", 0, 0, None)
    store.summarise("run2")
    assert store.cells("run2")[2].n_failed == 1


def test_questions_are_found_by_numbers_that_lie_close_or_far_apart(store: Store) -> None:
    many = [data.sample(i) for i in range(40)]
    by_name = store.add_samples(many)
    numbers = sorted(by_name.values())
    column = table(SampleTable).c.id
    for wanted in (numbers[::-1], numbers[3:5] + numbers[6:9], [numbers[0], numbers[-1]], [numbers[-1] + 1000], []):
        found = store.read(lambda c, some: list(samples.columns_by_number(c, some, [column])), wanted)
        expected = {number: name for name, number in by_name.items() if number in wanted}
        assert dict(map(tuple, found)) == expected
        assert len(found) == len(expected)


def test_cells_go_together_up_to_a_number_of_answers() -> None:
    stored = {"a": 600_000, "b": 400_000, "c": 1, "d": 3_000_000, "e": 5}
    assert list(portions([*"abcdef"], stored)) == [["a", "b"], ["c"], ["d"], ["e", "f"]]
    assert list(portions([], stored)) == []
    assert list(portions([*"abc"], stored, 1_000_001)) == [["a", "b", "c"]]


def test_cells_before_one_that_cannot_be_aggregated_are_closed(store: Store) -> None:
    class Odd(SynthAttribute):
        main_metric = "accuracy"

        def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
            if len(scored) < len(SAMPLES):
                raise ZeroDivisionError("too few")
            return super().aggregate(scored)

    fill(store)
    with pytest.raises(ZeroDivisionError, match="too few"):
        close_cells(store, "run1", [HERO, RANDOM], {HERO.benchmark: Odd()})
    assert set(store.metrics("run1")) == {HERO.id}


def test_cells_with_the_same_questions_share_their_names(store: Store) -> None:
    fill(store)
    store.write_unit("run1", [data.answer(FAILED, sample, 0.25) for sample in SAMPLES])
    found = store.read(score_arrays.of_cells, "run1", [HERO.id, FAILED.id, RANDOM.id])
    assert found[HERO.id][1] is found[FAILED.id][1]
    assert np.isin(found[RANDOM.id][0], found[HERO.id][0]).all()
