"""The hosted lanes: both parse, run what exists, and ask for no more rights than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LANES: dict[str, dict[Any, Any]] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / ".github" / "workflows").iterdir()
}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def triggers(lane: str) -> Any:
    return LANES[lane][True]  # YAML 1.1 reads the key `on` as true


def commands(lane: str) -> list[str]:
    return [step["run"] for job in LANES[lane]["jobs"].values() for step in job["steps"] if "run" in step]


def test_both_lanes_are_there() -> None:
    assert sorted(LANES) == ["ci", "newest"]
    assert "push" in triggers("ci")
    assert ".ci/run" in commands("ci")
    assert "make test-newest" in commands("newest")


@pytest.mark.parametrize("lane", sorted(LANES))
def test_every_command_of_ours_exists(lane: str) -> None:
    for command in commands(lane):
        for target in re.findall(r"\bmake ([\w-]+)", command):
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"the Makefile has no target {target}"
        if command.startswith("."):
            assert (ROOT / command.split()[0]).stat().st_mode & 0o100, f"{command} is no program"


@pytest.mark.parametrize("lane", sorted(LANES))
def test_a_lane_only_reads(lane: str) -> None:
    assert LANES[lane]["permissions"] == {"contents": "read"}
    assert not re.search(r"\$\{\{[^}]*secrets", (ROOT / ".github" / "workflows" / f"{lane}.yml").read_text())


def test_the_newest_lane_runs_once_a_week() -> None:
    schedule = [entry["cron"].split() for entry in triggers("newest")["schedule"]]
    assert [(day, month, weekday) for _, _, day, month, weekday in schedule] == [("*", "*", "1")]
    assert "workflow_dispatch" in triggers("newest")


def test_the_locked_lane_has_every_python_and_machine_of_the_lock() -> None:
    matrix = LANES["ci"]["jobs"]["locked"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert {*matrix["machine"], *(more["machine"] for more in matrix["include"])} == {
        "ubuntu-24.04",
        "ubuntu-24.04-arm",
    }
