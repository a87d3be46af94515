"""The sweep's command line: bad input is one clear line and exit code 2, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]

BAD = {
    "unknown method": (["--methods", "heroo"], "Did you mean 'hero'?"),
    "unknown parameter": (["--methods", "hero:alfa=1"], "no parameter ['alfa']"),
    "parameter out of range": (["--methods", "hero:alpha=7"], "alpha"),
    "unknown task": (["--tasks", "synth-exits"], "Did you mean 'synth-exist'?"),
    "unknown model": (["--model", "hero-tinny"], "Did you mean 'hero-tiny'?"),
    "random weights": (["--model", "hero-tiny:random"], "accuracy is refused"),
    "ratio zero": (["--budgets", "0"], "outside (0, 1]"),
    "ratio two": (["--budgets", "2"], "outside (0, 1]"),
    "missing config": (["missing.yaml"], "no sweep file"),
    "unknown key": (["--set", "taskss=1"], "Did you mean 'tasks'?"),
    "negative limit": (["--limit", "-3"], "limit"),
    "database folder missing": (["--db", "sqlite:///nowhere/at/all.db"], "does not exist"),
}


def sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "HERO_RAY_DB"}
    command = [sys.executable, "-m", "hero_ray.sweep", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_one_line_and_writes_nothing(case: str, tmp_path: Path) -> None:
    arguments, message = BAD[case]
    done = sweep(tmp_path, *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_database_is_refused_and_untouched(tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    database.write_bytes(b"")
    database.chmod(0o444)
    done = sweep(tmp_path, "--db", f"sqlite:///{database}", "--limit", "1")
    assert done.returncode == 2
    assert "read-only" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert database.read_bytes() == b""


def test_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    done = sweep(tmp_path, "--dry-run", "--limit", "4")
    assert done.returncode == 0, done.stderr
    assert "encodes instead of" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_options_may_use_dashes_or_underscores(tmp_path: Path) -> None:
    dashes = sweep(tmp_path, "--dry-run", "--batch-size", "3", "--limit", "2", "--model", "hero-tiny")
    underscores = sweep(tmp_path, "--dry_run", "--batch_size", "3", "--limit", "2", "--models", "hero-tiny")
    assert dashes.returncode == 0, dashes.stderr
    assert dashes.stdout == underscores.stdout
