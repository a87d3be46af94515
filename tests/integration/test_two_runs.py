"""Two runs side by side: what was asked for differently, which cells they share, and what flipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hero_ray.results import two_runs
from hero_ray.results.two_runs import Difference, differences
from hero_ray.store import MetricRow, Store, open_store
from tests import stored as stores

FULL, HERO, OLD, GONE = (
    stores.cell("full", 1.0),
    stores.cell("hero", 0.2),
    stores.cell("hired", 0.2),
    stores.cell("ptp", 0.2),
)
NEW = replace(OLD, id="hired-new", spec={"code": "2"})
ADDED = stores.cell("hero", 0.1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """hero answers q0 worse and q1 better in B; hired got new code; ptp is A's alone, hero@10% B's."""
    samples = [stores.sample(i) for i in range(4)]
    with open_store(f"sqlite:///{tmp_path / 'two.db'}") as opened:
        for run, cells, scores in (
            ("a", (FULL, HERO, OLD, GONE), (1.0, 0.0, 1.0, 1.0)),
            ("b", (FULL, HERO, NEW, ADDED), (0.0, 1.0, 1.0, 1.0)),
        ):
            stores.begin(opened, run, cells)
            for cell in cells:
                values = scores if cell.method == "hero" else (1.0, 1.0, 1.0, 1.0)
                opened.write_unit(run, [stores.answer(cell, s, v) for s, v in zip(samples, values, strict=True)])
                mean = sum(values) / 4
                opened.write_metrics(run, cell.id, [MetricRow("accuracy", mean, 4, is_main=True)])
            opened.summarise(run)
        yield opened


def test_cells_are_paired_by_content_and_then_by_name(store: Store) -> None:
    pairs = two_runs.cells(store, store.run("a"), store.run("b"))
    told = {(pair.label, pair.state): pair for pair in pairs}
    assert list(told) == [
        ("full at 100%", two_runs.SAME),
        ("hero at 20%", two_runs.SAME),
        ("hired at 20%", two_runs.CHANGED),
        ("ptp at 20%", two_runs.ONLY_A),
        ("hero at 10%", two_runs.ONLY_B),
    ]
    hero = told["hero at 20%", two_runs.SAME]
    assert (hero.score_a, hero.score_b, hero.points) == (75.0, 75.0, 0.0), "an equal score hides two flips"
    assert (hero.counts.both, hero.counts.better, hero.counts.worse) == (4, 1, 1)
    assert told["hired at 20%", two_runs.CHANGED].changed == (Difference("code", "1", "2"),)
    assert told["ptp at 20%", two_runs.ONLY_A].counts is None
    assert told["hero at 10%", two_runs.ONLY_B].points is None


def test_configurations_differ_by_their_entries() -> None:
    a = {
        "limit": 60,
        "seed": 0,
        "profile": {"images": 2, "enabled": True},
        "methods": [{"name": "hero", "params": {}}, {"name": "ptp", "params": {"alpha": 0.5}}],
        "budgets": [{"ratio": 0.2, "tokens": None}, {"ratio": 0.4, "tokens": None}],
        "gone": "x",
    }
    b = a | {
        "limit": None,
        "profile": {"images": 3, "enabled": True},
        "methods": [{"name": "hero", "params": {}}],
        "budgets": a["budgets"][::-1],
        "come": {"x": 1},
    }
    del b["gone"]
    assert differences(a, a) == []
    assert differences(a, b) == [
        Difference("limit", "60", "null"),
        Difference("profile.images", "2", "3"),
        Difference("methods", '{"name": "ptp", "params": {"alpha": 0.5}}', "-"),
        Difference("budgets", json.dumps(a["budgets"]), json.dumps(b["budgets"])),
        Difference("gone", "x", "-"),
        Difference("come.x", "-", "1"),
    ]


def test_surroundings_leave_out_what_is_measured(store: Store) -> None:
    assert two_runs.measured_on(store.run("a"), store.run("b")) == []
    assert two_runs.asked(store.run("a"), store.run("b")) == []
