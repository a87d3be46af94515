"""The GPU script's whole path on miniatures: without Ray and SQL, and with each of its steps failing in turn."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hero_ray.core.config import ProfileSettings
from hero_ray.profiling.job import read_records
from perf import gpu_tables
from perf.paper_tables import TABLES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
AWAY = ("ray", "sqlalchemy", "alembic", "psycopg", "datasets", "pyarrow", "pandas", "fastapi", "streamlit", "plotly")
SCRIPT = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
sys.argv = ["gpu_tables", "--only", "hero,hired", "--repeats", "1", "--warmup", "0", "--out", sys.argv[2]]
runpy.run_module("perf.gpu_tables", run_name="__main__")
"""
SETTINGS = ProfileSettings(warmup=0, repeats=1)


def test_it_needs_neither_ray_nor_sql(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ",".join(AWAY), str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["failures"] == {}
    records = read_records(Path(said["file"]))
    assert said["records"] == len(records)
    heads = Path(said["file"]).with_suffix(".md").read_text(encoding="utf-8")
    assert [line.split(":")[0] for line in heads.splitlines() if line.startswith("## ")] == [
        "## hero", "## hero memory", "## hero invariance", "## hero graphs",
        "## hired", "## hired memory", "## hired invariance", "## hired batches",
    ]  # fmt: skip
    assert sum(record["method"] == "stock" for record in records) == 2


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the tables on one miniature with the n-th measurement, or the loading, failing; returns the session."""
    load, measure = gpu_tables.load, gpu_tables.measure

    def run(fails: int | None, name: str = "hero") -> gpu_tables.Session:
        calls: list[Any] = []

        def counted(*args: Any, **options: Any) -> list[dict[str, Any]]:
            calls.append(options)
            if len(calls) - 1 == fails:
                raise RuntimeError(f"CUDA error in measurement {fails}")
            return measure(*args, **options)

        def loaded(table: Any, folder: Path) -> Any:
            if fails == -1:
                raise OSError("no room on the disk")
            return load(table, folder)

        monkeypatch.setattr(gpu_tables, "measure", counted)
        monkeypatch.setattr(gpu_tables, "load", loaded)
        session = gpu_tables.Session(tmp_path, None)
        table = replace(TABLES[name], budgets="0.2", new_tokens=4, batches=TABLES[name].batches[:2])
        gpu_tables.run_table(name, table, tmp_path, session, SETTINGS, None)
        return session

    return run


@pytest.mark.parametrize(
    ("fails", "name", "failed", "kept"),
    [
        (-1, "hero", {"hero"}, set()),
        (0, "hero", {"hero"}, {"hero without stock", "hero graphs"}),
        (1, "hero", {"hero graphs"}, {"hero"}),
        (0, "hired", {"hired"}, {"hired without stock", "hired batches"}),
        (1, "hired", {"hired batches"}, {"hired"}),
    ],
    ids=["loading", "stock", "graphs", "stock of a batch sweep", "batch sweep"],
)
def test_a_step_that_fails_leaves_the_others(
    tiny: Any, fails: int, name: str, failed: set[str], kept: set[str]
) -> None:
    session = tiny(fails, name)
    assert session.failures.keys() == failed
    checks = {f"{name} {check}" for check in ("memory", "invariance")} if kept else set()
    assert {re.split("[:\n]", text)[0].removeprefix("## ") for text in session.texts} == kept | checks
    assert bool(session.records) == bool(kept)
    if kept:
        assert read_records(session.target) == session.records
