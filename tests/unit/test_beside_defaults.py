"""The table of settings beside a method's first one: who stands beside whom, and that the page keeps the rest."""

from __future__ import annotations

from pathlib import Path

from hero_ray.core.config import build, read
from hero_ray.results.contenders import Results
from hero_ray.store import open_store
from perf import beside_defaults
from tests import fake_results as fake

ROOT = Path(__file__).parents[2]


def test_a_setting_stands_beside_the_first_one_of_its_method_and_budget(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'fake.db'}")
    tasks = ("synth-color", "synth-digits")
    fake.fill(store, more=[fake.cell("hero", ratio, task, merge=1.0) for task in tasks for ratio in (0.4, 0.2)])
    results = Results(store, "run1")
    found = dict(beside_defaults.beside(results))
    assert sorted(found.values()) == ["hero@20%", "hero@40%"]
    assert all(label.startswith("hero") and label != first for label, first in found.items())
    rows = [line for line in beside_defaults.section(results).splitlines() if line.startswith("| hero")]
    assert [row.rpartition("] | ")[2] for row in rows] == [
        "44.0 (44.0) | 4.000 (4.000) |",
        "24.0 (24.0) | 2.000 (2.000) |",
    ]


def test_the_sweep_begins_each_method_with_its_default() -> None:
    asked = build(read(ROOT / "configs" / "beside-defaults.yaml")).all_methods
    firsts = {entry.name: entry for entry in reversed(asked)}
    assert all(entry.params == {} for entry in firsts.values())
    assert len(asked) > len(firsts) > 1
