"""Every offline variant of the papers' tables answers one question per benchmark in every cell, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hero_ray.evaluate import Evaluator, Settings
from hero_ray.models import load
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.forecast import describe_plan
from hero_ray.studies import papers

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "paper" / "offline"


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return load("hero-tiny")


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_an_offline_variant_answers_in_every_cell(name: str, model: Any, tmp_path: Path) -> None:
    config = papers.load(FOLDER / f"{name}.yaml").model_copy(update={"limit": 1})
    plan = make_plan(config)
    forecast = describe_plan(plan, f"sqlite:///{tmp_path / 'none.db'}")
    evaluator = Evaluator(model, plan.cells, plan.benchmarks, Settings(budget_base=config.budget_base))
    found = [prediction for unit in plan.units for prediction in evaluator.evaluate(unit)]
    assert f"{len(plan.cells)} cells" in forecast
    assert len(found) == sum(plan.expected.values()) == len(plan.cells)
    assert [prediction.error_message for prediction in found if prediction.error_type] == []
