"""Run a sweep from a validated config to a closed run: plan, resume, execute, profile, close."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from hero_ray.core.engines import OURS
from hero_ray.core.plan import ENDPOINT, Unit
from hero_ray.core.secret import for_workers
from hero_ray.engine.evaluate import Settings
from hero_ray.pipeline import cluster, predecessor, row_files
from hero_ray.pipeline.endpoint_speeds import endpoint_speeds
from hero_ray.pipeline.execute import execute
from hero_ray.pipeline.facts import Plan, sample_prompts
from hero_ray.pipeline.finished import CANCELLED, COMPLETE, FAILED, INTERRUPTED, RUNNING, RunOutcome, already, earlier
from hero_ray.pipeline.invariance import settled
from hero_ray.pipeline.lease import lease, still_ours
from hero_ray.pipeline.profile_pass import profile_model
from hero_ray.pipeline.progress import Progress
from hero_ray.pipeline.provenance import environment, git_commit
from hero_ray.pipeline.until import Watch, in_order
from hero_ray.pipeline.worker import WorkerJob, unit_key
from hero_ray.results.close import close_cells
from hero_ray.store import Store
from hero_ray.store.records import sample_id


def run(
    plan: Plan,
    store: Store,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    address: str | None = None,
    trigger: str = "manual",
    run_id: str | None = None,
    loader: str = "hero_ray.models:load",
    say: Callable[[str], None] = lambda text: None,
) -> RunOutcome:
    """Execute a plan, or what is missing of it.

    Args:
        plan: the resolved sweep.
        store: a writable store.
        fresh: start a new run even if an equal one exists.
        retry_failed: in a complete run, try the failed samples again.
        address: a Ray cluster; None starts one here unless a job's environment names one.
        trigger: who asked for a new run, kept with it.
        run_id: work on exactly this run, made if it is not there; the plan's latest run is then not looked for.
        loader: where workers get adapters from.
        say: told a line per stage.

    Raises:
        ConfigError: `run_id` names a run of another plan.
        RunLockedError: another process works on the same run.
        KeyboardInterrupt: after the run was left resumable.
    """
    started = time.perf_counter()
    found = earlier(plan, store, fresh, run_id)
    if (nothing := already(found, retry_failed)) is not None:
        return nothing
    cluster.check_address(address)  # before anything is written
    folder = row_files.folder_of(plan, store)
    if found is None and not fresh and run_id is None and (old := predecessor.find(plan, store)) is not None:
        say(predecessor.not_continued(plan, store, old))
    run_id = found.id if found is not None else _create_run(plan, store, trigger, run_id, fresh)
    outcome = RunOutcome(run_id, RUNNING)
    with lease(store, run_id) as lost:
        try:
            if found is not None:
                predecessor.note_other_code(store, found, say)
            store.set_status(run_id, RUNNING)
            _execute_all(plan, store, outcome, address, loader, say, lost, folder)
            outcome.status = CANCELLED if store.cancel_requested(run_id) else COMPLETE
        except KeyboardInterrupt:
            outcome.status = INTERRUPTED
            raise
        except BaseException:
            outcome.status = FAILED
            raise
        finally:
            if not lost.is_set():  # else it is another's to say
                if outcome.status in (INTERRUPTED, CANCELLED):
                    store.hand_back(run_id)  # three stops by hand would else give up the pictures that were under way
                store.set_status(run_id, outcome.status)
    outcome.seconds = time.perf_counter() - started
    return outcome


def _create_run(plan: Plan, store: Store, trigger: str, run_id: str | None, fresh: bool) -> str:
    first = run_id is None and not fresh
    run_id = run_id or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}"
    config = plan.config.model_dump(mode="json")
    if config["db"]:
        config["db"] = store.shown_url  # the row is shown and exported; a password is not
    around = environment() | {"prompts": sample_prompts(plan), "commits": dict(plan.commits)}
    row = (run_id, plan.config.name, config, plan.hash, around, git_commit(), trigger)
    run_id = store.create_run(*row, first=first).id
    store.add_cells(run_id, plan.cells, plan.expected)
    store.add_samples(plan.samples, ())
    return run_id


def _execute_all(
    plan: Plan,
    store: Store,
    outcome: RunOutcome,
    address: str | None,
    loader: str,
    say: Callable[[str], None],
    lost: threading.Event,
    folder: Path | None,
) -> None:
    run_id = outcome.run_id
    row_files.begin(store, run_id, folder, say)
    total, until_decided = sum(plan.expected.values()), plan.config.until == "decided"
    replica_s, asked = 0.0, 0
    counts = store.counts(run_id).values()
    already = sum(c.done + c.failed for c in counts)
    if already:
        say(f"resuming run {run_id}: {already} of {total} answers are there")
    target = cluster.address_of(address)
    say("starting Ray" if target == cluster.HERE else f"connecting to Ray at {target}")
    # The signal handler goes in behind Ray's own, which would end the process without a word.
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),  # where Ray prints about workers it restarts; what matters comes as an error
        cluster.connected(address),
        _terminate_as_interrupt(),
        Progress(store, run_id, total, already) as progress,
    ):
        pool = _pool(plan, store, run_id, address, progress, say)
        cancelled = _cancelled(store, run_id)
        for model in plan.models:
            watch = Watch.over(plan, store, run_id, model.name, say) if until_decided else None
            pending = pending_units(plan, store, run_id, model.name)
            progress.stage(f"answering with {model.name}")
            if pending:
                say(f"{model.name}: {len(pending)} pictures on {min(pool.replicas, len(pending))} replica(s)")
                certify_after = "" if settled(store, run_id, model) else pending[0].id
                job = _job(plan, store, run_id, model.name, pool, loader)
                job = replace(job, certify_after=certify_after, rows_folder=str(folder or ""))
                for unit in execute(pending, job, pool, plan.config.unit_timeout_s):
                    outcome.answered += unit.answered + unit.failed
                    replica_s, asked = replica_s + unit.finished_at - unit.started_at, asked + unit.answered
                    for name, value in unit.counters.items():
                        outcome.counters[name] = outcome.counters.get(name, 0) + value
                    if watch:
                        watch.arrived(unit.picture)
                        if watch.over_and_done:
                            break
                    if cancelled():
                        return
                    still_ours(run_id, lost)
            still_ours(run_id, lost)
            if model.family == ENDPOINT:
                endpoint_speeds(store, run_id, plan.cells_of(model.name), model_args(plan, model.name))
            elif plan.config.profile.enabled and model.engine != OURS:
                say(f"{model.name}: no timings, which are those of hero_ray's own blocks; here answered {model.engine}")
            elif plan.config.profile.enabled:
                arguments = model_args(plan, model.name)
                profile_model(plan, store, run_id, model.name, arguments, pool, loader, progress.stage)
        still_ours(run_id, lost)
        progress.stage("loading rows")
        row_files.finish(store, run_id, folder)
        progress.stage("computing intervals")
        close_cells(store, run_id, plan.cells, plan.benchmarks)
        if until_decided:
            _note_saved(store, run_id, replica_s / asked if asked else None)


def _pool(
    plan: Plan, store: Store, run_id: str, address: str | None, progress: Progress, say: Callable[[str], None]
) -> cluster.Pool:
    """As many replicas as fit, and no more nodes asked for than the model with the most open pictures has."""

    def waiting(text: str) -> None:
        progress.stage(text.partition(" (")[0])
        say(text)

    useful = max(len(pending_units(plan, store, run_id, model.name)) for model in plan.models)
    asked, patience_s = plan.config, cluster.patience(address)
    return cluster.choose_pool(
        asked.replicas, asked.gpus_per_replica, useful=useful or 1, patience_s=patience_s, say=waiting
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


def _note_saved(store: Store, run_id: str, replica_s: float | None) -> None:
    """Keep what deciding early saved, at the time an answer took in this execution (or, without one, in the last)."""
    cells = store.cells(run_id)
    saved = sum(cell.n_expected - cell.n_done - cell.n_failed for cell in cells if cell.stop_reason)
    run = store.run(run_id)
    before = run.saved_replica_s / run.saved_answers if run.saved_answers else 0.0
    store.note_saved(run_id, saved, saved * (before if replica_s is None else replica_s))


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


def _job(plan: Plan, store: Store, run_id: str, model: str, pool: cluster.Pool, loader: str) -> WorkerJob:
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


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let a polite kill (job stop, container stop) leave the run as resumable as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
