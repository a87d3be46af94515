"""Real vLLM engines, in the interpreter that HERO_RAY_VLLM_PYTHON names (`make test-vllm`); skipped loudly without."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.real_vllm import MARKS, PYTHON

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, *MARKS]


def lane(*what: str) -> Any:
    """What `tests.vllm_lane` found, run by the other interpreter."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [PYTHON, "-m", "tests.vllm_lane", *what]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("model", ["hero-tiny", "hero-tiny-internvl"])
def test_every_early_method_answers_alike_on_both_engines(model: str) -> None:
    found = lane("agree", model, "4")
    assert found["prompts"] > 300
    assert found["parted"] == []
    assert found["forced_equal"] == found["forced"]
    assert found["logprob_difference"] < 1e-4


def test_every_language_model_type_answers_alike_or_parts_at_a_tie() -> None:
    for name, found in lane("kinds").items():
        assert found["prompts"] > 40, name
        assert [one for one in found["parted"] if one["margin"] >= 1e-4] == [], name
        assert found["logprob_difference"] < 1e-3, name


def test_a_killed_worker_and_a_resumed_sweep_end_in_the_same_table() -> None:
    found = lane("sweep")
    assert found["engines"] == ["ours", "vllm"]
    assert found["answers"] > found["rows_when_killed"] > 50
    assert found["equal_to_ours"]
    assert found["left_behind"] == []


def test_a_model_that_makes_room_leaves_nothing_behind_and_others_answer_on() -> None:
    found = lane("room")
    assert found["left"] == []
    assert found["equal"], found["answers"]


def test_a_language_model_shared_out_over_processes_answers_alike() -> None:
    found = lane("cards", "2", "1")
    assert found["processes"] >= 2
    assert found["prompts"] > 50
    assert [one for one in found["parted"] if one["margin"] >= 1e-4] == []


def test_no_process_of_a_shared_out_engine_outlives_its_worker() -> None:
    assert lane("orphans", "2") == {"members": 2, "left_behind": []}


def test_the_study_of_engines_runs_on_a_real_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    command = [PYTHON, "-m", "hero_ray", "study", "engines", "--limit", "2", "--methods", "hero", "--db", url]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    findings = json.loads(done.stdout.strip().splitlines()[-1])["findings"]
    assert findings["equal"] == findings["answers"] > 10
    assert findings["full: first token ms, vLLM over ours"] > 0
