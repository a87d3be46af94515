"""The main job as a user runs it: the embedded model, Ray, SQL, the verbs on top, and a page that shows the result."""

from __future__ import annotations

import json

import pytest

from hero_ray.store import open_store
from tests.demo import SWEEP, Demo, command

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_the_last_line_says_what_was_done(demo: Demo) -> None:
    last = demo.last
    assert last["status"] == "complete"
    # full once; at two budgets random with three seeds and six more methods; four benchmarks of twelve questions each
    assert last["cells"] == 4 * (1 + 2 * (3 + 6))
    assert (last["samples"], last["failed"]) == (last["cells"] * 12, 0)
    assert last["db"].endswith("hero_ray.db")
    assert (demo.folder / "hero_ray.db").is_file()
    assert last["counters"]["answers"] == last["samples"]
    assert any(line.startswith("| hero-tiny | hero | 20% |") for line in demo.lines)


def test_the_same_command_again_says_complete(demo: Demo) -> None:
    done = command(demo.folder, *SWEEP)
    again = json.loads(done.stdout.strip().splitlines()[-1])
    assert (again["run_id"], again["status"]) == (demo.last["run_id"], "complete")
    assert "is complete" in done.stderr


def test_full_tokens_answer_and_pruned_cells_have_costs(demo: Demo) -> None:
    with open_store(demo.url, read_only=True) as store:
        points = store.points([demo.last["run_id"]])
    full = {point.benchmark: point for point in points if point.method == "full"}
    hero = [point for point in points if point.method == "hero"]
    assert len(hero) == 2 * len(full)
    assert sum(point.value for point in full.values()) / len(full) > 0.6
    for point in hero:
        assert point.ci_low is not None
        assert point.ci_low <= point.value <= point.ci_high
        assert point.n_visual_llm < full[point.benchmark].n_visual_llm
        assert point.flops < full[point.benchmark].flops
        assert point.kv_bytes < full[point.benchmark].kv_bytes
        assert point.profile["ttft_ms_p50"] > 0
        assert point.profile["certificate"]["device"]


@pytest.mark.parametrize("verb", ["frontier", "compare hero@20% random@20%", "status", "status --all", "list methods"])
def test_verbs_answer_from_the_database(demo: Demo, verb: str) -> None:
    done = command(demo.folder, "hero_ray", *verb.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
