"""A sweep whose data breaks between plan and replica, the hub gone: the run fails with one line and books no answer."""

import os
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.integration.hub_fixture import FIRST, shards

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def rows(path, query):
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.Error:
        return []


def test_lost_rows_fail_the_run_and_no_sample(hub, tmp_path):
    hub.put(FIRST, shards())
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env.pop("HERO_RAY_DATA", None)
    options = [
        "--model",
        "hero-tiny",
        "--methods",
        "full",
        "--no-straw-men",
        "--tasks",
        "pope",
        "--no-profile",
        "--replicas",
        "1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "hero_ray", "sweep", *options, "--db", f"sqlite:///{tmp_path / 'results.db'}"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    while rows(tmp_path / "results.db", "select status from runs") != [("running",)]:
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.05)
    for path in (tmp_path / "home").glob("hub/datasets--*/snapshots/*/data/test-*"):
        os.truncate(path, 0)  # Ray starts for seconds more, and a replica for seconds behind it
    hub.__exit__()
    out, err = process.communicate(timeout=500)
    assert process.returncode not in (0, None), out
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: a replica failed: cannot read Parquet ")
    assert last.endswith("test-00000-of-00004.parquet': Parquet file size is 0 bytes")
    assert rows(tmp_path / "results.db", "select status from runs") == [("failed",)]
    assert rows(tmp_path / "results.db", "select count(*) from predictions") == [(0,)]
