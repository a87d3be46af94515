"""Every verb ends with JSON for scripts: its last line, and its only output with `--format json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hero_ray import cli
from hero_ray.cli import main, show
from hero_ray.store import open_store
from tests import fake_results as fake

RUN = ("--run", "run1")
READING: dict[str, tuple[str, ...]] = {
    "advise": (*RUN, "--max-loss", "30"),
    "check": ("hero@20% >= full - 90 on synth-color", *RUN),
    "compare": ("hero@20%", "hired@20%", *RUN),
    "frontier": RUN,
    "plan": ("--tasks", "synth-attribute", "--limit", "2"),
    "status": ("run1", "--failures"),
    "list": ("tasks",),
}
"""Verbs with `--format json`, and arguments to try them with."""
OTHERS: dict[str, tuple[str, ...]] = {
    "cancel": ("run1",),
    "describe": ("run1", "--name", "mine"),
    "export": ("OUT.tex", *RUN),
    "report": ("OUT.html", *RUN),
    "init": ("SWEEP.yaml",),
    "study": (),
    "nightly": ("--dry-run", "--limit", "2", "--models", "hero-tiny", "--tasks", "synth-attribute"),
    "db upgrade": (),
    "db check": (),
    "db load": (),
    "db prune": ("--keep", "9", "--dry-run"),
    "db backup": ("COPY.db",),
    "db merge": ("COPY.db",),
}
"""Verbs whose last line is JSON, in this order: some read what an earlier one wrote."""
ELSEWHERE = {
    "sweep": "test_sweep_cli",
    "board submit": "test_board",
    "board build": "test_board",
    "verify": "test_verify",
    "profile": "test_profiling_requests",
    "tune": "test_tuning",
    "calibrate": "test_calibrate",
    "doctor": "test_models_doctor",
    "import": "test_exchange_runs",
    "db restore": "test_store_maintenance",
    "nightly explain": "test_nightly",
    "nightly accept": "test_nightly",
    "serve": "runs until it is stopped",
    "dashboard": "runs until it is stopped",
}
"""Verbs that run a model, need another run's output or never end, and where they are tried."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERO_RAY_DB", f"sqlite:///{tmp_path / 'results.db'}")
    with open_store(str(tmp_path / "results.db")) as store:
        fake.fill(store, n=60)
    return tmp_path


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    out, err = capsys.readouterr()
    assert stopped.value.code in (0, None), err
    return out


def verbs(group: Any, path: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        inner = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from verbs(command, inner)
            if getattr(command, "invoke_without_command", False):
                yield inner
        else:
            yield inner


def test_no_verb_is_left_out() -> None:
    cli.load_verbs()
    assert set(verbs(typer.main.get_command(cli.app))) == {*READING, *OTHERS, *ELSEWHERE}


@pytest.mark.parametrize("verb", READING)
def test_format_json_is_one_object_and_nothing_else(verb: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(said([verb, *READING[verb], "--format", "json"], capsys))
    if verb != "list":  # lists are for people, or one array
        last = said([verb, *READING[verb]], capsys).rstrip("\n").rpartition("\n")[2]
        assert isinstance(json.loads(last), dict)


def test_the_last_line_of_the_others_is_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, arguments in OTHERS.items():
        last = said([*verb.split(), *arguments], capsys).rstrip("\n").rpartition("\n")[2]
        assert isinstance(json.loads(last), dict), verb


def test_on_a_terminal_people_get_no_json(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "is_terminal", lambda: True)
    for verb, arguments in (READING | OTHERS).items():
        if verb in ("plan", "nightly"):
            continue  # seconds, and said by the same function
        out = said([*verb.split(), *arguments], capsys)
        assert out.strip(), verb
        assert not any(line.startswith(("{", "[", "| :--")) for line in out.splitlines()), verb
