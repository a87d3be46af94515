"""Run a sweep from a validated config to a closed run: plan, resume, execute, profile, close."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from hero_ray.core import plugins
from hero_ray.pipeline import cluster, predecessor, row_files
from hero_ray.pipeline.facts import Plan, sample_prompts
from hero_ray.pipeline.finished import CANCELLED, COMPLETE, FAILED, INTERRUPTED, RUNNING, RunOutcome, already, earlier
from hero_ray.pipeline.lease import lease, still_ours
from hero_ray.pipeline.model_turns import Execution, pending_units
from hero_ray.pipeline.progress import Progress
from hero_ray.pipeline.provenance import environment, git_commit, plugins_of
from hero_ray.store import Store, engine

SAMPLES_AT_ONCE = 10_000
"""Questions stored together: what is kept beside them meanwhile is as large as they are."""


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
    if added := plugins_of([cell.method for cell in plan.cells], plan.benchmarks):
        around[plugins.RECORD] = added
    row = (run_id, plan.config.name, config, plan.hash, around, git_commit(), trigger)
    run_id = store.create_run(*row, first=first).id
    store.add_cells(run_id, plan.cells, plan.expected)
    for start in range(0, len(plan.samples), SAMPLES_AT_ONCE):
        store.add_samples(plan.samples[start : start + SAMPLES_AT_ONCE], ())
        store.read(engine.release_pages)
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
        here = target == cluster.HERE
        shared = Execution(plan, store, outcome, pool, loader, folder, here, lost, progress, say)
        for model in plan.models:
            if not shared.turn(model):
                return
        still_ours(run_id, lost)
        if folder is not None:
            progress.stage("loading rows")
        row_files.finish(store, run_id, folder)
        for model in plan.models if folder is not None else ():
            shared.close(model)
        if until_decided:
            _note_saved(store, run_id, shared.replica_s / shared.asked if shared.asked else None)


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


def _note_saved(store: Store, run_id: str, replica_s: float | None) -> None:
    """Keep what deciding early saved, at the time an answer took in this execution (or, without one, in the last)."""
    cells = store.cells(run_id)
    saved = sum(cell.n_expected - cell.n_done - cell.n_failed for cell in cells if cell.stop_reason)
    run = store.run(run_id)
    before = run.saved_replica_s / run.saved_answers if run.saved_answers else 0.0
    store.note_saved(run_id, saved, saved * (before if replica_s is None else replica_s))


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
