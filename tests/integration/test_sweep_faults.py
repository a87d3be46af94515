"""A sweep on a real local Ray, disturbed: nothing is lost, nothing doubled, the finished table is the quiet one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sweeps import LOADER, answers, begun_twice, script_environment, small_plan, undisturbed, when_rows

from hero_ray.core.errors import RunLockedError
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.finished import RunOutcome
from hero_ray.pipeline.run import run
from hero_ray.store import Store, open_store

pytestmark = pytest.mark.ray
ON_FILES = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    return undisturbed(small_plan(), tmp_path_factory.mktemp("quiet"))


@dataclass(frozen=True)
class Finished:
    """A sweep that nobody disturbed, on two replicas."""

    plan: Plan
    database: Path
    store: Store
    outcome: RunOutcome


@pytest.fixture(scope="module")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    plan, database = small_plan(replicas=2), tmp_path_factory.mktemp("finished") / "results.db"
    with open_store(f"sqlite:///{database}") as store:
        yield Finished(plan, database, store, run(plan, store, loader=LOADER))


@pytest.mark.slow
def test_a_run_completes_and_encodes_every_picture_once(finished: Finished, quiet: list[Any]) -> None:
    plan, store, outcome = finished.plan, finished.store, finished.outcome
    assert outcome.status == "complete"
    assert outcome.counters["encodes"] == len(plan.units) == len({sample.image_key for sample in plan.samples})
    assert outcome.counters["answers"] == sum(plan.expected.values()) == len(quiet)
    assert answers(finished.database, outcome.run_id) == quiet
    assert {count.missing for count in store.counts(outcome.run_id).values()} == {0}
    import ray

    assert ray.util.list_named_actors(all_namespaces=True) == [], "Ray Data's own take the place of replicas"


@pytest.mark.slow
def test_the_same_sweep_again_is_complete(finished: Finished) -> None:
    first = finished.outcome
    again = run(finished.plan, finished.store, loader="perf.sleeping:no_such_loader")
    assert (again.run_id, again.already_complete) == (first.run_id, True)
    one_replica = small_plan()
    assert one_replica.hash == finished.plan.hash
    assert run(one_replica, finished.store, fresh=True, loader=LOADER).run_id != first.run_id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("databases", "rows"), [("postgresql", "database"), ("sqlite", "parquet")], indirect=["databases"]
)
def test_a_worker_killed_once_changes_nothing(
    local_ray: None, store: Store, tmp_path: Path, quiet: list[Any], rows: str
) -> None:
    victim = small_plan().units[2].image_key
    control = _control(tmp_path, die=victim, once="yes")
    kept = {"rows": rows, "rows_folder": str(tmp_path / "rows")}
    plan = small_plan(replicas=2, model_args={"control": str(control)}, **kept)
    outcome = run(plan, store, loader=LOADER)
    assert not (control / "die").exists(), "the worker never met the picture that kills it"
    assert outcome.status == "complete"
    assert _without_ids(answers(store, outcome.run_id)) == _without_ids(quiet)
    assert begun_twice(store, outcome.run_id) == 1, "a lost worker takes its current unit with it, no more"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die", "hang"])
@ON_FILES
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
    rows = answers(store, outcome.run_id)
    errors = [row[-1] for row in rows if row[-1]]
    assert set(errors) == {"UnitAbandoned"}
    owed = sum(len([c for c in plan.cells if c.benchmark == s.benchmark]) for s in victim.samples)
    assert len(errors) == owed
    assert len(rows) == sum(plan.expected.values())
    assert outcome.status == "complete"


@ON_FILES
def test_a_second_start_is_told_who_holds_the_run(local_ray: None, store: Store) -> None:
    plan = small_plan(num_images=1)
    store.create_run("held", "sweep", {}, plan.hash)
    store.acquire_lease("held", "elsewhere:42", 60)
    with pytest.raises(RunLockedError, match="elsewhere:42"):
        run(plan, store, loader=LOADER)


DRIVER = """
import sys
from sweeps import LOADER
from test_sweep_faults import longer_plan
from hero_ray.pipeline.run import run
from hero_ray.store import open_store
try:
    run(longer_plan(int(sys.argv[2]), sys.argv[3]), open_store(sys.argv[1]), loader=LOADER)
except KeyboardInterrupt:
    sys.exit(130)
"""


REPLICAS = 2


def longer_plan(replicas: int = REPLICAS, rows: str = "database") -> Plan:
    """Enough to do that a driver can be stopped in the middle, and another after it."""
    return small_plan(num_images=16, replicas=replicas, model_args={"work_ms": 20}, rows=rows)


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    return undisturbed(longer_plan(), tmp_path_factory.mktemp("longer"))


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["database", "parquet"])
@ON_FILES
def test_a_run_stopped_again_and_again_ends_with_the_same_table(
    local_ray: None, store: Store, longer: list[Any], rows: str
) -> None:
    """Ctrl-C, a termination, a kill: each driver goes on where the one before it was stopped."""
    for blow in (signal.SIGINT, signal.SIGTERM):
        before = when_rows(store, 0)  # workers go on storing for a moment behind a stop
        driver = _start_driver(store.url, rows=rows)
        when_rows(store, before + 10)
        driver.send_signal(blow)
        assert driver.wait(timeout=240) == 130
        assert store.run("latest").status == "interrupted"
    _kill_a_driver(store, when_rows(store, 0) + 10, rows=rows)
    run_id = _finish_and_compare(store, longer, rows=rows)
    assert begun_twice(store, run_id) <= 3 * REPLICAS


def test_a_killed_driver_is_resumed_to_the_same_table(local_ray: None, postgres_url: str, longer: list[Any]) -> None:
    """Here on a cluster that outlives it, which must end what it had started."""
    import ray

    with open_store(postgres_url) as store:
        _kill_a_driver(store, 10, replicas=1, RAY_ADDRESS=ray.get_runtime_context().gcs_address)
        run_id = _finish_and_compare(store, longer, replicas=1)
        assert begun_twice(store, run_id) <= 1


def _kill_a_driver(
    store: Store, at_rows: int, replicas: int = REPLICAS, rows: str = "database", **environment: str
) -> None:
    """Start a driver and kill it once so many predictions are there."""
    driver = _start_driver(store.url, replicas, rows, **environment)
    when_rows(store, at_rows)
    driver.kill()
    assert driver.wait(timeout=240) == -signal.SIGKILL
    with store.engine.begin() as connection:  # what expires in a minute is taken away here at once
        connection.execute(text("delete from leases"))


def _finish_and_compare(
    store: Store, expected: list[tuple[Any, ...]], replicas: int = REPLICAS, rows: str = "database"
) -> str:
    """Resume the latest run, hold its table against an undisturbed one, return its id."""
    run_id = store.run("latest").id
    resumed = run(longer_plan(replicas, rows), store, loader=LOADER)
    assert (resumed.run_id, resumed.status) == (run_id, "complete")
    assert 0 < resumed.answered < len(expected), "the driver had finished, or the resumed run began from nothing"
    assert answers(store, run_id) == expected
    return run_id


def _control(folder: Path, **files: str) -> Path:
    control = folder / "control"
    control.mkdir(exist_ok=True)
    for name, content in files.items():
        (control / name).write_text(content)
    return control


def _without_ids(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows without their cell id: loader options are part of a cell's identity."""
    return sorted(row[1:] for row in rows)


def _start_driver(
    url: str, replicas: int = REPLICAS, rows: str = "database", **environment: str
) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, url, str(replicas), rows],
        env=script_environment(**environment),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
