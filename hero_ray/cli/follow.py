"""Verbs that look at a run from outside: `status`, `cancel`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db, RunOption, Which
from hero_ray.cli.show import Answer, Form, show

FAILURES_SHOWN = 50


@app.command()
def status(
    run_id: Which = "latest",
    run_named: RunOption = None,
    db: Db = None,
    every: Annotated[bool, typer.Option("--all", help="One line for every run.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="List failed samples with their errors.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every two seconds until the run ends.")] = False,
    form: Form = None,
) -> None:
    """Progress of a run, from the database: works from any machine that reaches it."""
    from hero_ray.pipeline.status import describe_failures, describe_run, listed
    from hero_ray.results import named
    from hero_ray.store import default_url, open_store
    from hero_ray.store.records import TERMINAL

    store = open_store(db or default_url(), read_only=True)
    if every:
        runs = store.runs()
        record = {"runs": [{"run_id": run.id, "status": run.status, "sweep": run.sweep_name} for run in runs]}
        show(Answer([listed(run) for run in runs], record=record), form)
        return
    while True:
        run = store.run(run_named or run_id)
        lines, record = describe_run(store, run)
        if not watch or run.status in TERMINAL:
            break
        show(Answer(lines, record=record), form)
        time.sleep(2)
    if failures:
        failed = named.failures(store, run.id, FAILURES_SHOWN)
        lines, record = [*lines, *describe_failures(failed)], record | {"failures": failed}
    show(Answer(lines, record=record), form)


@app.command()
def cancel(run_id: Which = "latest", run_named: RunOption = None, db: Db = None) -> None:
    """Ask a running sweep to stop after the units in flight; it stays resumable."""
    from hero_ray.results.database import open_results
    from hero_ray.store import default_url

    store = open_results(db or default_url())
    run = store.run(run_named or run_id)
    store.request_cancel(run.id)
    show(Answer([f"run {run.id} ({run.status}) is asked to stop"], record={"run_id": run.id, "status": run.status}))
