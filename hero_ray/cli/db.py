"""Verbs for the database itself: `db upgrade`, `check`, `load`, `prune`, `backup`, `restore`, `merge`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db
from hero_ray.cli.show import finish

database = typer.Typer(name="db", help="Look after the results database.", no_args_is_help=True)
app.add_typer(database)


@database.command()
def upgrade(
    reader: Annotated[
        str | None,
        typer.Option("--reader", help="PostgreSQL: a login that may read only; HERO_RAY_READER_PASSWORD is its own."),
    ] = None,
    db: Db = None,
) -> None:
    """Create or migrate the tables and load the papers' numbers."""
    from hero_ray.core.errors import InputError
    from hero_ray.core.secret import secret_of
    from hero_ray.results import published
    from hero_ray.store import open_store
    from hero_ray.store.roles import PASSWORD, allow_reading
    from hero_ray.store.schema import HEAD

    password = secret_of(PASSWORD)
    if reader and not password:
        raise InputError(f"--reader {reader} needs a password for it in {PASSWORD}")
    store = open_store(db)
    if reader and password:
        allow_reading(store, reader, password)
    finish(db=store.shown_url, schema=HEAD, **published.load(store), **({"reader": reader} if reader else {}))


@database.command("check")
def check_database(
    recount: Annotated[bool, typer.Option("--recount", help="First set counters right that are not.")] = False,
    db: Db = None,
) -> None:
    """Whether the schema is current, every row is sound and every counter says what is stored. Exit code 1 if not."""
    from hero_ray.store import maintenance, open_store, schema

    if recount:
        typer.echo(f"{maintenance.recount(open_store(db, upgrade=False))} cells had wrong counters")
    store = open_store(db, read_only=True)
    faults = maintenance.broken(store) + schema.drift(store.engine)
    for fault in faults:
        typer.echo(fault)
    finish(db=store.shown_url, schema=schema.HEAD, sound=not faults, rows=maintenance.sizes(store))
    if faults:
        raise typer.Exit(1)


@database.command()
def prune(
    keep: Annotated[int | None, typer.Option("--keep", min=0, help="Keep the newest N runs.")] = None,
    older_than: Annotated[int | None, typer.Option("--older-than", min=0, help="Only runs older than N days.")] = None,
    answers_only: Annotated[bool, typer.Option("--answers-only", help="Keep figures; drop answers.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go and stop.")] = False,
    db: Db = None,
) -> None:
    """Remove finished runs. Runs that are unfinished stay, whatever their age."""
    from datetime import timedelta

    from hero_ray.core.errors import InputError
    from hero_ray.pipeline import row_files
    from hero_ray.store import maintenance, open_store

    if keep is None and older_than is None:
        raise InputError("say what to keep: --keep N (newest runs) or --older-than DAYS, or both")
    store = open_store(db, upgrade=False)
    age = timedelta(days=older_than) if older_than is not None else None
    runs = maintenance.old_runs(store, keep, age)
    for run in runs:
        typer.echo(f"{run.id}  {run.created_at:%Y-%m-%d %H:%M}  {run.status}  {run.sweep_name}")
    if dry_run or not runs:
        finish(runs=[run.id for run in runs], pruned=False)
        return
    left = row_files.folders(store, [run.id for run in runs])
    done = maintenance.prune(store, [run.id for run in runs], answers_only)
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    finish(runs=done.runs, pruned=True, predictions=done.predictions, samples=done.samples, images=done.images)


@database.command()
def load(
    run_id: Annotated[str | None, typer.Argument(help="Run whose row files to load; default all.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where the sweep's rows_folder is seen from here, if elsewhere.")
    ] = None,
    db: Db = None,
) -> None:
    """Bring rows that a sweep keeps in Parquet files into the database, also while it runs. A sweep does so at its end.

    Safe to stop and to repeat. Exit code 1 if files are gone or damaged; the sweep asks their pictures again.
    """
    from hero_ray.pipeline import row_loading
    from hero_ray.results.database import open_results
    from hero_ray.store import row_files, runs

    store = open_results(db)
    chosen = store.read(row_files.runs_outside) if run_id is None else [store.run(run_id).id]
    done = row_loading.Loaded()
    for run in chosen:
        # Beside a sweep damage is only told: it plans those pictures anew once it comes to its own end.
        alive = runs.is_alive(store.read(runs.progress, run))
        done += row_loading.load(store, run, folder=folder, replan=not alive)
    for lost in done.lost:
        typer.echo(lost)
    finish(db=store.shown_url, runs=chosen, files=done.files, rows=done.rows, lost=len(done.lost))
    if done.lost:
        raise typer.Exit(1)


@database.command()
def backup(
    path: Annotated[Path, typer.Argument(help="New SQLite file that receives the copy.")], db: Db = None
) -> None:
    """Copy the database, also while a sweep writes to it and also from PostgreSQL, to one SQLite file."""
    from hero_ray.store import maintenance, open_store

    counts = maintenance.backup(open_store(db, read_only=True), path)
    finish(path=path, rows=sum(counts.values()), runs=counts["runs"])


@database.command()
def restore(path: Annotated[Path, typer.Argument(help="File written by `db backup`.")], db: Db = None) -> None:
    """Bring a backup into an empty database; also the way from SQLite to PostgreSQL."""
    from hero_ray.results.database import open_results
    from hero_ray.store import maintenance

    store = open_results(db)
    counts = maintenance.restore(path, store)
    finish(db=store.shown_url, rows=sum(counts.values()), runs=counts["runs"])


@database.command()
def merge(
    source: Annotated[str, typer.Argument(help="Database to take the runs of: a SQLite file or a URL.")],
    prefix: Annotated[str, typer.Option("--prefix", help="Put before the ids of the runs that come in.")] = "",
    db: Db = None,
) -> None:
    """Take another database's finished runs in; equal cells and questions become one. A second time changes nothing."""
    from hero_ray.results.database import open_results
    from hero_ray.store import merging, open_store

    theirs = open_store(source, read_only=True)
    done = merging.merge(theirs, open_results(db), prefix)
    for run in done.unfinished:
        typer.echo(f"{run} is unfinished and was left out")
    finish(
        runs=done.runs, known=done.known, unfinished=done.unfinished,
        shared_cells=done.shared_cells, predictions=done.predictions,
    )  # fmt: skip
