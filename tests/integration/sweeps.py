"""Small sweeps of the sleeping model for integration tests, and the table two runs are compared by."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from hero_ray.core.config import build
from hero_ray.core.plan import ModelFact
from hero_ray.engine.evaluate import Settings
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.pipeline.model_turns import model_args
from hero_ray.pipeline.orders import WorkerJob, pack_unit
from hero_ray.pipeline.worker import UnitWorker
from hero_ray.store import Store, open_store

SLEEPING = ModelFact("sleeping", "llava-1.5", "sleeping-1", "float32", 16)
LOADER = "perf.sleeping:load"


def small_plan(num_images: int = 6, **document: Any) -> Plan:
    """Two benchmarks over the same few pictures, three methods, two budgets, one seed, one replica.

    A replica costs four seconds of processor time to start; a test asks for the second where it matters.
    """
    source = {"num_images": num_images, "questions_per_image": 2}
    tasks = [{"name": name, "source": source} for name in ("synth-exist", "synth-count")]
    defaults: dict[str, Any] = {
        "tasks": tasks,
        "methods": ["random", "fastervlm"],
        "budgets": [0.5, 0.2],
        "random_seeds": 1,
        "models": ["sleeping"],
        "profile": {"enabled": False},
        "replicas": 1,
    }
    return make_plan(build(defaults | document), [SLEEPING])


def answers(results: Path | Store, run_id: str) -> list[tuple[Any, ...]]:
    """Everything a prediction says, in a fixed order; what must be equal between a disturbed and a quiet run.

    Equal whether it comes from a SQLite file or from an open store of either kind.
    """
    if isinstance(results, Path):
        with open_store(f"sqlite:///{results}") as store:
            return answers(store, run_id)
    statement = text(
        "select cell_id, sample_id, text, score, n_selected, n_visual_llm, keep_mask, error_type"
        " from predictions where run_id = :run order by cell_id, sample_id"
    )
    with results.engine.connect() as connection:
        found = connection.execute(statement, {"run": run_id}).all()
    return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in found]


def undisturbed(plan: Plan, folder: Path) -> list[tuple[Any, ...]]:
    """The table a plan must end with: its units answered one after another in this process, without Ray or sleep."""
    with open_store(f"sqlite:///{folder / 'undisturbed.db'}") as store:
        store.create_run("quiet", "sweep", {}, plan.hash)
        store.add_cells("quiet", plan.cells, plan.expected)
        store.add_samples(plan.samples)
        (model,) = plan.models
        job = WorkerJob(
            run_id="quiet",
            store_url=store.url,
            model=model.name,
            model_args=model_args(plan, model.name) | {"work_ms": 0},
            cells=plan.cells,
            tasks=plan.tasks,
            settings=Settings(),
            loader=LOADER,
        )
        UnitWorker(job)({"unit": [pack_unit(unit) for unit in plan.units]})  # type: ignore[dict-item]
        return answers(store, "quiet")


def begun_twice(store: Store, run_id: str) -> int:
    """Units of a run that were begun more than once: the work that was done again."""
    statement = text("select count(*) from unit_attempts where run_id = :run and attempts > 1")
    with store.engine.connect() as connection:
        return int(connection.execute(statement, {"run": run_id}).scalar_one())


def script_environment(**more: str) -> dict[str, str]:
    """For a script that imports this module, in a process and, unless `RAY_ADDRESS` is given, on a Ray of its own."""
    inherited = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    return {**inherited, "PYTHONPATH": path, **more}


def when_rows(store: Store, at_least: int) -> int:
    """Wait until a run under way has committed so many predictions, in tables or files; how many there are then."""
    for _ in range(2400):
        with store.engine.connect() as connection:
            count = connection.execute(text("select sum(stored) from cell_totals")).scalar() or 0
        if count >= at_least:
            return int(count)
        time.sleep(0.05)
    raise AssertionError("no rows within two minutes")
