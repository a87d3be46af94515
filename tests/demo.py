"""One small demo sweep for all tests of a session that look at its results: the sweep costs half a minute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SHORT = ("--set", "profile.images=1", "--set", "profile.repeats=2")
SWEEP = ("hero_ray.sweep", "--limit", "12", "--budgets", "40%,20%", *SHORT)
"""Everything that the demo runs, on twelve questions of each benchmark and two budgets."""


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m ARGUMENTS` in a user's folder."""
    environment = {key: value for key, value in os.environ.items() if key not in ("HERO_RAY_DB", "RAY_ADDRESS")}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )


@dataclass(frozen=True)
class Demo:
    """A finished sweep: where it ran and what it printed."""

    folder: Path
    lines: tuple[str, ...]
    stderr: str

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'hero_ray.db'}"

    @property
    def last(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lines[-1])
        return found


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("user")
    done = command(folder, *SWEEP)
    assert done.returncode == 0, done.stderr[-3000:]
    made = Demo(folder, tuple(done.stdout.strip().splitlines()), done.stderr)
    assert made.last["failed"] == 0
    return made
