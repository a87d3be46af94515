"""`make test` and `make test-rest` share no test and leave none out; what is dear to make is made in one process."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from _pytest.mark.expression import Expression

from tests import tiers

FIXTURES = {"local_ray", "service", "lone", "demo", "demo_results", "chromium", "visit", "made"}
"""What gives a test a Ray, a service or a browser."""
LANES = {"demo": {"demo", "demo_results", "chromium"}, "ray": {"local_ray", "service"}}
"""What is made once for several files."""


def command(target: str) -> list[str]:
    """Words of the first test command of a target."""
    shown = subprocess.run(["make", "-n", target], cwd=tiers.ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in shown.splitlines() if " -m pytest " in line]
    first, again = line.split("||")
    assert "--last-failed" in again
    return shlex.split(first.partition(" -m pytest ")[2])


def test_every_test_is_in_exactly_one_of_the_two(request: pytest.FixtureRequest) -> None:
    quick, rest = command("test"), command("test-rest")
    expressions = [words[words.index("-m") + 1] for words in (quick, rest)]
    assert [word for word in quick if word != expressions[0]] == [word for word in rest if word != expressions[1]]
    assert not {"-k", "--ignore", "--deselect"} & set(quick), "a second way to leave tests out"
    assert not [word for word in quick if (tiers.ROOT / word).exists()], "a part of the tests alone"
    chosen = [Expression.compile(text) for text in expressions]
    for item in request.config.stash[tiers.COLLECTED]:
        marks = {mark.name for mark in item.iter_markers()}
        times = sum(one.evaluate(lambda name, marks=marks, **_: name in marks) for one in chosen)  # type: ignore[misc]
        assert times == 1, f"{item.nodeid} runs {times} times"
        assert "slow" not in marks or tiers.has_slow(item.path), f"make test-rest would not read {item.path}"


def test_ci_runs_both() -> None:
    steps = (tiers.ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [step for step in steps if step.startswith("make test")] == ["make test", "make test-rest"]


def test_what_needs_a_ray_or_a_browser_is_marked(request: pytest.FixtureRequest) -> None:
    """And what several files share is made in one process."""
    for item in request.config.stash[tiers.COLLECTED]:
        used = set(getattr(item, "fixturenames", ()))
        marked = any(item.get_closest_marker(name) for name in tiers.HEAVY)
        assert marked or not used & FIXTURES, f"{item.nodeid} uses {used & FIXTURES} without a mark of {tiers.HEAVY}"
        for lane, fixtures in LANES.items():
            assert tiers.scope(item.nodeid) == lane or not used & fixtures, f"{item.nodeid} is not in lane {lane}"
