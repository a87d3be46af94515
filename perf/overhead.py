"""What Ray costs in the steady state, against a plain loop over `evaluate` on the same work.

    python -m perf.overhead [--units 60] [--work-ms 50] [--replicas 1]

Work is a sleeping model (50 ms an answer), so that both sides do the same thing whatever else the machine does. Both
commit every unit to SQLite. Start-up (Ray, actors, first block) is reported apart: it does not grow with the sweep.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from hero_ray.core.config import build
from hero_ray.core.plan import ModelFact, Settings
from hero_ray.pipeline import cluster
from hero_ray.pipeline.execute import execute
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.pipeline.orders import WorkerJob, pack_unit
from hero_ray.pipeline.worker import UnitWorker
from hero_ray.store import Store, open_store
from perf.report import report

SLEEPING = ModelFact("sleeping", "llava-1.5", "sleeping-1", "float32", 16)
LOADER = "perf.sleeping:load"


def sleeping_plan(units: int, **document: object) -> Plan:
    """A sweep of the sleeping model over `units` pictures with one cell and four questions each."""
    task = {"name": "synth-exist", "source": {"num_images": units, "questions_per_image": 4}}
    config = build({"tasks": [task], "methods": ["full"], "straw_men": False, "models": ["sleeping"], **document})
    return make_plan(config, [SLEEPING])


def open_run(plan: Plan, folder: Path, name: str) -> Store:
    """A fresh database with the plan's run in it."""
    store = open_store(f"sqlite:///{folder / name}.db")
    store.create_run(name, name, {}, name)
    store.add_cells(name, plan.cells, plan.expected)
    store.add_samples(plan.samples)
    return store


def job(plan: Plan, store: Store, run_id: str, work_ms: float, **more: object) -> WorkerJob:
    """The sleeping model's worker job."""
    return WorkerJob(
        run_id=run_id,
        store_url=store.url,
        model="sleeping",
        model_args={"work_ms": work_ms, **more},
        cells=plan.cells,
        tasks=plan.tasks,
        settings=Settings(),
        loader=LOADER,
    )


def plain_loop(plan: Plan, folder: Path, work_ms: float) -> float:
    """Seconds of a plain loop in this process."""
    store = open_run(plan, folder, "loop")
    worker = UnitWorker(job(plan, store, "loop", work_ms))
    packed = [pack_unit(unit) for unit in plan.units]
    started = time.perf_counter()
    worker({"unit": packed})  # type: ignore[dict-item]
    return time.perf_counter() - started


def ray_pass(plan: Plan, folder: Path, work_ms: float, replicas: int, name: str = "ray") -> tuple[float, float]:
    """(steady seconds, start-up seconds) of the same units through Ray Data."""
    store = open_run(plan, folder, name)
    pool = cluster.Pool(replicas, num_cpus=0.25, num_gpus=0.0, threads=1)
    started = time.time()
    outcomes = list(execute(plan.units, job(plan, store, name, work_ms), pool, 600))
    assert sum(outcome.answered for outcome in outcomes) == len(plan.samples)
    first = min(outcome.started_at for outcome in outcomes)
    return max(outcome.finished_at for outcome in outcomes) - first, first - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=60)
    parser.add_argument("--work-ms", type=float, default=50.0)
    parser.add_argument("--replicas", type=int, default=1)
    arguments = parser.parse_args()
    plan = sleeping_plan(arguments.units)
    with tempfile.TemporaryDirectory() as scratch, cluster.connected(None):
        folder = Path(scratch)
        loop = plain_loop(plan, folder, arguments.work_ms)
        steady, startup = ray_pass(plan, folder, arguments.work_ms, arguments.replicas)
    overhead = steady * arguments.replicas / loop - 1
    report(
        "overhead",
        {
            "answers": len(plan.samples),
            "work_ms": arguments.work_ms,
            "replicas": arguments.replicas,
            "loop_s": loop,
            "ray_steady_s": steady,
            "ray_startup_s": startup,
            "overhead_percent": 100 * overhead,
        },
    )


if __name__ == "__main__":
    main()
