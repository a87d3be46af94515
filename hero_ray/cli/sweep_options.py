"""Options of the verbs that read a sweep file (`sweep`, `plan`), and the sweep that they make of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hero_ray.cli.options import model_pairs
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


def configured(path: str | None, assignments: list[str] | None, **options: Any) -> Any:
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


def url_of(config: Any) -> str:
    """Where a sweep's results go."""
    from hero_ray.store import default_url
    from hero_ray.store.engine import absolute_url

    return absolute_url(config.db or default_url())
