"""A finished run of the embedded model without Ray: planned, answered in this process and closed, as a sweep is."""

from __future__ import annotations

from typing import Any

from hero_ray.core.config import build
from hero_ray.engine.evaluate import Settings
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.pipeline.model_turns import model_args
from hero_ray.pipeline.orders import WorkerJob, pack_unit
from hero_ray.pipeline.run import _create_run
from hero_ray.pipeline.worker import UnitWorker
from hero_ray.results.close import close_cells
from hero_ray.store import Store


def small_sweep(images: int = 6, **document: Any) -> Plan:
    """Two benchmarks over the same pictures; unpruned, by a straw man, by the vision tower's attention."""
    source = {"num_images": images, "questions_per_image": 2}
    tasks = [{"name": name, "source": source} for name in ("synth-exist", "synth-digits")]
    defaults: dict[str, Any] = {
        "name": "small",
        "tasks": tasks,
        "methods": ["full", "random", "fastervlm"],
        "budgets": [0.2],
        "random_seeds": 1,
        "models": ["hero-tiny"],
        "profile": {"enabled": False},
        "straw_men": False,
    }
    return make_plan(build(defaults | document))


def answered(store: Store, plan: Plan, run_id: str = "small-1") -> str:
    """The id of the run."""
    _create_run(plan, store, "test", run_id, True)
    store.set_status(run_id, "running")
    for model in plan.models:
        job = WorkerJob(
            run_id=run_id,
            store_url=store.url,
            model=model.name,
            model_args=model_args(plan, model.name),
            cells=tuple(plan.cells_of(model.name)),
            tasks=plan.tasks,
            settings=Settings(plan.config.batch_size),
        )
        UnitWorker(job)({"unit": [pack_unit(unit) for unit in plan.units]})  # type: ignore[dict-item]
    close_cells(store, run_id, plan.cells, plan.benchmarks)
    store.set_status(run_id, "complete")
    return run_id
