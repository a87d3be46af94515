"""A run that other code began: what is said where it cannot go on, and that nothing else takes it for its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sweeps import LOADER, small_plan

from hero_ray.core.errors import ConfigError
from hero_ray.pipeline import predecessor
from hero_ray.pipeline.run import run
from hero_ray.store import Store

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


def older(store: Store, **changes: Any) -> Any:
    """A run of `small_plan` as a version would have left it to which FasterVLM's code was of another version."""
    plan = small_plan(num_images=1)

    def changed(cell: Any) -> Any:
        if cell.method != "fastervlm":
            return cell
        return replace(cell, id=f"old-{cell.id}", spec={**cell.spec, "method": {**cell.spec["method"], "code": 0}})

    cells = [changed(cell) for cell in plan.cells]
    config = {**plan.config.model_dump(mode="json"), **changes}
    store.create_run("old", "sweep", config, "older", {"packages": {"hero-ray": "0.0.9"}}, "0123456789")
    store.add_cells("old", cells, {cell.id: 2 for cell in cells})
    return plan


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_that_cannot_go_on_is_named_with_the_reason(local_ray: None, store: Store) -> None:
    plan = older(store)
    lines: list[str] = []
    outcome = run(plan, store, loader=LOADER, say=lines.append)
    assert outcome.run_id != "old"
    assert (outcome.status, store.run("old").status) == ("complete", "pending")
    (line,) = [line for line in lines if "was planned otherwise" in line]
    assert "run old of this sweep (pending, 0 answers, hero-ray 0.0.9 at commit 0123456)" in line
    assert "code version of fastervlm 0, now 1" in line
    assert "the version that began it" in line
    again: list[str] = []
    assert run(plan, store, loader=LOADER, say=again.append).already_complete
    assert again == []


def test_a_complete_run_needs_no_finishing(store: Store) -> None:
    plan = older(store)
    store.set_status("old", "complete")
    line = predecessor.not_continued(plan, store, store.run("old"))
    assert line.startswith("run old of this sweep (complete, 0 answers")
    assert line.endswith("It stays as it is and a new run begins")


def test_a_run_of_another_plan_is_not_written_into(store: Store) -> None:
    plan = older(store)
    with pytest.raises(ConfigError, match=r"run old was planned otherwise \(code version of fastervlm 0, now 1\)"):
        run(plan, store, run_id="old", loader="perf.sleeping:no_such_loader")


@pytest.mark.parametrize("changes", [{"limit": 7}, {"methods": []}, {"name": "another"}], ids=lambda it: next(iter(it)))
def test_another_request_is_no_predecessor(store: Store, changes: dict[str, Any]) -> None:
    assert predecessor.find(older(store, **changes), store) is None


@pytest.mark.parametrize("changes", [{"batch_size": 3, "db": "elsewhere"}, {"key_of_old": 5}])
def test_where_a_sweep_ran_does_not_matter(store: Store, changes: dict[str, Any]) -> None:
    found = predecessor.find(older(store, **changes), store)
    assert found is not None
    assert found.id == "old"


def test_hashes_are_shortened_and_parameters_are_not(store: Store) -> None:
    plan = older(store)

    def changed(cell: Any) -> Any:
        model = {**cell.spec["model"], "revision": "a" * 64}
        method = {**cell.spec["method"], "params": {"seed": 0, "a_parameter_with_a_long_name": [1, 2, 3, 4, 5, 6, 7]}}
        return replace(cell, id=f"new-{cell.id}", spec={**cell.spec, "model": model, "method": method})

    new = replace(plan, cells=tuple(changed(cell) for cell in plan.cells if cell.method == "random"))
    line = predecessor.explain(new, store, store.run("old"))
    assert "weights of sleeping sleeping-1, now aaaaaaaaaaaa...;" in line
    assert (
        "parameters of random {'seed': 0}, now {'seed': 0, 'a_parameter_with_a_long_name': [1, 2, 3, 4, 5, 6, 7]}"
        in line
    )


def test_cells_that_are_planned_no_longer_are_counted(store: Store) -> None:
    plan = older(store)
    fewer = replace(plan, cells=tuple(cell for cell in plan.cells if cell.method != "fastervlm"))
    line = predecessor.explain(fewer, store, store.run("old"))
    assert line == "no longer planned: fastervlm 50% (2 cells), fastervlm 20% (2 cells)"
    questions = fewer.cells[0].benchmark
    only = replace(fewer, samples=fewer.samples[:1], asked={questions: 1})
    store.create_run("like", "sweep", {}, "like")
    store.add_cells("like", fewer.cells, {cell.id: 2 for cell in fewer.cells})
    assert f"{questions} has 1 questions instead of 2" in predecessor.explain(only, store, store.run("like"))
