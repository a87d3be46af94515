"""Settings chosen per picture on the embedded model: calibration, ragged batches, and the study that judges them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hero_ray import benchmarks
from hero_ray.cli import main
from hero_ray.core.config import build, parse_method
from hero_ray.core.plan import units
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.methods import create
from hero_ray.methods.kit.adaptive import AdaptiveRatio
from hero_ray.models import load
from hero_ray.pipeline.facts import make_plan
from hero_ray.results.contenders import Results, parse_contender

PICTURES = 3


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return load("hero-tiny")


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("calibrated") / "ratio.json"
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "ratio", "--tasks", "synth-exist", "--limit", "24", "--out", str(out)])
    assert stopped.value.code in (0, None)
    return dict(json.loads(out.read_text(encoding="utf-8")))


def test_calibration_keeps_the_mean_budget_of_its_pictures(entry: dict[str, Any], model: Any) -> None:
    found = parse_method(entry["method"])
    method = create(found.name, **found.params)
    assert isinstance(method, AdaptiveRatio)
    assert method.mean_budget
    benchmark = benchmarks.get("synth-exist", split="validation")
    kept = asked = 0
    from hero_ray.core.encoded import Budget

    seen = {sample.image_key: sample for sample in benchmark.samples(24)}
    assert entry["samples"] == len(seen)
    for sample in seen.values():
        prepared = model.prepare(benchmark.load_image(sample.image_ref), sample.image_key)
        encoded = model.encode(prepared, method.needs(model.vision))
        budget = Budget.of(encoded.layout, 0.2)
        kept += method.select(encoded, budget).n_selected
        asked += budget.total
    assert kept == pytest.approx(asked, rel=0.02)


def test_calibration_refuses_methods_without_such_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "ratio", "--method", "hired", "--tasks", "synth-exist", "--limit", "2"])
    assert stopped.value.code == 2
    assert "hired has no `ratio` parameter" in capsys.readouterr().err


def test_ragged_budgets_batch_and_are_recorded_as_they_were(entry: dict[str, Any], model: Any) -> None:
    config = build(
        {
            "methods": [entry["method"], {"name": "hero", "params": {"alpha": "auto"}}, "hero"],
            "budgets": [0.2],
            "tasks": ["synth-attribute"],
            "straw_men": False,
        }
    )
    plan = make_plan(config)
    assert len({cell.id for cell in plan.cells}) == 3
    chosen = units(list(benchmarks.get("synth-attribute").samples()))[:PICTURES]

    def answered(batch_size: int) -> dict[tuple[str, str], Any]:
        evaluator = Evaluator(model, plan.cells, plan.benchmarks, Settings(batch_size=batch_size))
        found = [prediction for unit in chosen for prediction in evaluator.evaluate(unit)]
        assert [prediction.error_message for prediction in found if prediction.error_type] == []
        return {(one.cell_id, one.sample.key): one for one in found}

    together, alone = answered(64), answered(1)
    assert {key: one.text for key, one in together.items()} == {key: one.text for key, one in alone.items()}
    auto, question, fixed = plan.cells
    for (cell, key), one in together.items():
        assert one.tokens.budget_nominal == together[fixed.id, key].tokens.budget_nominal
        if cell == question.id:
            assert one.tokens.n_selected == one.tokens.budget_nominal
    kept = {one.tokens.n_selected / one.tokens.budget_nominal for (cell, _), one in together.items() if cell == auto.id}
    assert len(kept) == PICTURES, "every picture has a budget of its own"


def test_the_study_runs_and_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    options = ["--tasks", "synth-attribute", "--limit", "2", "--out", str(tmp_path), "--db", url]
    with pytest.raises(SystemExit) as stopped:
        main(["study", "adaptive", *options])
    assert stopped.value.code in (0, None)
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    from hero_ray.store import open_store, studies

    with open_store(url, read_only=True) as store, store.reading() as connection:
        (kept,) = studies.found(connection, "adaptive")
    rows = kept["result"]["tables"][0]["rows"]
    assert kept["id"] == printed["id"]
    assert {(row[0], row[1]) for row in rows} == {
        ("hero", "ratio auto"),
        ("hero", "alpha auto"),
        ("hero", "alpha auto, ratio auto"),
        ("fastervlm", "ratio auto"),
    }
    alpha = next(row for row in kept["result"]["tables"][1]["rows"] if row[1:3] == ["alpha auto", "alpha"])
    assert 0.0 <= alpha[3] <= alpha[-1] <= 1.0


class OneCell:
    """What `Contender.fits` reads of a stored cell."""

    method, variant, seed, tokens, retention_ratio = "hero", "exact", 0, None, 0.2

    def __init__(self, **params: Any) -> None:
        self.params = params


def test_fixed_and_chosen_ratios_can_both_be_named() -> None:
    fixed, auto = OneCell(alpha=0.5), OneCell(alpha=0.5, ratio="auto", ratio_mean=0.3, ratio_span=2.0)
    assert [parse_contender("hero:ratio=fixed@20%").fits(cell) for cell in (fixed, auto)] == [True, False]
    assert [parse_contender("hero:ratio=auto@20%").fits(cell) for cell in (fixed, auto)] == [False, True]
    results = object.__new__(Results)
    results.cells = [fixed, auto]
    fixed.id, auto.id = "a", "b"
    assert results.labels == {
        "a": "hero:ratio=fixed,ratio_mean=None,ratio_span=2.0@20%",
        "b": "hero:ratio=auto,ratio_mean=0.3,ratio_span=2.0@20%",
    }
