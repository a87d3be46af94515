"""Sweeps whose rows lie in files: where they go, what verbs say of them, workers that write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hero_ray.cli import main
from hero_ray.core.errors import ConfigError, RowFileError
from hero_ray.engine.evaluate import Settings
from hero_ray.pipeline import row_files as files
from hero_ray.pipeline.model_turns import model_args
from hero_ray.pipeline.orders import WorkerJob, pack_unit
from hero_ray.pipeline.worker import UnitWorker
from hero_ray.store import Store, maintenance, open_store, row_files
from tests.integration.sweeps import LOADER, answers, small_plan, undisturbed
from tests.row_file_data import CELLS, QUESTIONS, UNITS, begin, written


@pytest.mark.slow
def test_files_go_with_their_run_and_travel_in_a_backup(store: Store, folder: Path, tmp_path: Path) -> None:
    begin(store)
    written(store, folder)
    maintenance.backup(store, tmp_path / "copy.db")
    store.set_status("run1", "cancelled")
    with pytest.raises(SystemExit):
        main(["db", "prune", "--keep", "0", "--db", store.url])
    assert not list(folder.iterdir())
    assert maintenance.broken(store) == []
    with open_store(f"sqlite:///{tmp_path / 'copy.db'}") as copy:
        assert copy.read(row_files.outside, "run1") == (len(UNITS), QUESTIONS * len(CELLS))


@pytest.mark.slow
def test_verbs_load_files_and_say_what_lies_outside(
    store: Store, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(store)
    paths = written(store, folder)
    paths[0].unlink()

    def verb(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--db", store.url])
        shown = capsys.readouterr()
        return int(stopped.value.code or 0), shown.out, shown.err

    outside = "72 answers of run run1 lie in 6 row files"
    code, out, _ = verb("status", "run1")
    assert (code, outside in out, json.loads(out.splitlines()[-1])["in_row_files"]) == (0, True, 72)
    assert outside in verb("frontier", "--run", "run1")[2]
    store.acquire_lease("run1", "a sweep")
    code, out, _ = verb("db", "load")
    assert code == 1
    assert paths[0].name in out
    assert json.loads(out.splitlines()[-1])["rows"] == 60
    assert store.totals("run1") == (72, 0), "beside a sweep damage is told and not mended"
    store.release("run1", "a sweep")
    assert verb("db", "load", "run1")[0] == 1
    assert store.totals("run1") == (60, 0)
    code, out, _ = verb("db", "load")
    assert (code, json.loads(out.splitlines()[-1])["runs"]) == (0, [])


def test_where_rows_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = str(tmp_path / "shared")

    def place(url: str = f"sqlite:///{tmp_path / 'r.db'}", **document: object) -> Path | None:
        return files.folder_of(small_plan(1, **document), Store(url))

    assert place() is None
    assert place(rows_folder=shared) is None, "small sweeps go straight into the database"
    assert place(rows="parquet") == tmp_path / "r.db.rows"
    assert place(rows="parquet", rows_folder=shared) == Path(shared)
    with pytest.raises(ConfigError, match="needs `rows_folder`"):
        place("postgresql://nobody@nowhere/x", rows="parquet")
    with pytest.raises(ConfigError, match="until: decided"):
        place(rows="parquet", until="decided")
    monkeypatch.setattr(files, "OUTSIDE_FROM", 10)
    assert place(rows_folder=shared) == Path(shared)
    assert place() is None
    assert place(rows="database", rows_folder=shared) is None
    assert place(rows_folder=shared, until="decided") is None
    assert small_plan(1).hash == small_plan(1, rows="parquet", rows_folder=shared).hash


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RowFileError, match=r"cannot be written to .*file/rows"):
        files.begin(Store("sqlite:///:memory:"), "run1", tmp_path / "file" / "rows", print)


@pytest.mark.slow
def test_a_worker_keeps_its_rows_in_files(store: Store, folder: Path, tmp_path: Path) -> None:
    plan = small_plan(3)
    (model,) = plan.models
    store.create_run("run", "sweep", {}, plan.hash)
    store.add_cells("run", plan.cells, plan.expected)
    files.begin(store, "run", folder, print)
    arguments, packed = model_args(plan, model.name), [pack_unit(unit) for unit in plan.units]
    job = WorkerJob(
        *("run", store.url, model.name, arguments, plan.cells, plan.tasks, Settings()),
        rows_folder=str(folder),
        loader=LOADER,
    )
    for _ in range(2):  # the second finds nothing owed
        UnitWorker(job)({"unit": packed})  # type: ignore[dict-item]
    assert store.totals("run") == (sum(plan.expected.values()), 0)
    files.finish(store, "run", folder)
    assert answers(store, "run") == undisturbed(plan, tmp_path)
