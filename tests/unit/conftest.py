"""What tests of imports share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hero_ray.cli import main
from hero_ray.store import Store, open_store

Imported = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture(scope="session")
def empty_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results database without runs; making its tables takes longer than most tests here."""
    path = tmp_path_factory.mktemp("db") / "empty.db"
    open_store(str(path)).close()
    return path


@pytest.fixture(scope="module")
def store(path: str) -> Iterator[Store]:
    """What a module has written to `path`, to be read."""
    with open_store(path, read_only=True) as opened:
        yield opened


@pytest.fixture
def blank_store(tmp_path: Path, empty_results: Path) -> Iterator[Store]:
    with open_store(str(shutil.copy(empty_results, tmp_path / "results.db"))) as opened:
        yield opened


@pytest.fixture
def import_file(tmp_path: Path, empty_results: Path, capsys: pytest.CaptureFixture[str]) -> Imported:
    """`hero-ray import ...`: exit code, what it said, and the runs there are afterwards."""
    database = shutil.copy(empty_results, tmp_path / "cli.db")

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        with pytest.raises(SystemExit) as stopped:
            main(["import", *map(str, arguments), "--db", str(database)])
        said = capsys.readouterr()
        with open_store(str(database), read_only=True) as opened:
            return int(stopped.value.code or 0), said.out + said.err, [run.status for run in opened.runs()]

    return call
