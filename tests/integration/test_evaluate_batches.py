"""How answers of one picture are put into batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hero_ray import benchmarks
from hero_ray.core.config import build
from hero_ray.core.plan import units
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.models import load
from hero_ray.pipeline.facts import make_plan


@pytest.mark.parametrize("batch_size", [pytest.param(2, marks=pytest.mark.slow), 100])
def test_a_batch_is_decoded_as_large_as_it_was_asked_for(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    budgets = [index / 100 for index in range(60, 100)]
    document = {"methods": ["spatial", "random"], "budgets": budgets, "tasks": ["synth-attribute"], "straw_men": False}
    plan = make_plan(build(document))
    adapter: Any = load("hero-tiny")
    rows: list[int] = []
    answer = adapter.decoder.answer

    def seen(requests: Any, pruner: Any, positions: Any, options: Any) -> Any:
        rows.append(min(len(requests), options.batch_size))
        return answer(requests, pruner, positions, options)

    monkeypatch.setattr(type(adapter.decoder), "answer", lambda _, *given: seen(*given))
    unit = units(list(benchmarks.get("synth-attribute").samples()))[0]
    found = Evaluator(adapter, plan.cells, plan.benchmarks, Settings(batch_size=batch_size)).evaluate(unit)
    assert [one for one in found if one.error_type] == []
    assert max(rows) == batch_size
