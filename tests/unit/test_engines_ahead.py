"""Several pictures in one vLLM at once, with a stand-in: the same predictions, bounded, and each failure its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hero_ray.core.config import build
from hero_ray.core.errors import ReplicaError
from hero_ray.engine import ahead
from hero_ray.engine.ahead import UnitAsked, evaluate_ahead
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.pipeline import facts
from hero_ray.pipeline.orders import WorkerJob, pack_unit, unit_key
from hero_ray.pipeline.worker import UnitWorker
from hero_ray.store import Store, open_store
from tests.stand_in_vllm import StandInEngine, stand_in_model

SOURCE = {"num_images": 4, "questions_per_image": 2}
SWEEP: dict[str, Any] = {
    "tasks": [{"name": name, "source": SOURCE} for name in ("synth-exist", "synth-digits")],
    "methods": ["spatial", {"name": "fastv", "budgets": [0.4]}],
    "budgets": [0.2],
    "straw_men": False,
    "models": ["hero-tiny"],
    "model_args": {"engine": "auto"},
}


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> facts.Plan:
    torch.set_num_threads(1)
    monkeypatch.setattr(facts, "vllm_version", lambda: "0.32.0")
    return facts.make_plan(build(SWEEP))


@pytest.fixture(scope="module")
def model() -> Any:
    return stand_in_model()


def evaluator(plan: facts.Plan, adapter: Any) -> Evaluator:
    return Evaluator(adapter, plan.cells, plan.benchmarks, Settings())


def by_place(predictions: Any) -> dict[tuple[str, str], Any]:
    return {(one.cell_id, one.sample.key): one for one in predictions}


def test_pictures_share_the_engine_and_end_as_they_would_alone(
    plan: facts.Plan, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "MOST_OPEN", 3)
    alone = {unit.id: by_place(evaluator(plan, model).evaluate(unit)) for unit in plan.units}
    line, opened, ended = model.engine.vllm.line, list[str](), list[str]()
    most = 0

    def asked() -> Any:
        nonlocal most
        for unit in plan.units:
            opened.append(unit.id)
            yield UnitAsked(unit)
            most = max(most, len(line))

    each = sum(len(unit.samples) for unit in plan.units[:1]) * len([c for c in plan.cells if c.engine == "vllm"]) // 2
    for unit, predictions in evaluate_ahead(evaluator(plan, model), asked()):
        ended.append(unit.id)
        assert len(opened) - len(ended) < 3  # no more are open than may be
        assert by_place(predictions) == alone[unit.id]
    assert sorted(ended) == sorted(opened) == sorted(unit.id for unit in plan.units)
    assert most > each  # requests of more than one picture were under way at once
    assert len(line) == 0


def test_a_picture_that_cannot_be_read_costs_no_other_its_answers(plan: facts.Plan, model: Any) -> None:
    bad = plan.units[1]

    def load() -> Any:
        raise OSError("no such file")

    asked = [UnitAsked(unit, None, load if unit is bad else None) for unit in plan.units]
    found = {unit.id: told for unit, told in evaluate_ahead(evaluator(plan, model), asked)}
    for unit in plan.units:
        told = {one.error_type for one in found[unit.id]}
        assert told == ({"OSError"} if unit is bad else {None})


class Overflowing(StandInEngine):
    """Logits of NaN for prompts of one length, as of one odd picture."""

    length = 0

    def _answer(self, rows: torch.Tensor, params: Any) -> Any:
        return super()._answer(rows * float("nan") if len(rows) == self.length else rows, params)


def test_logits_of_nan_cost_one_answer_and_name_it(plan: facts.Plan) -> None:
    adapter = stand_in_model(kind=Overflowing)
    whole = evaluator(plan, adapter).evaluate(plan.units[0])
    assert {one.error_type for one in whole} == {None}
    lengths = {len(rows) for _, rows, _ in adapter.engine.vllm.engine.asked}
    Overflowing.length = max(lengths)
    try:
        found = [p for _, group in evaluate_ahead(evaluator(plan, adapter), map(UnitAsked, plan.units)) for p in group]
    finally:
        Overflowing.length = 0
    bad = [one for one in found if one.error_type]
    assert {one.error_type for one in bad} == {"NonFiniteScoreError"}
    assert 0 < len(bad) < len(found)


def test_an_engine_that_fails_ends_the_worker_and_who_leaves_takes_his_requests_along(
    plan: facts.Plan, model: Any
) -> None:
    going = evaluate_ahead(evaluator(plan, model), map(UnitAsked, plan.units))
    next(going)
    assert len(model.engine.vllm.line) > 0
    going.close()
    assert len(model.engine.vllm.line) == 0
    broken = stand_in_model()
    broken.engine.vllm.engine.fails = RuntimeError("out of blocks")
    with pytest.raises(ReplicaError, match="out of blocks"):
        list(evaluate_ahead(evaluator(plan, broken), map(UnitAsked, plan.units)))


@pytest.fixture
def begin(plan: facts.Plan, tmp_path: Path) -> Callable[..., Any]:
    """A worker of a fresh run on the stand-in, and its store."""

    def made(name: str, **job: Any) -> tuple[UnitWorker, Store]:
        store = open_store(f"sqlite:///{tmp_path / name}.db")
        store.create_run("r", "sweep", {}, plan.hash)
        store.add_cells("r", plan.cells, plan.expected)
        store.add_samples(plan.samples)
        given = {"model": "hero-tiny", "model_args": {}, "cells": plan.cells, "tasks": plan.tasks}
        given |= {"settings": Settings(), "loader": "tests.stand_in_vllm:stand_in_model"}
        return UnitWorker(WorkerJob("r", store.url, **given, **job)), store

    return made


def test_a_worker_commits_each_picture_once_and_asks_one_that_took_it_down_by_itself(
    plan: facts.Plan, begin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, store = begin("one", max_attempts=2)
    once, twice = plan.units[1], plan.units[2]
    for unit, attempts in ((once, 1), (twice, 2)):
        for _ in range(attempts):
            store.begin_unit("r", unit_key(unit, "hero-tiny"))
    alone: list[str] = []
    evaluate = Evaluator.evaluate
    monkeypatch.setattr(
        Evaluator, "evaluate", lambda self, unit, *rest: alone.append(unit.id) or evaluate(self, unit, *rest)
    )
    batch: Any = {"unit": [pack_unit(unit) for unit in plan.units]}
    outcomes = worker(batch)["outcome"]
    assert alone == [once.id]
    assert len(outcomes) == len(plan.units)
    with store:
        expected, failed = store.totals("r")
        assert failed == sum(len([c for c in plan.cells if c.benchmark == s.benchmark]) for s in twice.samples)
        assert expected == sum(plan.expected.values()) - failed
        again = UnitWorker(worker._job)(batch)["outcome"]
        assert len(again) == len(plan.units)
        assert store.totals("r") == (expected, failed)  # nothing is owed any more
