"""A sweep that stops asking what is decided, on a real Ray: fewer answers, the same decisions however it ran."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sweeps import LOADER, script_environment, small_plan, when_rows

from dashboard.evidence import growing
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.run import run
from hero_ray.results import summary
from hero_ray.results.contenders import Results, every_model
from hero_ray.results.early import growth
from hero_ray.store import Store, open_store

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.parametrize("databases", ["sqlite"], indirect=True)]


def deciding_plan(**document: object) -> Plan:
    """The sleeping model's cells all answer alike, so that each is decided as soon as any can be."""
    return small_plan(num_images=100, until="decided", margin=20, **document)


def test_two_replicas_stop_early_and_say_so(local_ray: None, store: Store) -> None:
    plan = deciding_plan(replicas=2)
    outcome = run(plan, store, loader=LOADER)
    assert outcome.status == "complete"
    stopped = store.stopped(outcome.run_id)
    assert set(stopped) == {cell.id for cell in plan.cells}
    bases = {cell.id for cell in plan.cells if cell.method == "full"}
    assert {stopped[cell].reason for cell in set(stopped) - bases} == {"within 20 points of full"}
    assert all(0 < stopped[cell].pictures < 60 for cell in stopped)
    for cell in plan.cells:
        last = max(stopped[other.id].pictures for other in plan.cells if other.benchmark == cell.benchmark)
        assert stopped[cell.id].pictures == last or cell.id not in bases, "a baseline is asked as long as another cell"
    row = store.run(outcome.run_id)
    expected = sum(plan.expected.values())
    assert row.saved_answers == expected - store.totals(outcome.run_id)[0] > expected / 3
    assert row.saved_replica_s > 0
    found = every_model(store, outcome.run_id)
    assert f"{row.saved_answers} answers" in "\n".join(summary.notes(found, {}))
    assert {cell.status for cell in store.cells(outcome.run_id)} == {"stopped"}
    assert {metric.interval for metric in Results(store, "latest").metrics.values()} == {"betting"}
    grown = growth(Results(store, "latest"), "synth-exist", 0.2, "full")
    assert {len(one.within) >= (one.stop or 0) for one in grown} == {True}
    assert {bool(one.stop and one.within[one.stop - 1] > one.limit > one.within[one.stop - 2]) for one in grown} == {
        True
    }
    assert len(growing(grown, 20).data) == 3 * len(grown), "a line, what came after it, where it was decided"
    again = run(plan, store, loader="perf.sleeping:no_such_loader")
    assert again.already_complete


DRIVER = """
import sys
from sweeps import LOADER
from test_sweep_until_decided import deciding_plan
from hero_ray.pipeline.run import run
from hero_ray.store import open_store
run(deciding_plan(model_args={"work_ms": 5}), open_store(sys.argv[1]), loader=LOADER)
"""


def test_a_killed_and_resumed_sweep_decides_the_same(local_ray: None, store: Store, tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, store.url],
        env=script_environment(),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    when_rows(store, 200)
    driver.kill()
    assert driver.wait(timeout=240) == -signal.SIGKILL
    with store.engine.begin() as connection:
        connection.execute(text("delete from leases"))
    plan = deciding_plan(model_args={"work_ms": 5})
    resumed = run(plan, store, loader=LOADER)
    with open_store(f"sqlite:///{tmp_path / 'quiet.db'}") as other:
        quiet = run(plan, other, loader=LOADER)
        assert store.stopped(resumed.run_id) == other.stopped(quiet.run_id)
