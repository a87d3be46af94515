"""Verbs that look at a run from outside: `status`, `cancel`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db, RunOption, Which


@app.command()
def status(
    run_id: Which = "latest",
    run_named: RunOption = None,
    db: Db = None,
    every: Annotated[bool, typer.Option("--all", help="One line for every run.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="List failed samples with their errors.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every two seconds until the run ends.")] = False,
) -> None:
    """Progress of a run, from the database: works from any machine that reaches it."""
    from hero_ray.pipeline.status import describe_failures, describe_run, listed
    from hero_ray.store import default_url, open_store
    from hero_ray.store.records import TERMINAL

    store = open_store(db or default_url(), read_only=True)
    if every:
        for run in store.runs():
            typer.echo(listed(run))
        return
    while True:
        run = store.run(run_named or run_id)
        typer.echo(describe_run(store, run))
        if not watch or run.status in TERMINAL:
            break
        time.sleep(2)
    if failures:
        typer.echo(describe_failures(store, run.id))


@app.command()
def cancel(run_id: Which = "latest", run_named: RunOption = None, db: Db = None) -> None:
    """Ask a running sweep to stop after the units in flight; it stays resumable."""
    from hero_ray.results.database import open_results
    from hero_ray.store import default_url

    store = open_results(db or default_url())
    run = store.run(run_named or run_id)
    store.request_cancel(run.id)
    typer.echo(f"run {run.id} ({run.status}) is asked to stop")
