"""The profile pass of a sweep: whole requests of every method timed alone, after the answers are in.

Speed does not depend on the benchmark or the seed, so each (method, budget) is timed once and its figures are stored
with all its cells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hero_ray.core import hub
from hero_ray.core.config import SweepConfig
from hero_ray.core.errors import NonFiniteScoreError
from hero_ray.core.plan import FULL, Unit, digest
from hero_ray.core.secret import for_workers, hand_over
from hero_ray.core.tasks import TaskEntry
from hero_ray.core.types import Cell
from hero_ray.pipeline.cluster import Pool
from hero_ray.pipeline.execute import named_failures
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.opening import open_task
from hero_ray.pipeline.worker import load_callable
from hero_ray.store import Store, figures

log = logging.getLogger(__name__)


def speed_key(cell: Cell) -> str:
    """Cells with equal keys have equal speed."""
    params = {key: value for key, value in cell.params.items() if key != "seed"}
    return digest([cell.method, cell.variant, params, cell.retention_ratio, cell.tokens])


def profile_model(
    plan: Plan,
    store: Store,
    run_id: str,
    model: str,
    model_args: dict[str, Any],
    pool: Pool,
    loader: str,
    stage: Callable[[str], None] = lambda text: None,
) -> None:
    """Time what has no figures yet, in one process that has a replica's share of the hardware to itself.

    Args:
        stage: told what is timed, where anything is.
    """
    known = {cell for _, cell in store.read(figures.profiles_of, [run_id])}
    missing = [cell for cell in plan.cells_of(model) if cell.id not in known]
    if not missing:
        return
    groups: dict[str, list[Cell]] = {}
    for cell in missing:
        groups.setdefault(speed_key(cell), []).append(cell)
    import ray

    measure = ray.remote(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus, max_retries=1)(measure_cells)
    cells = [group[0] for group in groups.values()]
    units = plan.units[: plan.config.profile.images]  # with most questions first, as everywhere
    stage(f"timing {model} alone: {len(cells)} methods and budgets on {len(units)} pictures")
    try:
        with named_failures():
            work = (loader, model, model_args, cells, plan.tasks, units, plan.config, plan.commits, for_workers())
            records = ray.get(measure.remote(*work))
    except NonFiniteScoreError as error:  # the answers tell of it already, as failed samples
        log.warning("no timings for %s: %s", model, error)
        return
    for record, group in zip(records, groups.values(), strict=True):
        for cell in group:
            store.write_profile(run_id, cell.id, record)


def measure_cells(
    loader: str,
    model: str,
    model_args: dict[str, Any],
    cells: Sequence[Cell],
    tasks: Sequence[TaskEntry],
    units: Sequence[Unit],
    config: SweepConfig,
    commits: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Runs in a worker process: one record of figures per cell, in their order."""
    import torch

    from hero_ray.engine.cut import Pruning
    from hero_ray.profiling.cells import profile_cells
    from hero_ray.profiling.requests import Probe
    from hero_ray.profiling.tables import with_break_even

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    hub.pin(commits or {})
    hand_over(secrets or {})
    adapter = load_callable(loader)(model, **model_args)
    benchmarks = {benchmark.name: benchmark for benchmark in map(open_task, tasks)}
    probes = []
    for unit in units:
        sample = unit.samples[0]
        benchmark = benchmarks[sample.benchmark]
        text = benchmark.prompt(sample, adapter.info.family)
        probes.append(Probe(benchmark.load_image(sample.image_ref), text, sample.question, unit.image_key))
    items = {cell.id: Pruning.of(cell, config.budget_base, config.newline_policy) for cell in cells}
    return with_break_even(profile_cells(adapter, items, probes, config.profile), FULL)
