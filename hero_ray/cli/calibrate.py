"""The verb `calibrate`: find what a method must know of a model, on data that are not the ones reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Limit, pairs

Which = Annotated[Literal["gsearch", "vtw", "fitprune"], typer.Argument(help="The method to calibrate.")]
Model = Annotated[str, typer.Option("--model", help="Name, hub id or folder.")]
Tasks = Annotated[str, typer.Option("--tasks", help="Comma-separated benchmark names or file:PATH.")]
Source = Annotated[
    str | None, typer.Option("--source", help="KEY=VALUE,... of every task; synth-* take split=validation by default.")
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        min=0.0,
        help="gsearch: accuracy that may be lost (.005); vtw: divergence (.003); fitprune: FLOPs that are left (.4).",
    ),
]
Out = Annotated[Path | None, typer.Option("--output", "--out", help="Also write the JSON here.")]

NOTHING = {
    "gsearch": "no keep rates stay within the tolerance",
    "vtw": "no depth stays within the tolerance: this model needs the picture to the end",
    "fitprune": "no share of the attention saves that much: give a larger --tolerance",
}


@app.command()
def calibrate(
    which: Which,
    model: Model = "hero-tiny",
    tasks: Tasks = "synth-attribute,synth-exist",
    limit: Limit = 100,
    source: Source = None,
    tolerance: Tolerance = None,
    out: Out = None,
) -> None:
    """Find the schedule of gsearch or fitprune, or the depth of vtw; its JSON holds an entry for `methods`."""
    from hero_ray import models
    from hero_ray.studies import calibration

    benchmarks = [_open(name.strip(), source) for name in tasks.split(",") if name.strip()]
    questions = calibration.Questions.of(benchmarks, limit)
    adapter = models.load(model)
    found = calibration.calibrate(which, adapter, questions, tolerance, lambda message: typer.echo(message, err=True))
    result = {
        "method": found.method,
        "model": model,
        "revision": adapter.info.revision,
        "tasks": [benchmark.name for benchmark in benchmarks],
        "samples": found.samples,
        "trials": [list(trial) for trial in found.trials],
    }
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if found.method is None:
        typer.echo(NOTHING[which], err=True)
    typer.echo(json.dumps(result))


def _open(name: str, source: str | None) -> Any:
    from hero_ray.studies.tuning.validation import on_validation

    benchmark = on_validation(name, pairs(source, "--source"))
    benchmark.require()
    return benchmark
