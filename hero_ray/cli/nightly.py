"""The verb `nightly`: run the panel and judge it; `nightly explain` and `nightly accept` look at what was found."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hero_ray.cli import EXIT_INTERRUPTED, app
from hero_ray.cli.options import Address, Assign, Db, Limit
from hero_ray.cli.show import Answer, Form, show
from hero_ray.core.shipped import checkout, folder

EXIT_REGRESSION = 3
EXIT_FAILED = 1
PANEL = folder("configs") / "nightly.yaml"
nightly_app = typer.Typer(
    name="nightly",
    invoke_without_command=True,
    help="Run the nightly panel and compare it with the good nights.",
)
app.add_typer(nightly_app)

Config = Annotated[str | None, typer.Option("--config", help="Panel; configs/nightly.yaml if not given.")]
NightDate = Annotated[
    str | None, typer.Option("--night", help="Date of the night (UTC), 2026-01-31; today if not given.")
]
Models = Annotated[
    str | None, typer.Option("--models", "--model", help="Comma-separated models instead of the panel's.")
]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Comma-separated benchmarks instead of the panel's.")]
Summary = Annotated[
    Path | None, typer.Option("--summary", help="Also write the summary: FILE.html a page to mail, else Markdown.")
]
Which = Annotated[str, typer.Argument(help="A date, a run id, or latest.")]


@nightly_app.callback()
def nightly(
    context: typer.Context,
    config: Config = None,
    night: NightDate = None,
    models: Models = None,
    tasks: Tasks = None,
    limit: Limit = None,
    db: Db = None,
    address: Address = None,
    summary: Summary = None,
    verify: Annotated[float, typer.Option(help="Share of the night's pictures asked again; 0 for none.")] = 0.01,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the panel, show its plan and stop.")] = False,
    assign: Assign = None,
) -> None:
    """Run the fixed panel, compare it cell by cell with the last good nights, repeat what looks worse.

    `--dry-run` checks a panel beforehand: its keys, its cells, what it reads and about how long it takes; nothing is
    written, and no night is run. `hero-ray plan PANEL` says the same.

    Exit codes: 0 nothing got worse, 1 the run failed, 2 bad input or no database, 3 regression.
    """
    if context.invoked_subcommand is not None:
        return
    from hero_ray.core import config as configuration

    document = configuration.read(config or PANEL)
    given = {"models": models, "tasks": tasks, "limit": limit, "db": db}
    document |= {key: value for key, value in given.items() if value is not None}
    for assignment in assign or ():
        configuration.override(document, assignment)
    built, date_of = configuration.build(document), night_of(night)
    if dry_run:
        from hero_ray.cli.plan import show_plan
        from hero_ray.cli.sweep_options import url_of

        show_plan(built, url_of(built))
        return
    raise typer.Exit(_run(built, date_of, address, summary, verify))


def night_of(text: str | None) -> str:
    """A date as `2026-01-31`; today's in UTC if none is given.

    Raises:
        ConfigError: not a date.
    """
    from hero_ray.core.errors import ConfigError

    try:
        return (date.fromisoformat(text) if text else datetime.now(UTC).date()).isoformat()
    except ValueError:
        raise ConfigError(f"--night {text!r} is not a date; write it as 2026-01-31") from None


def _run(config: Any, night: str, address: str | None, summary: Path | None, share: float) -> int:
    from hero_ray.core.errors import InputError, StoreError
    from hero_ray.nightly import notify, report
    from hero_ray.nightly.run import run_night
    from hero_ray.pipeline.facts import make_plan
    from hero_ray.pipeline.verify import verify
    from hero_ray.results.database import open_results
    from hero_ray.results.report.page import keep
    from hero_ray.store import default_url
    from hero_ray.store.engine import absolute_url

    try:
        plan = make_plan(config)
        store = open_results(absolute_url(config.db or default_url()))
        check = (lambda run: verify(store, run, share, say=_say)) if share else None
        verdict, new = run_night(plan, store, night, address=address, check=check, say=_say)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on where it stopped")
        return EXIT_INTERRUPTED
    except (InputError, StoreError) as error:
        notify.trouble(f"night {night} could not be run: {error}")
        raise
    except Exception as error:
        notify.trouble(f"night {night} failed: {type(error).__name__}: {error}")
        raise
    commits = _commits(verdict)
    show(Answer([report.markdown(verdict, commits)], record=_record(verdict, store.shown_url)))
    if new and verdict.state in ("regression", "failed"):
        notify.send(report.slack(verdict))
    if summary:
        keep(summary, report.blocks(verdict, commits))
    return {"regression": EXIT_REGRESSION, "failed": EXIT_FAILED}.get(verdict.state, 0)


def _record(verdict: Any, db: str) -> dict[str, Any]:
    """A verdict for scripts."""
    from hero_ray.nightly import report

    figures = ("before", "after", "change", "low", "high", "p", "noticeable")
    return {
        "run_id": verdict.run_id,
        "night": verdict.night,
        "status": verdict.state,
        "said": report.headline(verdict),
        "cells": verdict.n_cells,
        "alarms": [f"{finding.kind}: {finding.label}" for finding in verdict.alarms],
        "silenced": len(verdict.silenced),
        "not_shown": [look.label for look in report.doubtful(verdict)],
        "looks": [{"cell": look.label} | {name: getattr(look, name) for name in figures} for look in verdict.looks],
        "compared_with": len(verdict.compared_with),
        "db": db,
    }


def _commits(verdict: Any) -> list[str]:
    """Subjects of the commits between the last good night and tonight, where this is a checkout that has both."""
    pair = next(((old, new) for what, old, new in verdict.changed if what == "commit"), None)
    root = checkout()
    if pair is None or root is None:
        return []
    span = "..".join(commit.removesuffix("+dirty") for commit in pair)
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "log", "--oneline", "--max-count=20", span],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return done.stdout.splitlines()


@nightly_app.command()
def explain(which: Which = "latest", db: Db = None, summary: Summary = None, form: Form = None) -> None:
    """Print the verdict on a night: what got worse, by how much, and what changed."""
    from hero_ray.nightly import report
    from hero_ray.nightly.run import find_verdict
    from hero_ray.results.report.page import keep
    from hero_ray.store import open_store

    with open_store(db, read_only=True) as store:
        verdict, url = find_verdict(store, which), store.shown_url
    commits = _commits(verdict)
    show(Answer([report.markdown(verdict, commits)], record=_record(verdict, url)), form)
    if summary:
        keep(summary, report.blocks(verdict, commits))


@nightly_app.command()
def accept(
    which: Which, reason: Annotated[str, typer.Option("--reason", help="Kept with the verdict.")], db: Db = None
) -> None:
    """Declare a night's regression the new normal, so that later nights are compared with it."""
    from hero_ray.nightly.run import accept as accept_night
    from hero_ray.results.database import open_results

    with open_results(db) as store:
        verdict = accept_night(store, which, reason)
    said = f"night {verdict.night} ({verdict.run_id}) is good from now on: {reason}"
    show(Answer([said], record={"run_id": verdict.run_id, "night": verdict.night, "reason": reason}))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
