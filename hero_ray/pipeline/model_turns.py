"""One model of a sweep after another: from its open pictures to answers, intervals and timings."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hero_ray.core.engines import OURS
from hero_ray.core.plan import ENDPOINT, ModelFact, Settings, Unit
from hero_ray.core.secret import for_workers
from hero_ray.pipeline.cluster import Pool
from hero_ray.pipeline.endpoint_speeds import endpoint_speeds
from hero_ray.pipeline.execute import execute
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.finished import RunOutcome
from hero_ray.pipeline.invariance import settled
from hero_ray.pipeline.lease import still_ours
from hero_ray.pipeline.orders import UnitOutcome, WorkerJob, unit_key
from hero_ray.pipeline.profile_pass import TimingPass
from hero_ray.pipeline.progress import Progress
from hero_ray.pipeline.until import Watch, in_order
from hero_ray.results.close import close_cells
from hero_ray.store import Store
from hero_ray.store.records import sample_id


@dataclass
class Execution:
    """What the models of a sweep share while it is executed.

    Attributes:
        folder: where rows wait until the end; None where they are in the database at once.
        one_machine: replicas, driver and timings are on this machine.
        replica_s, asked: seconds that replicas spent, and on how many answers.
    """

    plan: Plan
    store: Store
    outcome: RunOutcome
    pool: Pool
    loader: str
    folder: Path | None
    one_machine: bool
    lost: threading.Event
    progress: Progress
    say: Callable[[str], None]
    replica_s: float = 0.0
    asked: int = 0

    def __post_init__(self) -> None:
        self.cancelled = _cancelled(self.store, self.outcome.run_id)

    def turn(self, model: ModelFact) -> bool:
        """Answer, close and time one model; False once the run is cancelled.

        Raises:
            RunLockedError: another driver has taken the run over.
        """
        plan, store, run_id = self.plan, self.store, self.outcome.run_id
        timing = self._timing(model)
        if not self._answer(model, timing):
            return False
        still_ours(run_id, self.lost)
        if model.family == ENDPOINT:
            endpoint_speeds(store, run_id, plan.cells_of(model.name), model_args(plan, model.name))
        if timing is not None:
            timing.survey()
        if self.folder is None:  # what needs no clock runs beside this
            self.close(model)
        if timing is not None:
            timing.run()
        return True

    def close(self, model: ModelFact) -> None:
        """Work out the figures of a model's cells."""
        self.progress.stage("computing intervals")
        close_cells(self.store, self.outcome.run_id, self.plan.cells_of(model.name), self.plan.benchmarks)

    def _answer(self, model: ModelFact, timing: TimingPass | None) -> bool:
        plan, store, run_id = self.plan, self.store, self.outcome.run_id
        watch = Watch.over(plan, store, run_id, model.name, self.say) if plan.config.until == "decided" else None
        pending = pending_units(plan, store, run_id, model.name)
        self.progress.stage(f"answering with {model.name}")
        if not pending:
            return True
        self.say(f"{model.name}: {len(pending)} pictures on {min(self.pool.replicas, len(pending))} replica(s)")
        certify_after = "" if settled(store, run_id, model) else pending[0].id
        job = _job(plan, store, run_id, model.name, self.pool, self.loader)
        job = replace(job, certify_after=certify_after, rows_folder=str(self.folder or ""))
        here = self.one_machine
        for unit in execute(pending, job, self.pool, plan.config.unit_timeout_s, one_machine=here):
            self._note(unit)
            if timing is not None and here and not self.pool.num_gpus:
                timing.come_up(beside=True)  # replicas are up by now: none waits behind it
            if watch:
                watch.arrived(unit.picture)
                if watch.over_and_done:
                    break
            if self.cancelled():
                return False
            still_ours(run_id, self.lost)
        return True

    def _note(self, unit: UnitOutcome) -> None:
        self.outcome.answered += unit.answered + unit.failed
        self.replica_s += unit.finished_at - unit.started_at
        self.asked += unit.answered
        for name, value in unit.counters.items():
            self.outcome.counters[name] = self.outcome.counters.get(name, 0) + value

    def _timing(self, model: ModelFact) -> TimingPass | None:
        """Nobody times where it is not asked for, nor on hardware or by blocks that are not ours."""
        plan = self.plan
        if not plan.config.profile.enabled or model.family == ENDPOINT:
            return None
        if model.engine != OURS:
            self.say(
                f"{model.name}: no timings, which are those of hero_ray's own blocks; here answered {model.engine}"
            )
            return None
        work = (plan, self.store, self.outcome.run_id, model.name, model_args(plan, model.name))
        return TimingPass(*work, self.pool, self.loader, self.progress.stage)


def pending_units(plan: Plan, store: Store, run_id: str, model: str) -> list[Unit]:
    """Units with at least one answer missing or failed.

    Those that were never begun or are settled need no look at their answers, so this costs the same at any time.
    """
    decided = store.stopped(run_id)
    cells = [cell for cell in plan.cells_of(model) if cell.id not in decided]
    per_benchmark = Counter(cell.benchmark for cell in cells)
    begun = store.begun_units(run_id)
    units = in_order(plan.units) if plan.config.until == "decided" else plan.units

    def is_settled(unit: Unit) -> bool | None:
        """None: never begun. Schema 0004 counted a unit under its own id, whatever the model."""
        found = begun.get(unit_key(unit, model), begun.get(unit.id))
        return None if found is None else found == len(unit.samples)

    unsettled = {unit.id for unit in units if is_settled(unit) is False}
    asked = [sample_id(sample) for unit in units if unit.id in unsettled for sample in unit.samples]
    done = store.done_counts(run_id, [cell.id for cell in cells], asked) if asked else {}

    def is_open(unit: Unit) -> bool:
        if unit.id in unsettled:
            return any(done.get(sample_id(s), 0) < per_benchmark[s.benchmark] for s in unit.samples)
        return is_settled(unit) is None and any(per_benchmark[name] for name in unit.benchmarks)

    return [unit for unit in units if is_open(unit)]


def model_args(plan: Plan, model: str) -> dict[str, Any]:
    """Loader arguments of a model, the dtype the plan decided on among them."""
    fact = next(fact for fact in plan.models if fact.name == model)
    if fact.family == ENDPOINT:
        return dict(plan.config.model_args) | {"served": fact.revision}
    return dict(plan.config.model_args) | {"dtype": fact.dtype}


def _job(plan: Plan, store: Store, run_id: str, model: str, pool: Pool, loader: str) -> WorkerJob:
    config = plan.config
    settings = Settings(config.batch_size, config.budget_base, config.newline_policy, config.max_new_tokens)
    return WorkerJob(
        run_id=run_id,
        store_url=store.url,
        model=model,
        model_args=model_args(plan, model),
        cells=tuple(plan.cells_of(model)),
        tasks=plan.tasks,
        settings=settings,
        unit_timeout_s=config.unit_timeout_s,
        max_attempts=config.max_attempts,
        until_decided=config.until == "decided",
        threads=pool.threads if not pool.num_gpus else None,
        gpus=pool.num_gpus,
        loader=loader,
        commits=plan.commits,
        secrets=for_workers(),
    )


def _cancelled(store: Store, run_id: str, every_s: float = 1.0) -> Callable[[], bool]:
    """Whether the run was cancelled, looked up no more often than this: a look takes as long as a short answer."""
    next_look = time.monotonic()

    def cancelled() -> bool:
        nonlocal next_look
        if time.monotonic() < next_look:
            return False
        next_look = time.monotonic() + every_s
        return store.cancel_requested(run_id)

    return cancelled
