"""A sweep on a real local Ray, disturbed: nothing is lost, nothing doubled, the finished table is the quiet one."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sweeps import LOADER, answers, small_plan

from hero_ray.errors import RunLockedError
from hero_ray.pipeline.run import run
from hero_ray.store import Store, open_store

pytestmark = pytest.mark.ray


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path / 'results.db'}")


@pytest.fixture(scope="module")
def quiet(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The answers of an undisturbed run."""
    path = tmp_path_factory.mktemp("quiet") / "results.db"
    outcome = run(small_plan(), open_store(f"sqlite:///{path}"), loader=LOADER)
    return answers(path, outcome.run_id)


def test_a_run_completes_and_encodes_every_picture_once(
    local_ray: None, store: Store, tmp_path: Path, quiet: list[Any]
) -> None:
    plan = small_plan()
    outcome = run(plan, store, loader=LOADER)
    assert outcome.status == "complete"
    assert outcome.counters["encodes"] == len(plan.units) == len({sample.image_key for sample in plan.samples})
    assert outcome.counters["answers"] == sum(plan.expected.values()) == len(quiet)
    assert answers(tmp_path / "results.db", outcome.run_id) == quiet
    assert {count.missing for count in store.counts(outcome.run_id).values()} == {0}


def test_the_same_sweep_again_is_complete(local_ray: None, store: Store) -> None:
    plan = small_plan(num_images=2)
    first = run(plan, store, loader=LOADER)
    again = run(plan, store, loader="perf.sleeping:no_such_loader")
    assert (again.run_id, again.already_complete) == (first.run_id, True)
    assert run(plan, store, fresh=True, loader=LOADER).run_id != first.run_id


def test_a_worker_killed_once_changes_nothing(local_ray: None, store: Store, tmp_path: Path, quiet: list[Any]) -> None:
    victim = small_plan().units[2].image_key
    control = _control(tmp_path, die=victim, once="yes")
    outcome = run(small_plan(model_args={"control": str(control)}), store, loader=LOADER)
    assert not (control / "die").exists(), "the worker never met the picture that kills it"
    assert outcome.status == "complete"
    assert _without_ids(answers(tmp_path / "results.db", outcome.run_id)) == _without_ids(quiet)


@pytest.mark.parametrize("fault", ["die", "hang"])
def test_a_poison_picture_is_given_up_and_the_rest_goes_on(
    local_ray: None, store: Store, tmp_path: Path, fault: str
) -> None:
    plan = small_plan(
        model_args={"control": str(tmp_path / "control")},
        unit_timeout_s=3.0 if fault == "hang" else 600.0,
        max_attempts=2,
    )
    victim = plan.units[1]
    _control(tmp_path, **{fault: victim.image_key})
    outcome = run(plan, store, loader=LOADER)
    rows = answers(tmp_path / "results.db", outcome.run_id)
    errors = [row[-1] for row in rows if row[-1]]
    assert set(errors) == {"UnitAbandoned"}
    owed = sum(len([c for c in plan.cells if c.benchmark == s.benchmark]) for s in victim.samples)
    assert len(errors) == owed
    assert len(rows) == sum(plan.expected.values())
    assert outcome.status == "complete"


def test_a_second_start_is_told_who_holds_the_run(local_ray: None, store: Store) -> None:
    plan = small_plan(num_images=1)
    store.create_run("held", "sweep", {}, plan.hash)
    store.acquire_lease("held", "elsewhere:42", 60)
    with pytest.raises(RunLockedError, match="elsewhere:42"):
        run(plan, store, loader=LOADER)


DRIVER = """
import sys
from sweeps import LOADER, small_plan
from hero_ray.pipeline.run import run
from hero_ray.store import open_store
try:
    run(small_plan(num_images=8, model_args={"work_ms": 30}), open_store(sys.argv[1]), loader=LOADER)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_driver_is_resumed_to_the_same_table(
    local_ray: None, store: Store, tmp_path: Path, blow: signal.Signals
) -> None:
    database = tmp_path / "results.db"
    driver = _start_driver(store.url)
    rows = _wait_for_rows(database, driver, at_least=10)
    driver.send_signal(blow)
    code = driver.wait(timeout=240)
    assert code == (-signal.SIGKILL if blow == signal.SIGKILL else 130)
    plan = small_plan(num_images=8, model_args={"work_ms": 30})
    assert rows < sum(plan.expected.values()), "the driver finished before it was killed"
    if blow == signal.SIGKILL:  # its lease is still held; what expires in a minute is taken away here at once
        with sqlite3.connect(database) as connection:
            connection.execute("delete from leases")
    else:
        assert store.run("latest").status == "interrupted"
    resumed = run(plan, store, loader=LOADER)
    assert resumed.status == "complete"
    assert resumed.answered < sum(plan.expected.values()), "the resumed run began from nothing"
    undisturbed = run(plan, store, fresh=True, loader=LOADER)
    assert answers(database, resumed.run_id) == answers(database, undisturbed.run_id)


def _control(folder: Path, **files: str) -> Path:
    control = folder / "control"
    control.mkdir(exist_ok=True)
    for name, content in files.items():
        (control / name).write_text(content)
    return control


def _without_ids(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows without their cell id: loader options are part of a cell's identity."""
    return sorted(row[1:] for row in rows)


def _start_driver(url: str) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, url],
        env=environment,
        cwd=here.parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for_rows(database: Path, driver: subprocess.Popen[bytes], at_least: int) -> int:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert driver.poll() is None, "the driver ended by itself"
        with sqlite3.connect(database) as connection:
            (count,) = connection.execute("select count(*) from predictions").fetchone()
        if count >= at_least:
            return int(count)
        time.sleep(0.05)
    raise AssertionError("no rows within five minutes")
