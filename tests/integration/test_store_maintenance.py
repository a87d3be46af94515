"""Pruning, backup and restore, on both databases and from one to the other."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from hero_ray.cli import main
from hero_ray.core.errors import StoreError
from hero_ray.store import ImageRecord, MetricRow, Store, maintenance, open_store
from hero_ray.store.roles import allow_reading
from tests import stored as data

HERO, RANDOM = data.cell("hero"), data.cell("random")


def fill(store: Store, run_id: str, numbers: range, status: str = "complete") -> None:
    data.begin(store, run_id, [HERO, RANDOM])
    samples = [data.sample(i) for i in numbers]
    images = [ImageRecord(f"img{i}", 1, 1, b"x") for i in numbers]
    store.write_unit(run_id, [data.answer(c, s) for c in (HERO, RANDOM) for s in samples], images)
    store.write_metrics(run_id, HERO.id, [MetricRow("accuracy", 1.0, len(samples))])
    store.write_profile(run_id, HERO.id, {"batch_size": 1, "ttft_ms_p50": 3.0})
    store.add_alert("regression", "worse", run_id=run_id)
    store.set_status(run_id, status)


def test_pruning_takes_a_run_and_only_what_nobody_else_uses(store: Store) -> None:
    fill(store, "old", range(4))
    fill(store, "new", range(2, 6))
    kept = store.cell_scores("new", HERO.id)
    runs = maintenance.old_runs(store, keep=1, older_than=None)
    assert [run.id for run in runs] == ["old"]
    done = maintenance.prune(store, ["old"])
    assert (done.predictions, done.samples, done.images) == (8, 2, 2)
    assert [run.id for run in store.runs()] == ["new"]
    assert store.cell_scores("new", HERO.id) == kept
    assert maintenance.broken(store) == []
    assert maintenance.sizes(store)["alerts"] == 1


def test_pruning_answers_keeps_the_figures(store: Store) -> None:
    fill(store, "old", range(4))
    maintenance.prune(store, ["old"], answers_only=True)
    (point,) = store.points(["old"])
    assert (point.value, point.n_visual_llm, point.profile["ttft_ms_p50"]) == (1.0, 22.0, 3.0)
    assert store.totals("old") == (0, 0)


def test_unfinished_and_young_runs_are_not_old(store: Store) -> None:
    fill(store, "done", range(2))
    fill(store, "busy", range(2), status="running")
    assert [run.id for run in maintenance.old_runs(store, 0, None)] == ["done"]
    assert maintenance.old_runs(store, 0, timedelta(days=1)) == []
    maintenance.prune(store, ["done"])
    assert len(store.cell_scores("busy", HERO.id)) == 2


def everything(store: Store) -> list[object]:
    runs = sorted(store.runs(), key=lambda run: run.id)
    answers = [store.cell_scores(run.id, cell.id) for run in runs for cell in store.cells(run.id)]
    return [runs, answers, [store.points([run.id]) for run in runs], [store.metrics(run.id) for run in runs]]


def test_a_backup_brings_everything_back(store: Store, tmp_path: Path) -> None:
    fill(store, "one", range(4))
    fill(store, "two", range(2, 6))
    path = tmp_path / "copy.db"
    counts = maintenance.backup(store, path)
    assert (counts["runs"], counts["predictions"]) == (2, 16)
    assert sorted(p.name for p in tmp_path.glob("copy.db*")) == ["copy.db"]
    with open_store(f"sqlite:///{tmp_path / 'back.db'}") as back:
        assert maintenance.restore(path, back) == counts
        assert everything(back) == everything(store)
        assert maintenance.sizes(back) == maintenance.sizes(store)


def test_a_sqlite_backup_moves_to_postgresql(tmp_path: Path, postgres_url: str) -> None:
    with open_store(str(tmp_path / "a.db")) as small, open_store(postgres_url) as large:
        fill(small, "one", range(4))
        maintenance.backup(small, tmp_path / "copy.db")
        maintenance.restore(tmp_path / "copy.db", large)
        assert everything(large) == everything(small)
        large.add_alert("next", "its id must follow the restored ones", run_id="one")
        assert maintenance.sizes(large)["alerts"] == 2


def test_a_backup_never_overwrites_and_a_restore_never_mixes(store: Store, tmp_path: Path) -> None:
    fill(store, "one", range(2))
    path = tmp_path / "copy.db"
    maintenance.backup(store, path)
    with pytest.raises(StoreError, match="exists already"):
        maintenance.backup(store, path)
    before = everything(store)
    with pytest.raises(StoreError, match="already holds runs"):
        maintenance.restore(path, store)
    assert everything(store) == before


def last_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    shown = capsys.readouterr()
    assert stopped.value.code == 0, shown.err
    found = json.loads(shown.out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_the_verbs_of_the_database(store_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert last_line(capsys, "db", "upgrade", "--db", store_url)["published"] == 405
    with open_store(store_url) as store:
        fill(store, "one", range(2))
        fill(store, "two", range(2))
    assert last_line(capsys, "db", "check", "--db", store_url)["sound"] is True
    assert last_line(capsys, "db", "prune", "--keep", "1", "--dry-run", "--db", store_url)["runs"] == ["one"]
    assert last_line(capsys, "db", "backup", str(tmp_path / "b.db"), "--db", store_url)["runs"] == 2
    assert last_line(capsys, "db", "prune", "--keep", "1", "--db", store_url)["pruned"] is True
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    assert last_line(capsys, "db", "restore", str(tmp_path / "b.db"), "--db", fresh)["runs"] == 2


def test_a_reader_reads_and_does_nothing_else(postgres_url: str) -> None:
    """Its name and its password are any text; a second upgrade gives it the new password."""
    role, url = 'shows "results"', make_url(postgres_url)
    with open_store(postgres_url) as store:
        for password in ("first", "p@ss'w\\rd%s"):
            allow_reading(store, role, password)
        store.create_run("r", "sweep", {}, "hash")
    reader = url.set(username=role, password=password).render_as_string(hide_password=False)
    with open_store(reader, read_only=True) as store:
        assert [run.id for run in store.runs()] == ["r"]
    engine = create_engine(reader)
    for statement in ("DELETE FROM runs", "CREATE TABLE x (y int)", "UPDATE runs SET status = 'x'"):
        with engine.connect() as connection:
            connection.execute(text("SET default_transaction_read_only = off"))  # which is not what holds it back
            connection.commit()
            with pytest.raises(DBAPIError, match="permission denied"):
                connection.execute(text(statement))
    engine.dispose()


def test_a_reader_is_postgresqls(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'x.db'}") as store, pytest.raises(StoreError, match="its permissions"):
        allow_reading(store, "reader", "secret")


def test_upgrade_makes_the_reader(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HERO_RAY_READER_PASSWORD", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["db", "upgrade", "--reader", "shows", "--db", postgres_url])
    assert ended.value.code == 2
    assert "HERO_RAY_READER_PASSWORD" in capsys.readouterr().err
    monkeypatch.setenv("HERO_RAY_READER_PASSWORD", "a-long-secret")
    with pytest.raises(SystemExit, match="0"):
        main(["db", "upgrade", "--reader", "shows", "--db", postgres_url])
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1])["reader"] == "shows"
    assert "a-long-secret" not in out
    reader = make_url(postgres_url).set(username="shows", password="a-long-secret")
    with open_store(reader.render_as_string(hide_password=False), read_only=True) as store:
        assert store.runs() == []
