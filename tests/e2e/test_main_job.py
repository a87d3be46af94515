"""The main job as a user runs it: the embedded model, Ray, SQL, the verbs on top, and a page that shows the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("HERO_RAY_DB", "RAY_ADDRESS")}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(folder: Path) -> dict:
    """The last line of a small sweep over everything the demo runs."""
    done = command(folder, "hero_ray.sweep", "--limit", "12", "--budgets", "20%", "--set", "profile.images=1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert any(line.startswith("| hero-tiny | hero | 20% |") for line in lines)
    return json.loads(lines[-1])


def test_the_last_line_says_what_was_done(finished: dict, folder: Path) -> None:
    assert finished["status"] == "complete"
    # full once, random with three seeds, six more methods; four benchmarks of twelve questions each
    assert finished["cells"] == 4 * (1 + 3 + 6)
    assert (finished["samples"], finished["failed"]) == (finished["cells"] * 12, 0)
    assert finished["db"].endswith("hero_ray.db")
    assert (folder / "hero_ray.db").is_file()
    assert finished["counters"]["answers"] == finished["samples"]


def test_the_same_command_again_says_complete(finished: dict, folder: Path) -> None:
    done = command(folder, "hero_ray.sweep", "--limit", "12", "--budgets", "20%", "--set", "profile.images=1")
    again = json.loads(done.stdout.strip().splitlines()[-1])
    assert (again["run_id"], again["status"]) == (finished["run_id"], "complete")
    assert "is complete" in done.stderr


def test_full_tokens_answer_and_pruned_cells_have_costs(finished: dict, folder: Path) -> None:
    from hero_ray.store import open_store

    with open_store(f"sqlite:///{folder / 'hero_ray.db'}", read_only=True) as store:
        points = store.points([finished["run_id"]])
    full = {point.benchmark: point for point in points if point.method == "full"}
    hero = {point.benchmark: point for point in points if point.method == "hero"}
    assert sum(point.value for point in full.values()) / len(full) > 0.6
    for name, point in hero.items():
        assert point.ci_low is not None
        assert point.ci_low <= point.value <= point.ci_high
        assert point.n_visual_llm < full[name].n_visual_llm
        assert point.flops < full[name].flops
        assert point.kv_bytes < full[name].kv_bytes
        assert point.profile["ttft_ms_p50"] > 0
        assert point.profile["certificate"]["device"]


@pytest.mark.parametrize(
    "verb",
    [["frontier"], ["compare", "hero@20%", "random@20%"], ["status"], ["status", "--all"], ["list", "methods"]],
    ids=" ".join,
)
def test_verbs_answer_from_the_database(finished: dict, folder: Path, verb: list[str]) -> None:
    done = command(folder, "hero_ray", *verb)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
