"""The verb `sweep`, and its options."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from hero_ray.cli import EXIT_FAILED_SAMPLES, EXIT_INTERRUPTED, app
from hero_ray.cli.options import Assign, Db, Engine, Limit, ModelArgs, RunName, Until, using
from hero_ray.cli.show import Answer, Form, show
from hero_ray.cli.sweep_options import (
    AllowOutside,
    Baseline,
    BatchSize,
    Budgets,
    Config,
    ConfigFile,
    Gpus,
    KeepBroken,
    LogSamples,
    MaxFailed,
    Methods,
    Metric,
    Models,
    NoProfile,
    NoStrawMen,
    OnCard,
    Output,
    Replicas,
    Rows,
    RowsFolder,
    Seed,
    Tasks,
    configured,
    url_of,
)
from hero_ray.core import hub
from hero_ray.core.errors import ConfigError


@app.command()
def sweep(
    config: Config = None,
    config_file: ConfigFile = None,
    models: Models = None,
    model_args: ModelArgs = None,
    engine: Engine = None,
    methods: Methods = None,
    budgets: Budgets = None,
    tasks: Tasks = None,
    metric: Metric = None,
    allow_outside: AllowOutside = False,
    keep_broken: KeepBroken = False,
    limit: Limit = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    replicas: Replicas = None,
    gpus_per_replica: Gpus = None,
    baseline: Baseline = None,
    db: Db = None,
    rows: Rows = None,
    rows_folder: RowsFolder = None,
    output_path: Output = None,
    log_samples: LogSamples = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop; nothing is written.")] = False,
    card: OnCard = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start a new run even if an equal one exists.")] = False,
    run_id: RunName = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try a complete run's failures again.")] = False,
    no_profile: NoProfile = False,
    no_straw_men: NoStrawMen = False,
    max_failed: MaxFailed = None,
    until: Until = None,
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="With --until decided: points below the baseline that do not matter."),
    ] = None,
    race: Annotated[str | None, typer.Option("--race", hidden=True, help="Earlier name of --until decided.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster; else one is started here.")] = None,
    assign: Assign = None,
    form: Form = None,
) -> None:
    """Run a sweep: every method at every budget on every benchmark, each picture encoded once.

    The same command again finishes an unfinished run, and otherwise says that it is complete.
    """
    if config is not None and config_file is not None:
        raise ConfigError(f"two sweep files: {config!r} and --config {config_file!r}; give one")
    if card is not None and not dry_run:
        raise ConfigError(f"--card {card!r} forecasts and runs nothing; give it with --dry-run, or to `hero-ray plan`")
    built = configured(
        config or config_file,
        [*(assign or ()), *(["profile.enabled=false"] if no_profile else []), *using(engine)],
        models=models,
        model_args=model_args,
        methods=methods,
        budgets=budgets,
        tasks=tasks,
        own={"metric": metric, "allow_outside": allow_outside, "keep_broken": keep_broken},
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        replicas=replicas,
        gpus_per_replica=gpus_per_replica,
        baseline=baseline,
        db=db,
        rows=rows,
        rows_folder=rows_folder,
        output_path=output_path,
        log_samples=log_samples or None,
        max_failed=max_failed,
        straw_men=False if no_straw_men else None,
        until="decided" if race is not None else until,
        margin=margin if race is None else race.removeprefix("margin="),
    )
    how: dict[str, Any] = {"fresh": fresh, "retry_failed": retry_failed, "address": address, "run_id": run_id}
    raise typer.Exit(run_sweep(built, dry_run, **how, card=card, form=form))


def run_sweep(
    config: Any,
    dry_run: bool = False,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    address: str | None = None,
    run_id: str | None = None,
    card: str | None = None,
    form: str | None = None,
) -> int:
    """Plan, execute and report one sweep; returns the exit code."""
    from hero_ray.cli.plan import show_plan
    from hero_ray.pipeline.facts import make_plan
    from hero_ray.pipeline.finished import already, earlier
    from hero_ray.pipeline.head_start import head_start
    from hero_ray.results.database import open_results

    started, url = time.perf_counter(), url_of(config)
    if dry_run:
        show_plan(config, url, card=card, form=form)
        return 0
    with head_start(config, url, address, fresh) as start_ray:
        with hub.reporting(_say):
            plan = make_plan(config, named=start_ray)
        store, answers = open_results(url), sum(plan.expected.values())
        _say(f"{config.name}: {len(plan.cells)} cells, {len(plan.units)} pictures, {answers} answers")
        if (nothing := already(earlier(plan, store, fresh, run_id), retry_failed)) is not None:
            return _report(plan, store, nothing, time.perf_counter() - started, form)
        from hero_ray.pipeline.run import run  # Ray, for whoever has something to do

        try:
            outcome = run(plan, store, fresh=fresh, retry_failed=retry_failed, address=address, run_id=run_id, say=_say)
        except KeyboardInterrupt:
            _say("interrupted; everything answered so far is stored. Run the same command again to go on.")
            return EXIT_INTERRUPTED
        return _report(plan, store, outcome, time.perf_counter() - started, form)


def _report(plan: Any, store: Any, outcome: Any, seconds: float, form: str | None) -> int:
    from hero_ray.results import ending

    if outcome.already_complete:
        _say(f"run {outcome.run_id} is complete; nothing to do (--fresh starts a new one)")
    names = list(dict.fromkeys(task.name for task in plan.benchmarks.values()))
    shown = ending.ending(store, outcome.run_id, names)
    notes = [*shown.notes, *plan.cautions]
    if plan.config.output_path:
        from hero_ray.results.exchange import write_run

        paths = write_run(store, outcome.run_id, plan.config.output_path, samples=plan.config.log_samples)
        notes += [f"wrote {path}" for path in paths]
    more = {"counters": outcome.counters} if outcome.counters else {}
    record = ending.record(store, outcome.run_id, outcome.status, len(plan.cells), seconds, **more)
    show(Answer(tables=[("", shown.table)], notes=notes, record=record, scripted=True), form)
    failed = sum(shown.failures.values())
    return EXIT_FAILED_SAMPLES if failed > plan.config.max_failed else 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
