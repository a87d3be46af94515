"""The verb `tune`: search a method's parameters on a validation set with Ray Tune."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Address, Limit, ModelArgs, model_pairs, pairs
from hero_ray.cli.show import Answer, show

Model = Annotated[str, typer.Option("--model", help="Name, hub id or folder.")]
Method = Annotated[str, typer.Option("--method", help="A method; what follows it is fixed: hero:variant=paper.")]
Tasks = Annotated[str, typer.Option("--benchmark", "--tasks", help="Comma-separated; synth-* take validation.")]
Source = Annotated[str | None, typer.Option("--source", help="KEY=VALUE,... of every benchmark: split=train.")]
Budget = Annotated[
    str, typer.Option("--budget", "--budgets", help="0.2, or several to search over: 0.1|0.2, 0.05..0.5.")
]
SpaceText = Annotated[str, typer.Option("--space", help="alpha=0..1,temperature_cls=0.1..10:log,cls_source=A|B.")]
Trials = Annotated[
    int, typer.Option("--trials", min=1, help="Points tried; the defaults are the first where they fit.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of the search.")]
Base = Annotated[Literal["real", "grid"], typer.Option("--budget-base", help="What a budget is a share of.")]
Name = Annotated[str | None, typer.Option("--name", help="Of the search; METHOD-MODEL if not given.")]
Out = Annotated[Path, typer.Option("--output", "--out", help="Folder for the state of searches.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted search of this name.")]
Preset = Annotated[str | None, typer.Option("--preset", help="Export the best: NAME, or a path ending in .yaml.")]
Export = Annotated[int | None, typer.Option("--export", help="Export this trial instead of the best.")]
Reported = Annotated[bool, typer.Option("--on-reported-split", help="Search on what sweeps report; it is recorded.")]


@app.command()
def tune(
    model: Model = "hero-tiny",
    method: Method = "hero",
    benchmark: Tasks = "synth-attribute,synth-digits,synth-words,synth-exist",
    budget: Budget = "0.2",
    space: SpaceText = "alpha=0..1",
    trials: Trials = 20,
    limit: Limit = 100,
    source: Source = None,
    seed: Seed = 0,
    budget_base: Base = "real",
    model_args: ModelArgs = None,
    name: Name = None,
    out: Out = Path("tuning"),
    resume: Resume = False,
    preset: Preset = None,
    export: Export = None,
    on_reported_split: Reported = False,
    address: Address = None,
) -> None:
    """Search a method's parameters for score and tokens on a validation set; every picture is encoded once."""
    from hero_ray.core.config import parse_method
    from hero_ray.pipeline.cluster import connected
    from hero_ray.studies.tuning import report, search, validation

    begun = time.perf_counter()
    entry = parse_method(method)
    asked = search.Search(
        model=model,
        method=entry.model_dump(mode="json"),
        space=space,
        budget=budget,
        tasks=tuple(task.strip() for task in benchmark.split(",") if task.strip()),
        options=pairs(source, "--source"),
        limit=limit,
        trials=trials,
        seed=seed,
        on_reported_split=on_reported_split,
        budget_base=budget_base,
        model_args=model_pairs(model_args),
    )
    asked.points  # noqa: B018 - a wrong space is refused before Ray starts
    validation.opened(asked.tasks, asked.options, asked.on_reported_split)
    called = name or f"{entry.name}-{Path(model).name}"
    search.prepare(asked, out, called, resume)
    with connected(address):
        found = search.run(asked, out, called, resume, export)
    notes = report.notes(found)
    record: dict[str, Any] = report.record(found, called)
    if preset is not None:
        record["preset"] = str(report.export(asked, found, preset))
        notes.append(f"preset {record['preset']}")
    record["seconds"] = round(time.perf_counter() - begun, 2)
    show(Answer(tables=[("", report.table(found))], notes=notes, record=record))
