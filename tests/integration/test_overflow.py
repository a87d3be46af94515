"""A model that overflows fails by name wherever it is asked, also under `full` and `random`; no empty answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hero_ray import benchmarks
from hero_ray.core.config import build
from hero_ray.core.errors import NonFiniteScoreError
from hero_ray.core.plan import units
from hero_ray.engine.cut import Pruning
from hero_ray.engine.evaluate import Evaluator
from hero_ray.engine.vlm import VisionLanguageModel
from hero_ray.methods import create
from hero_ray.models import load
from hero_ray.models.invariance import certify
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.run import run
from hero_ray.profiling.requests import Probe, arrange
from hero_ray.profiling.survey import survey
from hero_ray.serve.engine import Engine
from hero_ray.serve.engine_types import ChatJob
from hero_ray.serve.problems import problem_from
from hero_ray.serve.schemas import PruningRequest
from hero_ray.store import open_store
from tests.unit.test_benchmarks_images import encoded

PICTURE = Image.new("RGB", (128, 128), "red")
METHODS = ("full", "random", "vtw", "hero", "fastv", "dart")


def overflowing(part: str, dtype: str = "float16") -> Any:
    """hero-tiny with one weight scaled so that its outputs leave the range of `dtype`."""
    adapter: Any = load("hero-tiny", dtype=dtype)
    weights = {
        "language": adapter.model.model.language_model.layers[1].mlp.down_proj.weight,
        "tower": adapter.model.model.multi_modal_projector.linear_2.weight,
    }
    with torch.no_grad():
        weights[part].mul_(1e6 if dtype == "float16" else float("inf"))
    return adapter


def load_in_worker(name: str, **options: Any) -> Any:
    """What `hero_ray.models:load` is to a sweep, for a checkpoint that overflows."""
    return overflowing("language")


@pytest.fixture(scope="module", params=["language", "tower"])
def broken(request: pytest.FixtureRequest) -> Any:
    torch.set_num_threads(1)
    return overflowing(request.param)


@pytest.mark.parametrize("method", METHODS)
def test_generate_names_dtype_and_remedy(broken: Any, method: str) -> None:
    model = VisionLanguageModel(broken)
    with pytest.raises(NonFiniteScoreError, match="float16") as caught:
        model.generate(PICTURE, "What color is it?", method=method, retention_ratio=0.5)
    assert "bfloat16 or float32" in str(caught.value) or "dtype" in str(caught.value)


def test_generate_names_it_when_sampling_in_float32() -> None:
    model = VisionLanguageModel(overflowing("language", "float32"))
    with pytest.raises(NonFiniteScoreError, match="logits in float32 are NaN or infinite; check the weights"):
        model.generate(PICTURE, "What color is it?", temperature=0.7, top_p=0.9)


def test_a_sweep_stores_failures_and_no_zeros(broken: Any) -> None:
    plan = make_plan(build({"methods": list(METHODS), "budgets": [0.5], "tasks": ["synth-attribute"]}))
    unit = units(list(benchmarks.get("synth-attribute").samples()))[0]
    found = Evaluator(broken, plan.cells, plan.benchmarks).evaluate(unit)
    assert len(found) == len(plan.cells) * len(unit.samples)
    assert {(one.error_type, one.text) for one in found} == {("NonFiniteScoreError", "")}


def test_profile_and_doctor_refuse(broken: Any) -> None:
    with pytest.raises(NonFiniteScoreError):
        certify(broken, samples=2, new_tokens=2)
    probe = Probe(PICTURE, "What color is it?", "What color is it?", "red")
    with pytest.raises(NonFiniteScoreError, match="logits in float16"):
        survey(broken, arrange(broken, Pruning(create("full")), probe), 1, 2)


def test_serve_answers_with_an_error_that_says_so(broken: Any) -> None:
    jobs = [ChatJob("?", "?", encoded(PICTURE), PruningRequest(), 2) for _ in range(2)]
    for outcome in Engine({}).answer(broken, jobs):
        assert isinstance(outcome, NonFiniteScoreError)
        problem = problem_from(outcome)
        assert (problem.status, problem.code) == (500, "not_finite")
        assert "bfloat16 or float32" in problem.message


def test_serve_keeps_a_neighbour_that_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter: Any = load("hero-tiny")
    assemble, made = adapter.assemble, []

    def spoilt(*given: Any) -> Any:
        made.append(assemble(*given))
        return made[-1] * float("nan") if len(made) % 2 else made[-1]

    jobs = [ChatJob("What color is it?", "?", encoded(PICTURE), PruningRequest(), 2)] * 2
    well = Engine({}).answer(adapter, jobs[:1])[0]
    monkeypatch.setattr(adapter, "assemble", spoilt)
    first, second = Engine({}).answer(adapter, jobs)
    assert isinstance(first, NonFiniteScoreError)
    assert second.text == well.text


@pytest.mark.ray
@pytest.mark.slow
def test_a_whole_sweep_ends_with_named_failures_and_no_timings(local_ray: None, tmp_path: Path) -> None:
    document = {"methods": ["hero"], "budgets": [0.5], "tasks": ["synth-attribute"], "limit": 1, "replicas": 1}
    plan = make_plan(build(document | {"profile": {"images": 1, "repeats": 1}}))
    with open_store(f"sqlite:///{tmp_path / 'results.db'}") as store:
        outcome = run(plan, store, loader="tests.integration.test_overflow:load_in_worker")
        assert outcome.status == "complete"
        failures = store.failures(outcome.run_id)
        assert len(failures) == sum(plan.expected.values())
        assert {row["error_type"] for row in failures} == {"NonFiniteScoreError"}
        assert all("use bfloat16 or float32" in row["error_message"] for row in failures)
