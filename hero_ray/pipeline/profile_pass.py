"""The profile pass of a sweep: whole requests of every method timed alone, after the answers are in.

Speed does not depend on the benchmark or the seed, so each (method, budget) is timed once and its figures are stored
with all its cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hero_ray.core.config import ProfileSettings, TaskEntry
from hero_ray.core.plan import FULL, Unit, digest
from hero_ray.core.types import Cell
from hero_ray.pipeline.cluster import Pool
from hero_ray.pipeline.facts import Plan, open_task
from hero_ray.pipeline.worker import load_callable
from hero_ray.store import Store, queries


def speed_key(cell: Cell) -> str:
    """Cells with equal keys have equal speed."""
    params = {key: value for key, value in cell.params.items() if key != "seed"}
    return digest([cell.method, cell.variant, params, cell.retention_ratio, cell.tokens])


def profile_model(
    plan: Plan, store: Store, run_id: str, model: str, model_args: dict[str, Any], pool: Pool, loader: str
) -> None:
    """Time what has no figures yet, in one process that has a replica's share of the hardware to itself."""
    with store.reading() as connection:
        known = {cell for _, cell in queries.profiles_of(connection, [run_id])}
    missing = [cell for cell in plan.cells_of(model) if cell.id not in known]
    if not missing:
        return
    groups: dict[str, list[Cell]] = {}
    for cell in missing:
        groups.setdefault(speed_key(cell), []).append(cell)
    import ray

    measure = ray.remote(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus, max_retries=1)(measure_cells)
    records = ray.get(
        measure.remote(
            loader,
            model,
            model_args,
            [group[0] for group in groups.values()],
            plan.tasks,
            _probe_units(plan),
            plan.config.profile,
            (plan.config.budget_base, plan.config.newline_policy),
        )
    )
    for record, group in zip(records, groups.values(), strict=True):
        for cell in group:
            store.write_profile(run_id, cell.id, record)


def _probe_units(plan: Plan) -> list[Unit]:
    """Pictures to time with: the ones with most questions first, as everywhere."""
    return list(plan.units[: plan.config.profile.images])


def measure_cells(
    loader: str,
    model: str,
    model_args: dict[str, Any],
    cells: Sequence[Cell],
    tasks: Sequence[TaskEntry],
    units: Sequence[Unit],
    settings: ProfileSettings,
    layout: tuple[Any, Any],
) -> list[dict[str, Any]]:
    """Runs in a worker process: one record of figures per cell, in their order."""
    import torch

    from hero_ray.profiling.cells import ProfileSettings as Measure
    from hero_ray.profiling.cells import profile_cells
    from hero_ray.profiling.requests import Probe
    from hero_ray.profiling.tables import with_break_even

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    adapter = load_callable(loader)(model, **model_args)
    benchmarks = {benchmark.name: benchmark for benchmark in map(open_task, tasks)}
    probes = []
    for unit in units:
        sample = unit.samples[0]
        benchmark = benchmarks[sample.benchmark]
        text = benchmark.prompt(sample, adapter.info.family)
        probes.append(Probe(benchmark.load_image(sample.image_ref), text, sample.question, unit.image_key))
    measure = Measure(settings.batch_size, settings.new_tokens, settings.warmup, settings.repeats)
    records = profile_cells(adapter, [item_of(cell, adapter, *layout) for cell in cells], probes, measure)
    return with_break_even(records, FULL)


def item_of(cell: Cell, adapter: Any, base: Any = "real", policy: Any = "unpadded_rows") -> Any:
    """A cell as the profiling room takes it: callables, no method."""
    from hero_ray.engine.evaluate import Pruning
    from hero_ray.profiling.requests import ProfileItem

    method = Pruning.of(cell).method
    image = method.stage == "image"
    select: Callable[..., Any] | None = None if image or cell.method == FULL else method.select
    return ProfileItem(
        key=cell.id,
        method=cell.method,
        retention_ratio=cell.retention_ratio,
        tokens=cell.tokens,
        base=base,
        variant=cell.variant,
        params=cell.params,
        needs=method.needs(adapter.vision),
        select=select,
        pruner=method.pruner_for if method.stage == "in-llm" else None,
        plan=method.choose if image else None,
        positions=method.positions,
        newline_policy=policy,
    )
