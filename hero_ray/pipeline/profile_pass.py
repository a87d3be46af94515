"""The profile pass of a sweep: whole requests of every method timed alone, after the answers are in.

Speed does not depend on the benchmark or the seed, so each (method, budget) is timed once and its figures are stored
with all its cells. What needs no clock is done while other work may still run; nothing is timed beside any.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal

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
from hero_ray.pipeline.orders import load_callable
from hero_ray.store import Store, figures

log = logging.getLogger(__name__)


def speed_key(cell: Cell) -> str:
    """Cells with equal keys have equal speed."""
    params = {key: value for key, value in cell.params.items() if key != "seed"}
    return digest([cell.method, cell.variant, params, cell.retention_ratio, cell.tokens])


class TimingPass:
    """The timing of one model's cells that have no figures yet, in one process with a replica's share of the hardware.

    Args:
        stage: told what is timed, and how much of it is.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        run_id: str,
        model: str,
        model_args: dict[str, Any],
        pool: Pool,
        loader: str,
        stage: Callable[[str], None] = lambda text: None,
    ) -> None:
        known = {cell for _, cell in store.read(figures.profiles_of, [run_id])}
        groups: dict[str, list[Cell]] = {}
        for cell in plan.cells_of(model):
            if cell.id not in known:
                groups.setdefault(speed_key(cell), []).append(cell)
        cells = [group[0] for group in groups.values()]
        units = plan.units[: plan.config.profile.images]  # with most questions first, as everywhere
        self._groups, self._store, self._run_id, self._model = groups, store, run_id, model
        self._pool, self._loader, self._stage = pool, loader, stage
        self._work = (loader, model, model_args, cells, plan.tasks, units, plan.config, plan.commits, for_workers())
        self._what = f"timing {model} alone: {len(cells)} methods and budgets on {len(units)} pictures"
        self._process: Any = None
        self._surveyed: Any = None

    def come_up(self, *, beside: bool) -> None:
        """Start its process, which takes seconds to import what it runs.

        Args:
            beside: it asks for no hardware yet, for the replicas still have it.
        """
        import ray

        if not self._groups or self._process is not None:
            return
        options = {"num_cpus": 0} if beside else {"num_cpus": self._pool.num_cpus, "num_gpus": self._pool.num_gpus}
        self._process = ray.remote(**options)(Stopwatch).remote(self._loader)

    def survey(self) -> None:
        """Begin with all that needs no clock, beside whatever the driver does meanwhile."""
        self.come_up(beside=False)
        if self._process is not None:
            self._surveyed = self._process.survey.remote(*self._work)

    def run(self) -> None:
        """Time everything and store it. A process that dies is replaced once."""
        from ray.exceptions import RayActorError

        if not self._groups:
            return
        self._stage(self._what)
        try:
            with named_failures():
                try:
                    records = self._timed()
                except RayActorError:
                    self._process = None
                    self.survey()
                    records = self._timed()
        except NonFiniteScoreError as error:  # the answers tell of it already, as failed samples
            log.warning("no timings for %s: %s", self._model, error)
            return
        finally:
            self._process = self._surveyed = None  # nobody else holds it: it ends
        for record, group in zip(records, self._groups.values(), strict=True):
            for cell in group:
                self._store.write_profile(self._run_id, cell.id, record)

    def _timed(self) -> list[dict[str, Any]]:
        import ray

        if self._surveyed is None:
            self.survey()
        ray.get(self._surveyed)
        while True:
            kind, found = ray.get(self._process.step.remote())
            if kind == "records":
                return list(found)
            self._stage(f"{self._what}, {found}")


class Stopwatch:
    """The process that times: a step at a call, so that what was done can be told between two of them."""

    def __init__(self, loader: str) -> None:
        import hero_ray.profiling.cells
        import hero_ray.profiling.tables  # noqa: F401

        load_callable(loader)
        self._steps: Generator[str, None, list[dict[str, Any]]] | None = None

    def survey(self, *work: Any) -> None:
        """Load the model and do all that needs no clock."""
        from hero_ray.profiling.cells import SURVEYED

        self._steps = measuring(*work)
        while next(self._steps) != SURVEYED:
            pass

    def step(self) -> tuple[Literal["told", "records"], Any]:
        """Go on to the next thing that can be told: its words, or the records at the end."""
        assert self._steps is not None
        try:
            return "told", next(self._steps)
        except StopIteration as end:
            return "records", end.value


def measuring(
    loader: str,
    model: str,
    model_args: dict[str, Any],
    cells: Sequence[Cell],
    tasks: Sequence[TaskEntry],
    units: Sequence[Unit],
    config: SweepConfig,
    commits: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Generator[str, None, list[dict[str, Any]]]:
    """Runs in a worker process: one record of figures per cell, in their order, after the steps of `profiling`."""
    import torch

    from hero_ray.engine.cut import Pruning
    from hero_ray.profiling.cells import profiling
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
    return with_break_even((yield from profiling(adapter, items, probes, config.profile)), FULL)
