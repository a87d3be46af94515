"""A database that commit c684a8b wrote (tests/fixtures) under today's code: migrated, read, compared, resumed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text
from sweeps import answers
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.core.config import build
from hero_ray.pipeline import predecessor
from hero_ray.pipeline.facts import make_plan
from hero_ray.store import Store, open_store
from hero_ray.store.schema import HEAD
from tests import old_results
from tests.old_results import REVISION

PAGES = Path(__file__).parents[2] / "dashboard" / "pages"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with the old database, not yet migrated."""
    old_results.unpack(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HERO_RAY_DB", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of the old database after `db upgrade`; tests only read it."""
    url = f"sqlite:///{old_results.unpack(tmp_path_factory.mktemp('upgraded'))}"
    hero_ray("db", "upgrade", "--db", url)
    return url


def hero_ray(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """What a command prints, in this process."""
    load_verbs()
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code in codes, (done.exit_code, done.output, done.exception)
    return done.output


def last_line(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


def run_named(store: Store, name: str) -> Any:
    (found,) = [each for each in store.runs() if each.sweep_name == name]
    return found


def table(database: Path, name: str, columns: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(database) as connection:
        return sorted(connection.execute(f"select {columns} from {name}").fetchall())


KEPT = {
    "runs": "id, config_hash, git_commit",
    "cells": "id, model, method, variant, retention_ratio, benchmark, flavour",
    "predictions": "run_id, cell_id, sample_id, text, score, n_visual_llm, flops, hex(keep_mask), error_type, attempts",
    "metrics": "run_id, cell_id, metric, category, value, ci_low, ci_high, n",
    "profiles": "run_id, cell_id, batch_size, new_tokens, certificate_hash, ttft_ms_p50",
    "samples": "id, sample_key, question",
    "alerts": "id, kind, run_id, message",
    "studies": "id, name, model",
}


def test_an_upgrade_brings_the_schema_up_and_loses_no_row(folder: Path) -> None:
    database = folder / "hero_ray.db"
    assert table(database, "alembic_version", "version_num") == [(REVISION,)]
    before = {name: table(database, name, columns) for name, columns in KEPT.items()}
    assert all(before.values())
    assert last_line(hero_ray("db", "upgrade"))["schema"] == HEAD
    assert last_line(hero_ray("db", "check"))["sound"] is True
    for name, columns in KEPT.items():
        assert table(database, name, columns) == before[name], name


def test_the_same_rows_in_postgresql(folder: Path, postgres_url: str, upgraded: str) -> None:
    old_results.fill_postgresql(folder / "hero_ray.db", postgres_url)
    hero_ray("db", "upgrade", "--db", postgres_url)
    assert last_line(hero_ray("db", "check", "--db", postgres_url))["sound"] is True
    with open_store(postgres_url, read_only=True) as store, open_store(upgraded, read_only=True) as other:
        assert [each.id for each in store.runs()] == [each.id for each in other.runs()]
        for each in store.runs():
            assert answers(store, each.id) == answers(other, each.id)
    ask = ("frontier", "--run", name_of(upgraded, "finished"), "--db")
    assert hero_ray(*ask, postgres_url) == hero_ray(*ask, upgraded)


def name_of(url: str, sweep: str) -> str:
    with open_store(url, read_only=True) as store:
        return str(run_named(store, sweep).id)


READERS = {
    "status": ("status", "RUN"),
    "frontier": ("frontier", "--run", "RUN"),
    "frontier by time": ("frontier", "--run", "RUN", "--axis", "ttft"),
    "average": ("frontier", "--run", "RUN", "--average"),
    "compare": ("compare", "hired@20%", "full", "--run", "RUN"),
    "compare runs": ("compare", "hired@20%", "hired@20%", "--run", "RUN", "--against-run", "KILLED"),
    "check": ("check", "full >= 50% of full on synth-digits", "--run", "RUN"),
    "advise": ("advise", "--run", "RUN", "--max-loss", "90"),
    "report": ("report", "report.md", "--run", "RUN"),
    "page": ("report", "report.html", "--run", "RUN"),
    "export": ("export", "figures.json", "--run", "RUN", "-f", "json"),
    "export answers": ("export", "answers.csv", "--run", "RUN", "--samples"),
}


UNTIMED = sorted(set(READERS) - {"frontier by time"})  # an interrupted run has no timings yet


@pytest.mark.parametrize(
    ("sweep", "reader"),
    [*(("finished", name) for name in sorted(READERS)), *(("interrupted", name) for name in UNTIMED)],
)
def test_every_reader_answers(
    reader: str, sweep: str, upgraded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ids = {"RUN": name_of(upgraded, sweep), "KILLED": name_of(upgraded, "interrupted")}
    words = [ids.get(word, word) for word in READERS[reader]]
    found = last_line(hero_ray(*words, "--db", upgraded, codes=(0, 1, 3) if reader == "check" else (0,)))
    assert found["run_id"] == ids["RUN"]


def test_figures_are_the_ones_that_were_stored(upgraded: str) -> None:
    """The frontier's cells, a paired comparison and a failed sample, with the numbers of the old table."""
    run_id = name_of(upgraded, "finished")
    output = hero_ray("compare", "hired@20%", "full", "--run", run_id, "--db", upgraded)
    with open_store(upgraded, read_only=True) as store:
        assert set(last_line(output)["verdicts"]) == {"synth-digits", "synth-exist"}
        points = store.points([run_id])
        assert len(points) == 80
        stored = {(cell, row.metric): row.value for cell, rows in store.metrics(run_id).items() for row in rows}
        for point in points:
            scores = store.scores(run_id, point.cell_id)[2]
            assert stored[point.cell_id, point.metric] == pytest.approx(float(scores.mean()))
        (failure, *_) = store.failures(run_named(store, "two-models").id)
        assert failure["error_type"] == "ImageError"


@pytest.mark.parametrize("page", sorted(path.stem for path in PAGES.glob("*.py")))
@pytest.mark.filterwarnings("ignore")
def test_every_page_of_the_dashboard_loads(page: str, upgraded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streamlit = pytest.importorskip("streamlit")
    from streamlit.testing.v1 import AppTest

    monkeypatch.chdir(PAGES.parents[1])
    monkeypatch.setenv("HERO_RAY_DB", upgraded)
    try:
        shown = AppTest.from_file(str(PAGES / f"{page}.py"), default_timeout=60).run()
    finally:
        streamlit.cache_data.clear()
        streamlit.cache_resource.clear()
    assert not shown.exception
    assert not shown.error


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_command(local_ray: None, folder: Path) -> None:
    """Answers that are there stay untouched; the rest equals what c684a8b answered in a run that nobody disturbed."""
    with open_store(f"sqlite:///{folder / 'hero_ray.db'}") as store:
        before, whole = run_named(store, "interrupted"), run_named(store, "finished")
        there = answers(store, before.id)
        cells = {cell.id for cell in store.cells(before.id)}
        expected = sum(cell.n_expected for cell in store.cells(before.id))
        assert before.status == "running"
        assert 0 < len(there) < expected
        last = last_line(hero_ray("sweep", "interrupted.yaml"))
        assert (last["run_id"], last["status"], last["failed"]) == (before.id, "complete", 0)
        now = answers(store, before.id)
        assert set(there) <= set(now)
        assert len(now) == expected == last["samples"]
        assert now == [row for row in answers(store, whole.id) if row[0] in cells]
        counts = store.counts(before.id).values()
        assert {(count.missing, count.failed) for count in counts} == {(0, 0)}
        with store.engine.connect() as connection:
            again = connection.execute(
                text("select count(*) from predictions where run_id = :run and attempts > 1"), {"run": before.id}
            )
            assert again.scalar_one() == 0
        (resumed,) = store.run(before.id).environment[predecessor.RESUMED].values()
        assert resumed["git_commit"] != before.git_commit
        against = hero_ray("compare", "hired@20%", "hired@20%", "--run", before.id, "--against-run", whole.id)
    assert set(last_line(against)["verdicts"]) == {"synth-digits", "synth-exist"}


def test_a_run_stopped_by_its_user_goes_on_or_the_reason_is_named(folder: Path) -> None:
    """Its methods choose their own count, so that a later version may plan fewer cells of them."""
    plan = make_plan(build(yaml.safe_load((folder / "own-count.yaml").read_text(encoding="utf-8"))))
    with open_store(f"sqlite:///{folder / 'hero_ray.db'}") as store:
        stopped = run_named(store, "own-count")
        assert stopped.status == "interrupted"
        if (found := store.find_run(plan.hash)) is not None:
            assert found.id == stopped.id
            return
        old = predecessor.find(plan, store)
        assert old is not None
        assert old.id == stopped.id
        assert "prumerge" in predecessor.explain(plan, store, old)


@pytest.mark.ray
@pytest.mark.slow
def test_nights_go_on(local_ray: None, folder: Path) -> None:
    """Tonight is compared with the nights of the old version, and the verdict says what is new since."""
    output = hero_ray("nightly", "--config", "panel.yaml", "--night", "2026-11-22")
    last = last_line(output)
    assert (last["status"], last["cells"], last["compared_with"], last["alarms"]) == ("ok", 6, 3, [])
    assert "| commit |" in output
    assert "2026-11-21" in hero_ray("nightly", "explain", "2026-11-21")
