"""Whole cells with shared prefixes read in place: the answers that copies give, and a cell of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hero_ray import benchmarks, models
from hero_ray.core.config import build
from hero_ray.core.plan import units
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.methods import names
from hero_ray.pipeline.facts import make_plan
from hero_ray.store import open_store
from tests.answered import answered, small_sweep

MODELS = ("hero-tiny", "hero-tiny-internvl")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_cell_answers_as_with_copies(name: str) -> None:
    torch.set_num_threads(1)
    document = {"models": [name], "methods": list(names()), "budgets": [0.4, 0.1], "tasks": ["synth-attribute"]}
    plan = make_plan(build(document))
    pictures = units(list(benchmarks.get("synth-attribute").samples()))[:3]
    assert all(len(unit.samples) > 1 for unit in pictures), "several questions share a picture"
    found: list[list[Any]] = []
    for prefix in ("copied", "in-place"):
        evaluator = Evaluator(models.load(name, device="cpu", prefix=prefix), plan.cells, plan.benchmarks, Settings(64))
        found.append([answer for unit in pictures for answer in evaluator.evaluate(unit)])
    assert len(found[0]) == len(plan.cells) * sum(len(unit.samples) for unit in pictures)
    assert [one for one in found[1] if one.error_type] == []
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_sweep_that_asks_for_it_has_cells_of_its_own(tmp_path: Any) -> None:
    torch.set_num_threads(1)
    plans = [small_sweep(2, model_args=given) for given in ({}, {"prefix": "copied"}, {"prefix": "in-place"})]
    ids = [[cell.id for cell in plan.cells] for plan in plans]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])
    scores = []
    for number in (0, 2):
        with open_store(f"sqlite:///{tmp_path / f'{number}.db'}") as store:
            run = answered(store, plans[number], f"run-{number}")
            scores.append([store.scores(run, cell.id)[2].tolist() for cell in plans[number].cells])
    assert scores[0] == scores[1]
    assert all(scores[0])
