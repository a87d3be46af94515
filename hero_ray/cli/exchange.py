"""Verbs that carry results out and in: `export`, `import`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db
from hero_ray.cli.results import Model, Run, reading
from hero_ray.cli.show import finish

Format = Annotated[
    Literal["csv", "parquet", "json", "latex", "lmms-eval", "eee", "mlflow", "wandb"] | None,
    typer.Option(
        "--format",
        "-f",
        help="csv parquet json latex lmms-eval eee; mlflow, wandb log a finished run. Default: FILE's ending, or csv.",
    ),
]


@app.command("export")
def export(
    output: Annotated[
        Path | None, typer.Argument(help="File, or folder for lmms-eval and eee; default stdout.")
    ] = None,
    format: Format = None,
    run: Run = "latest",
    model: Model = None,
    samples: Annotated[bool, typer.Option("--samples", help="One row per answer instead of per figure.")] = False,
    project: Annotated[str, typer.Option(help="Project or experiment for wandb and mlflow.")] = "hero-ray",
    db: Db = None,
) -> None:
    """Write a run's figures (or, with --samples, its answers) in a form other tools read."""
    from hero_ray.core.errors import InputError
    from hero_ray.costs.counted import completion_tokens
    from hero_ray.results.contenders import every_model
    from hero_ray.results.exchange import files, from_runs
    from hero_ray.results.exchange.every_eval_ever import writing

    format = format or files.SUFFIXES.get(output.suffix.lower() if output else "", "csv")  # type: ignore[assignment]
    if samples and format in ("latex", "mlflow", "wandb"):
        raise InputError(f"--samples has no {format} form; write the answers as csv, json, parquet or lmms-eval")
    store = reading(db)
    found = store.run(run)
    if format in ("lmms-eval", "eee"):
        if output is None:
            raise InputError(f"--format {format} writes a folder; name it: hero-ray export FOLDER -f {format}")
        lmms = format == "lmms-eval"
        paths = (
            from_runs.write_run(store, found.id, output, samples, model)
            if lmms
            else writing.write_run(store, found.id, output, model, completion_tokens)
        )
        for path in paths:
            typer.echo(f"wrote {path}")
        finish(run_id=found.id, files=len(paths), path=output)
        return
    if format == "latex":
        every = [each for each in every_model(store, found.id) if model in (None, each.model) and each.marks()]
        _write_text(files.to_latex(every), output, found.id, sum(len(each.marks()) for each in every))
        return
    rows = from_runs.predictions(store, found.id) if samples else from_runs.figures(store, found.id)
    rows = [row for row in rows if model in (None, row["model"])]
    if format in ("mlflow", "wandb"):
        figures = [row for row in rows if not row.get("category")]
        count = {"mlflow": files.to_mlflow, "wandb": files.to_wandb}[format](figures, asdict(found), project)
        finish(run_id=found.id, logged=count, project=project)
    elif format == "parquet":
        if output is None:
            raise InputError("--format parquet writes a file; name it: hero-ray export FILE.parquet -f parquet")
        with _writing(output):
            files.to_parquet(rows, output)
        finish(run_id=found.id, rows=len(rows), path=output)
    else:
        text = files.to_csv(rows) if format == "csv" else files.to_json(rows, asdict(found))
        _write_text(text, output, found.id, len(rows))


def _write_text(text: str, output: Path | None, run_id: str, rows: int) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    with _writing(output):
        output.write_text(text, encoding="utf-8")
    finish(run_id=run_id, rows=rows, path=output)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """A file that cannot be written becomes one line."""
    from hero_ray.core.errors import InputError

    try:
        yield
    except OSError as problem:
        raise InputError(f"cannot write {output}: {problem.strerror or problem}") from None


@app.command("import")
def import_(
    path: Annotated[
        Path, typer.Argument(help="lmms-eval samples or log, a VLMEvalKit table, Every Eval Ever's files, profiles.")
    ],
    as_is: Annotated[bool, typer.Option("--as-is", help="Keep the file's scores; needs no dataset.")] = False,
    task: Annotated[
        str | None, typer.Option("--task", "--tasks", help="Benchmark, where the file's name does not say.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model, where the file does not say.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", "--methods", help="Pruning method behind the answers; default full.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", "--budgets", help="Budget behind the answers: 0.2, 20%, 576tok.")
    ] = None,
    flavour: Annotated[str | None, typer.Option(help="Whose scoring rules: head, v0.2.3, vlmevalkit ...")] = None,
    filter: Annotated[str | None, typer.Option(help="Whose answers, where a file holds several filters'.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a text file that is not UTF-8: gbk, latin-1 ...")] = None,
    db: Db = None,
) -> None:
    """Bring another tool's answers in as a run of one cell, scored again by our rules (or --as-is).

    A file of `hero-ray profile --out` is known by its first line and becomes a run of profiles; a folder of
    `export -f eee` becomes the run it was written from.
    """
    from hero_ray.core.budgets import parse_budget
    from hero_ray.core.errors import InputError
    from hero_ray.profiling import job as profile
    from hero_ray.results.database import open_results
    from hero_ray.results.exchange import readers
    from hero_ray.results.exchange.every_eval_ever import reading
    from hero_ray.results.exchange.into_store import import_task

    if profile.is_profile_file(path):
        records = profile.read_records(path)
        finish(run_id=profile.store_records(open_results(db), records, trigger="import"), profiles=len(records))
        return
    if as_is and flavour is not None:
        raise InputError("--as-is keeps the file's scores and --flavour scores anew; leave one out")
    read = [readers.read(path, task, filter, encoding)] if not reading.is_log(path) else []
    if not read:
        logs = reading.read(path)
        if ours := [log for log in logs if log.ours]:
            run_id, answers = reading.import_logs(open_results(db), ours, path)
            finish(run_id=run_id, cells=len(ours), answers=answers)
        read = [reading.imported(log) for log in logs if not log.ours]
    entry = parse_budget(budget) if budget is not None else None
    for imported in read:
        run_id, kept, unmatched = import_task(
            open_results(db),
            imported if task is None else replace(imported, task=task),
            as_is,
            flavour,
            model=model,
            method=method,
            straw_man=_straw_man(method or str(imported.settings.get("method", "full"))),
            retention_ratio=entry.ratio if entry else None,
            tokens=entry.tokens if entry else None,
        )
        if imported.repeated:
            typer.echo(f"{imported.repeated} repeated lines left out")
        if unmatched:
            typer.echo(f"{unmatched} answers belong to no sample of {imported.task} and were left out")
        finish(run_id=run_id, task=imported.task, answers=kept, unmatched=unmatched, repeated=imported.repeated)


def _straw_man(method: str) -> bool:
    from hero_ray import methods

    return method in methods.names() and methods.get(method).straw_man
