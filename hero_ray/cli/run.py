"""Verbs that run a sweep or say what one would do: `sweep`, `plan`."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from hero_ray.cli import EXIT_FAILED_SAMPLES, EXIT_INTERRUPTED, app
from hero_ray.cli.options import Assign, Db, Engine, Limit, ModelArgs, RunName, Until, model_pairs, using
from hero_ray.core import hub
from hero_ray.core.errors import ConfigError
from hero_ray.core.shipped import folder

DEMO = folder("configs") / "demo.yaml"

Config = Annotated[str | None, typer.Argument(help="Sweep file, or a shipped one's name; default the embedded demo.")]
ConfigFile = Annotated[str | None, typer.Option("--config", help="The same as CONFIG.")]
Models = Annotated[str | None, typer.Option("--models", "--model", help="Comma-separated names, hub ids or folders.")]
Methods = Annotated[str | None, typer.Option("--methods", help="Comma-separated: full,hero:alpha=0.7,hired.")]
Budgets = Annotated[str | None, typer.Option("--budgets", help="Comma-separated: 0.4, 20%, drop=0.9, 576tok.")]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Comma-separated benchmark names or file:PATH.")]
Metric = Annotated[str | None, typer.Option("--metric", help="How file:PATH is scored: exact_match, letter, anls, ...")]
AllowOutside = Annotated[bool, typer.Option("--allow-outside", help="Pictures of file:PATH may lie elsewhere.")]
KeepBroken = Annotated[bool, typer.Option("--keep-broken", help="Unreadable pictures of file:PATH just fail.")]
Seed = Annotated[int | None, typer.Option("--seed", help="First seed of seeded methods.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Answers generated together.")]
Replicas = Annotated[str | None, typer.Option("--replicas", help="Model replicas: a number, or auto.")]
Gpus = Annotated[float | None, typer.Option("--gpus-per-replica", help="GPUs (or a fraction of one) per replica.")]
Baseline = Annotated[str | None, typer.Option("--baseline", help="Method that others are compared with.")]
Output = Annotated[
    str | None, typer.Option("--output-path", "--output", help="Folder for lmms-eval style result files.")
]
Rows = Annotated[str | None, typer.Option("--rows", help="Answers until the end: database, parquet (files), auto.")]
RowsFolder = Annotated[str | None, typer.Option("--rows-folder", help="Shared folder for rows in Parquet files.")]
LogSamples = Annotated[bool, typer.Option("--log-samples", help="Also write one file of samples per benchmark.")]
NoProfile = Annotated[bool, typer.Option("--no-profile", help="Skip the timing pass.")]
NoStrawMen = Annotated[bool, typer.Option("--no-straw-men", help="Leave out full, random, spatial and downsample.")]
OnCard = Annotated[
    str | None,
    typer.Option("--card", help="Forecast for a card: h200, mi300x, ..., figures (memory=24GB,...) or a YAML file."),
]
MaxFailed = Annotated[int | None, typer.Option("--max-failed", help="Failed samples tolerated before exit code 1.")]


def _config(path: str | None, assignments: list[str] | None, **options: Any) -> Any:
    """Command line over file over defaults."""
    from hero_ray.core import config, tasks

    document = config.read(path or DEMO)
    if (options.get("replicas") or "").isdigit():
        options["replicas"] = int(options["replicas"])
    if options.get("model_args"):
        options["model_args"] = model_pairs(options["model_args"])
    own = options.pop("own", {})
    document |= {key: value for key, value in options.items() if value is not None}
    for assignment in assignments or ():
        config.override(document, assignment)
    tasks.for_own_data(document, **own)
    return config.build(document)


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
) -> None:
    """Run a sweep: every method at every budget on every benchmark, each picture encoded once.

    The same command again finishes an unfinished run, and otherwise says that it is complete.
    """
    if config is not None and config_file is not None:
        raise ConfigError(f"two sweep files: {config!r} and --config {config_file!r}; give one")
    if card is not None and not dry_run:
        raise ConfigError(f"--card {card!r} forecasts and runs nothing; give it with --dry-run, or to `hero-ray plan`")
    built = _config(
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
    raise typer.Exit(
        run_sweep(built, dry_run, fresh=fresh, retry_failed=retry_failed, address=address, run_id=run_id, card=card)
    )


def run_sweep(
    config: Any,
    dry_run: bool = False,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    address: str | None = None,
    run_id: str | None = None,
    card: str | None = None,
) -> int:
    """Plan, execute and report one sweep; returns the exit code."""
    from hero_ray.pipeline.facts import make_plan
    from hero_ray.pipeline.finished import already, earlier
    from hero_ray.results.database import open_results

    started, url = time.perf_counter(), _url(config)
    if dry_run:
        _check_database(url)
        typer.echo(_planned(config, url, card=card))
        return 0
    with hub.reporting(_say):
        plan = make_plan(config)
    store = open_results(url)
    _say(f"{config.name}: {len(plan.cells)} cells, {len(plan.units)} pictures, {sum(plan.expected.values())} answers")
    if (nothing := already(earlier(plan, store, fresh, run_id), retry_failed)) is not None:
        return _report(plan, store, nothing, time.perf_counter() - started)
    from hero_ray.pipeline.run import run  # torch and Ray, for whoever has something to do

    try:
        outcome = run(plan, store, fresh=fresh, retry_failed=retry_failed, address=address, run_id=run_id, say=_say)
    except KeyboardInterrupt:
        _say("interrupted; everything answered so far is stored. Run the same command again to go on.")
        return EXIT_INTERRUPTED
    return _report(plan, store, outcome, time.perf_counter() - started)


def _url(config: Any) -> str:
    from hero_ray.store import default_url
    from hero_ray.store.engine import absolute_url

    return absolute_url(config.db or default_url())


def _check_database(url: str) -> None:
    """A plan writes nothing, but says so if a run could not."""
    from hero_ray.store.engine import check_sqlite_path, parse_url

    check_sqlite_path(parse_url(url), read_only=False, must_exist=False)


def _planned(config: Any, url: str, margin: float | None = None, power: float = 0.8, card: str | None = None) -> str:
    """The plan as text, from weights and data where they are at hand, else from configurations alone.

    Args:
        margin: in points; also says how many pictures a verdict at it needs.
        card: what it is forecast for, instead of this machine; a sweep there takes a GPU a replica.

    Raises:
        InputError: neither can be planned.
    """
    from hero_ray.core.errors import CheckpointError, DatasetError, InputError, MissingExtraError
    from hero_ray.costs import cards
    from hero_ray.pipeline.downloads import described, to_fetch
    from hero_ray.pipeline.facts import make_plan
    from hero_ray.pipeline.forecast import describe_needs, describe_plan

    on = None if card is None else cards.card(card)
    if on is not None:
        config = config.model_copy(update={"gpus_per_replica": config.gpus_per_replica or 1.0})
    try:
        with hub.looking():  # a plan fetches no weights and no data
            made = make_plan(config)
            needed = [] if margin is None else describe_needs(made, url, margin, power)
            return "\n".join([describe_plan(made, url, card=on), *needed])
    except (CheckpointError, DatasetError, MissingExtraError) as missing:
        sizes = described(to_fetch(config))
        try:
            plan = make_plan(config, at_hand=False)
        except InputError:
            typer.echo("\n".join(sizes), nl=bool(sizes))
            raise missing from None  # the sizes are not known either
        needed = [] if margin is None else ["how many pictures a verdict needs is not known without the data"]
        return "\n".join([describe_plan(plan, url, str(missing).partition(" (")[0], on), *sizes, *needed])


def _report(plan: Any, store: Any, outcome: Any, seconds: float) -> int:
    from hero_ray.results import ending

    if outcome.already_complete:
        _say(f"run {outcome.run_id} is complete; nothing to do (--fresh starts a new one)")
    names = list(dict.fromkeys(task.name for task in plan.benchmarks.values()))
    shown = ending.ending(store, outcome.run_id, names)
    for line in (shown.table, *shown.notes, *plan.cautions):
        typer.echo(line)
    if plan.config.output_path:
        from hero_ray.results.exchange import write_run

        for path in write_run(store, outcome.run_id, plan.config.output_path, samples=plan.config.log_samples):
            typer.echo(f"wrote {path}")
    more = {"counters": outcome.counters} if outcome.counters else {}
    typer.echo(ending.last_line(store, outcome.run_id, outcome.status, len(plan.cells), seconds, **more))
    failed = sum(shown.failures.values())
    return EXIT_FAILED_SAMPLES if failed > plan.config.max_failed else 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@app.command()
def plan(
    config: Config = None,
    models: Models = None,
    methods: Methods = None,
    budgets: Budgets = None,
    tasks: Tasks = None,
    limit: Limit = None,
    assign: Assign = None,
    db: Db = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="Also: pictures that a verdict at so many points needs.")
    ] = None,
    power: Annotated[float, typer.Option("--power", help="Chance with which it shall be shown, with --margin.")] = 0.8,
    batch_size: BatchSize = None,
    replicas: Replicas = None,
    gpus_per_replica: Gpus = None,
    card: OnCard = None,
) -> None:
    """Show what a sweep file would do: cells, pictures, encodes saved, forecast. Like `sweep --dry-run`."""
    if margin is not None and not (0 < margin < 100 and 0 < power < 1):
        raise ConfigError(f"--margin {margin:g} --power {power:g}: expected points within 0 to 100 and a share of 1")
    built = _config(
        config,
        assign,
        models=models,
        methods=methods,
        budgets=budgets,
        tasks=tasks,
        limit=limit,
        batch_size=batch_size,
        replicas=replicas,
        gpus_per_replica=gpus_per_replica,
        db=db,
    )
    _check_database(_url(built))
    typer.echo(_planned(built, _url(built), margin, power, card))
