"""Verb `describe`: a name, tags and a note for a run."""

from __future__ import annotations

from typing import Annotated

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db, RunOption, Which
from hero_ray.cli.results import listed
from hero_ray.cli.show import finish


@app.command()
def describe(
    run_id: Which = "latest",
    run_named: RunOption = None,
    name: Annotated[str | None, typer.Option("--name", help='What to call it; "" takes the name away.')] = None,
    tags: Annotated[
        str | None, typer.Option("--tags", help='Comma-separated, in place of its tags; "" for none.')
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help="A few words on it, in place of its note.")] = None,
    db: Db = None,
) -> None:
    """Say what a run is: name, tags and note stand on the Runs page and in `status --all`, and change no result."""
    from hero_ray.results.database import open_results
    from hero_ray.store.described import describe as write

    store = open_results(db)
    run = store.run(run_named or run_id)
    if (name, tags, note) != (None, None, None):
        store.transaction(write, run.id, name, None if tags is None else listed(tags) or [], note)
        run = store.run(run.id)
    finish(run_id=run.id, sweep=run.sweep_name, name=run.name, tags=list(run.tags), note=run.note)
