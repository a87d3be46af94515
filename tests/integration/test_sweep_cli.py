"""The sweep's command line: bad input is one clear line and exit code 2, and nothing is written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hero_ray.cli import main

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


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`hero-ray sweep` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HERO_RAY_DB", raising=False)

    def run(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as stopped:
            main(["sweep", *arguments])
        return Ended(int(stopped.value.code or 0), *capsys.readouterr())

    return run


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_one_line_and_writes_nothing(case: str, sweep: Callable[..., Ended], tmp_path: Path) -> None:
    arguments, message = BAD[case]
    done = sweep(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_module_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hero_ray.sweep", "--methods", "heroo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Did you mean 'hero'?" in done.stderr


def test_a_read_only_database_is_refused_and_untouched(sweep: Callable[..., Ended], tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    database.write_bytes(b"")
    database.chmod(0o444)
    done = sweep("--db", f"sqlite:///{database}", "--limit", "1")
    assert done.returncode == 2
    assert "read-only" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert database.read_bytes() == b""


def test_dry_run_shows_the_plan_and_writes_nothing(sweep: Callable[..., Ended], tmp_path: Path) -> None:
    done = sweep("--dry-run", "--limit", "4")
    assert done.returncode == 0, done.stderr
    assert "encodes instead of" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_options_may_use_dashes_or_underscores(sweep: Callable[..., Ended]) -> None:
    dashes = sweep("--dry-run", "--batch-size", "3", "--limit", "2", "--model", "hero-tiny")
    underscores = sweep("--dry_run", "--batch_size", "3", "--limit", "2", "--models", "hero-tiny")
    assert dashes.returncode == 0, dashes.stderr
    assert dashes.stdout == underscores.stdout
