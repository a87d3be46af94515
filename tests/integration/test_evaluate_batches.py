"""How answers of one picture are put into batches, and what of a picture's faults is an answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hero_ray import benchmarks
from hero_ray.core.config import build
from hero_ray.core.errors import INFRASTRUCTURE, HeroRayError, ImageError, MissingExtraError, SelectionError
from hero_ray.core.plan import units
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.models import load
from hero_ray.pipeline.facts import make_plan


def evaluator_of(name: str) -> tuple[Evaluator, Any]:
    torch.set_num_threads(1)
    document = {"methods": ["full"], "tasks": [{"name": name, "source": {"num_images": 1}}], "straw_men": False}
    plan = make_plan(build(document))
    return Evaluator(load("hero-tiny"), plan.cells, plan.benchmarks), plan.units[0]


def broken(error: Exception) -> Any:
    def load(*_: Any) -> Any:
        raise error

    return load


@pytest.mark.parametrize("error", [kind("gone") for kind in INFRASTRUCTURE if kind is not MissingExtraError], ids=repr)
def test_what_no_picture_can_help_is_no_answer(error: HeroRayError, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub, weights, rows or the database: it ends the worker, whether the picture or CLIP met it."""
    evaluator, unit = evaluator_of("synth-count")
    with pytest.raises(type(error), match="gone"):
        evaluator.evaluate(unit, load=broken(error))
    monkeypatch.setattr(evaluator.adapter, "prompt", broken(error))
    with pytest.raises(type(error), match="gone"):
        evaluator.evaluate(unit)


@pytest.mark.parametrize("error", [ImageError("torn"), SelectionError("torn"), ValueError("torn")], ids=repr)
def test_what_one_picture_has_is_its_own(error: Exception) -> None:
    evaluator, unit = evaluator_of("synth-count")
    found = evaluator.evaluate(unit, load=broken(error))
    assert {one.error_type for one in found} == {type(error).__name__}
    assert len(found) == len(unit.samples)


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


def prepared_by(methods: list[str], budgets: list[float], size: int = 64) -> tuple[Evaluator, list[Any]]:
    torch.set_num_threads(1)
    document = {"methods": methods, "budgets": budgets, "tasks": ["synth-attribute", "synth-exist"], "straw_men": False}
    plan = make_plan(build(document))
    evaluator = Evaluator(load("hero-tiny"), plan.cells, plan.benchmarks, Settings(batch_size=size))
    jobs, failed = evaluator.prepared(plan.units[0])
    assert not failed
    return evaluator, jobs


def test_equal_choices_share_their_tokens() -> None:
    """A method that reads the question rarely chooses otherwise for it; merged tokens are never shared."""
    _, jobs = prepared_by(["hero", "hero:merge=true"], [0.2])
    plain = [job for job in jobs if job.cut.selection.edited is None]
    masks = {job.cut.mask for job in plain}
    assert 0 < len(masks) < len({job.sample.question for job in plain})
    assert {len({id(job.request.visual) for job in plain if job.cut.mask == mask}) for mask in masks} == {1}
    assert all(job.request.visual is job.cut.visual for job in jobs)
    merged = [job for job in jobs if job.cut.selection.edited is not None]
    assert len({id(job.request.visual) for job in merged}) == len({job.sample.question for job in merged})


@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_what_shares_a_prefix_is_not_torn_apart(size: int) -> None:
    evaluator, jobs = prepared_by(["random", "full"], [0.1, 0.2], size)
    batches = list(evaluator.batches(jobs))
    assert sorted(id(job) for batch in batches for job in batch) == sorted(map(id, jobs))
    assert max(map(len, batches)) <= size
    for visual in {id(job.request.visual) for job in jobs}:
        count = sum(id(job.request.visual) == visual for job in jobs)
        holding = sum(any(id(job.request.visual) == visual for job in batch) for batch in batches)
        assert holding == -(-count // size) or holding == 1
    lengths = [job.request.visual.shape[0] for batch in batches for job in batch]
    assert lengths == sorted(lengths)
