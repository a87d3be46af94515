"""A finished sweep says so by facts alone: no torch, no Ray, no model, and no picture drawn twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks.synth import FINGERPRINTED_IMAGES
from hero_ray.benchmarks.synthetic import documents
from hero_ray.cli import main, show
from hero_ray.core.config import build
from hero_ray.core.types import Prediction
from hero_ray.pipeline import facts, finished, hardware
from hero_ray.results import ending
from hero_ray.results.close import close_cells
from hero_ray.results.database import open_results
from hero_ray.store import Store, maintenance
from tests import fake_results, stored

SWEEP: dict[str, Any] = {
    "name": "tiny",
    "models": ["hero-tiny"],
    "tasks": [{"name": name, "source": {"num_images": 6}} for name in ("synth-exist", "synth-digits")],
    "methods": ["hero", "fastv"],
    "budgets": [0.4],
    "profile": {"enabled": False},
}
AGAIN = """
import sys
from hero_ray.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({"torch", "ray", "transformers", "scipy"} & set(sys.modules)))
"""


def answered(plan: facts.Plan, store: Store) -> str:
    """A run of a plan with every answer in it."""
    store.create_run("done", plan.config.name, plan.config.model_dump(mode="json"), plan.hash)
    store.add_cells("done", plan.cells, plan.expected)
    for unit in plan.units:
        made = [
            Prediction(cell.id, sample, "no", plan.benchmarks[sample.benchmark].score("no", sample.references, sample))
            for sample in unit.samples
            for cell in plan.cells
            if cell.benchmark == sample.benchmark
        ]
        store.write_unit("done", made)
    close_cells(store, "done", plan.cells, plan.benchmarks)
    store.set_status("done", "complete")
    return "done"


@pytest.mark.slow
def test_a_finished_sweep_says_so_without_torch(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    plan = facts.make_plan(build(SWEEP | {"db": url}))
    with open_results(url) as store:
        answered(plan, store)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(json.dumps(SWEEP), encoding="utf-8")
    command = [sys.executable, "-c", AGAIN, "sweep", str(sweep), "--db", url]
    shown = []
    for worked_out in ("scipy", ""):
        said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        assert "run done is complete; nothing to do" in said.stderr
        *table, last, loaded = said.stdout.splitlines()
        assert json.loads(last)["status"] == "complete"
        assert loaded == worked_out
        shown.append(table)
    assert shown[0] == shown[1]
    assert any("straw man" in line for line in shown[0])


def test_a_sweep_ends_in_every_form_and_for_scripts_on_any_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with open_results(url) as store:
        answered(facts.make_plan(build(SWEEP | {"db": url})), store)
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(SWEEP), encoding="utf-8")

    def ends(*more: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["sweep", str(file), "--db", url, *more])
        assert stopped.value.code == 0
        return capsys.readouterr().out

    (table,) = json.loads(ends("--format", "json"))["tables"]
    assert table["columns"][:3] == ["Model", "Method", "Budget"]
    assert ends("--format", "csv").splitlines()[0].startswith("Model,Method,Budget,")
    piped = ends()
    assert piped.startswith("| Model | Method | Budget |")
    monkeypatch.setattr(show, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    *drawn, last = ends().splitlines()
    assert drawn[0] == "Model: hero-tiny"
    assert not any(line.startswith("|") for line in drawn)
    assert json.loads(last) | {"seconds": 0} == json.loads(piped.splitlines()[-1]) | {"seconds": 0}


def test_an_ending_is_said_again_for_the_same_figures_only(tmp_path: Path, monkeypatch: Any) -> None:
    plan = facts.make_plan(build(SWEEP))
    names = [task.name for task in plan.benchmarks.values()]
    made, work_out = [], ending.work_out
    monkeypatch.setattr(ending, "work_out", lambda *a: made.append(a) or work_out(*a))
    with open_results(f"sqlite:///{tmp_path / 'results.db'}") as store:
        answered(plan, store)
        first = ending.ending(store, "done", names)
        assert ending.ending(store, "done", names) == first
        assert len(made) == 1
        assert ending.ending(store, "done", names[::-1]).table != first.table
        store.write_profile("done", plan.cells[0].id, {"batch_size": 1, "new_tokens": 8, "ttft_ms_p50": 9.0})
        faster = ending.ending(store, "done", names)
        assert (len(made), faster == work_out(store, "done", names), faster.table == first.table) == (3, True, False)
        close_cells(store, "done", plan.cells[:1], plan.benchmarks)
        assert ending.ending(store, "done", names) == faster
        assert len(made) == 4, "a cell that was closed again may say otherwise"
        monkeypatch.setattr(ending, "_code", lambda: "other code")
        ending.ending(store, "done", names)
        assert len(made) == 5


def test_an_ending_outlives_the_answers_it_was_made_from(tmp_path: Path, monkeypatch: Any) -> None:
    names = ("synth-color", "synth-digits")
    with open_results(f"sqlite:///{tmp_path / 'results.db'}") as store:
        cells = fake_results.fill(store, shift=0.5)
        store.write_unit("run1", [stored.failure(cells[0], fake_results.sample("synth-color", 1000, 3))])
        store.summarise("run1", [cells[0].id])
        first = ending.ending(store, "run1", names)
        assert first.failures == {"RuntimeError": 1}
        assert any("straw man" in note for note in first.notes)
        maintenance.prune(store, ["run1"], answers_only=True)
        assert ending.ending(store, "run1", names) == first
        monkeypatch.setattr(ending, "_code", lambda: "another version's")
        assert ending.ending(store, "run1", names) == first
        store.transaction(lambda connection: connection.exec_driver_sql("delete from endings"))
        without = ending.ending(store, "run1", names)
        assert without.table == first.table
        assert ending.GONE in without.notes
        assert not any("straw man on" in note for note in without.notes)
        assert sum(without.failures.values()) == 1, "the exit code stays"


def test_only_the_run_of_the_same_plan_is_finished(tmp_path: Path) -> None:
    config = build(SWEEP)
    plan = facts.make_plan(config)
    (fact,) = plan.models
    retrained = facts.make_plan(config, [facts.ModelFact(**{**vars(fact), "revision": "of other weights"})])
    with open_results(f"sqlite:///{tmp_path / 'results.db'}") as store:
        answered(plan, store)
        found = finished.earlier(plan, store)
        assert finished.already(found) == finished.RunOutcome("done", "complete", already_complete=True)
        assert finished.already(found, retry_failed=True) is None
        assert finished.earlier(plan, store, fresh=True) is None
        assert finished.earlier(retrained, store) is None
        store.set_status("done", "interrupted")
        assert finished.already(finished.earlier(plan, store)) is None


def test_planning_draws_only_the_pictures_it_fingerprints(monkeypatch: Any) -> None:
    made, draw = [], documents.__globals__["scene_at"]
    for cached in ("facts_at", "_drawn"):
        documents.__globals__[cached].cache_clear()
    monkeypatch.setitem(documents.__globals__, "scene_at", lambda *place: made.append(place) or draw(*place))
    assert facts.make_plan(build(SWEEP)).pictures > FINGERPRINTED_IMAGES
    assert sorted(made) == [("test", index, 0) for index in range(FINGERPRINTED_IMAGES)]


def test_cuda_is_asked_for_only_where_a_driver_is(monkeypatch: Any) -> None:
    monkeypatch.setattr(hardware.sys, "platform", "linux")
    monkeypatch.setattr(hardware, "GPU_NODES", ("/no/such/node",))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert not hardware.cuda_here()
    monkeypatch.setattr(hardware, "GPU_NODES", ("/no/such/node", "/"))
    assert hardware.cuda_here()
    monkeypatch.setattr(hardware.sys, "platform", "darwin")
    monkeypatch.setattr(hardware, "GPU_NODES", ())
    assert hardware.cuda_here()
