"""The verb `tune` on the embedded model: one encode per picture, resumed after a kill, exported for a sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hero_ray.benchmarks import get
from hero_ray.core.config import MethodEntry
from hero_ray.core.encoded import Needs
from hero_ray.core.errors import SelectionError
from hero_ray.core.types import Cell
from hero_ray.engine.evaluate import Evaluator, Memory
from hero_ray.models import load
from hero_ray.studies.calibration import Questions
from hero_ray.studies.tuning.bench import Bench
from hero_ray.studies.tuning.space import parse_space

ROOT = Path(__file__).resolve().parents[2]
SPACE = "alpha=0..1,tile_layers=[1]|[6,7,8,9,10],text_term=clip|none"


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return load("hero-tiny")


def questions(limit: int) -> Questions:
    return Questions.of([get(name, split="validation") for name in ("synth-attribute", "synth-exist")], limit)


def test_pictures_are_encoded_once_over_all_trials(model: Any) -> None:
    asked = questions(6)
    space = parse_space(SPACE, MethodEntry(name="hero"), "0.1|0.3")
    bench = Bench(model, asked, space)
    points = [
        {"alpha": alpha, "tile_layers": layers, "text_term": term, "budget": ratio}
        for alpha, layers, term, ratio in (
            (0.5, (6, 7), "clip", 0.3),
            (1.0, (1,), "none", 0.1),
            (0.0, (1,), "clip", 0.1),
        )
    ]
    points[0]["tile_layers"] = (6, 7, 8, 9, 10)
    found = [bench.measure(*space.trial(point)) for point in points]
    assert bench.counters.encodes == bench.num_pictures == len(asked.units)
    assert bench.counters.answers == 3 * len(asked.samples)
    assert found[0].tokens > 2 * found[1].tokens
    assert all(len(one.answers) == len(bench.images) == len(asked.samples) for one in found)
    fresh = Bench(model, asked, space).measure(*space.trial(points[2]))
    assert fresh == found[2], "a trial does not depend on those before it"
    same = bench.against(found[0], found[0])
    assert (same.difference, same.ties) == (0.0, len(asked.samples))


def test_a_memory_refuses_what_it_does_not_capture(model: Any) -> None:
    cell = Cell("c", "hero-tiny", "hero", "exact", {}, 0.2, "synth-exist", "head")
    evaluator = Evaluator(model, [cell], {"synth-exist": get("synth-exist")}, memory=Memory(Needs()))
    with pytest.raises(SelectionError, match="the shared encodings capture only"):
        evaluator.needs  # noqa: B018


def command(folder: Path, *more: str) -> list[str]:
    options = ["--space", "alpha=0..1", "--budget", "0.1|0.3", "--trials", "5", "--limit", "4", "--name", "mine"]
    options += ["--benchmark", "synth-exist", "--out", str(folder / "tuning"), *more]
    return [sys.executable, "-m", "hero_ray", "tune", *options]


def environment() -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return {**plain, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_search_goes_on_and_its_best_serves_a_sweep(tmp_path: Path) -> None:
    first = subprocess.Popen(
        command(tmp_path), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert first.stderr is not None
    seen = 0
    for line in first.stderr:
        seen += line.startswith("trial ")
        if seen == 2:
            break
    assert seen == 2, "the search ended before it could be killed"
    state, deadline = tmp_path / "tuning" / "mine", time.monotonic() + 60
    while time.monotonic() < deadline and not any("TERMINATED" in f.read_text() for f in state.glob("experiment_st*")):
        time.sleep(0.2)  # Tune writes its state about once a second, later on a busy machine
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    first.stderr.close()
    done = subprocess.run(
        command(tmp_path, "--resume", "--preset", "mine"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["trials"], result["failed"]) == (5, 0)
    assert result["encodes"] == result["pictures"]
    again = [line for line in done.stderr.splitlines() if line.startswith("trial ")]
    assert len(again) < 5, "finished trials are not run again"
    plan = [sys.executable, "-m", "hero_ray", "sweep", "--methods", "preset:mine", "--limit", "2", "--dry-run"]
    planned = subprocess.run(plan, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr
    assert "hero" in planned.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--source", "split=test"], "is what sweeps report on"),
        (["--space", "beta=0..1"], "hero has no parameter 'beta'"),
        (["--resume"], "nothing to resume"),
        (["--benchmark", "synth-nothing"], "unknown benchmark"),
    ],
)
def test_bad_input_ends_before_ray_starts(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hero_ray.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["tune", "--out", str(tmp_path), *more])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
