"""The verb `study`: the papers' pilot analyses, and their tables checked against our own runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db, ModelArgs, model_pairs
from hero_ray.cli.show import Answer, show

VERIFY = "verify-paper"
TABLES = "paper-tables"
LONGEST = 40
"""Rows of a study's table that are printed; its files have all of them."""
Name = Annotated[str | None, typer.Argument(help="A study, or verify-paper; without one they are listed.")]
Which = Annotated[
    str | None,
    typer.Argument(help="For verify-paper: hero-IV, ptp-I, ...; for paper-tables: beginning of a sweep's name."),
]
Model = Annotated[str | None, typer.Option("--model", help="Name, hub id or folder; hero-tiny if not given.")]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Comma-separated benchmarks instead of the study's own.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Pictures looked at.")]
Out = Annotated[Path, typer.Option("--output", "--out", help="Folder for JSON (the dashboard's), HTML and PNG.")]
Methods = Annotated[
    str | None, typer.Option("--methods", help="For case-study, second-question, engines: comma-separated.")
]
Ratio = Annotated[float, typer.Option("--ratio", help="For case-study, second-question, engines: retention ratio.")]
Source = Annotated[list[str] | None, typer.Option("--source", help="Benchmark option: data=FOLDER, split=validation.")]
Run = Annotated[str, typer.Option("--run", help="For verify-paper: run id, a prefix of one, or latest.")]

Into = Annotated[Path | None, typer.Option("--into", help="For paper-tables: page whose measured part is replaced.")]


@app.command()
def study(
    name: Name = None,
    table: Which = None,
    model: Model = None,
    tasks: Tasks = None,
    limit: Limit = 20,
    out: Out = Path("studies"),
    methods: Methods = None,
    ratio: Ratio = 0.2,
    source: Source = None,
    run: Run = "latest",
    into: Into = None,
    db: Db = None,
    model_args: ModelArgs = None,
) -> None:
    """Run a study of the papers, or set a paper's table beside what a run measured (`study verify-paper hero-IV`)."""
    from hero_ray.studies import catalogue

    if name is None:
        known = {
            **catalogue.STUDIES,
            VERIFY: f"a paper's table beside a run: hero-ray study {VERIFY} hero-IV",
            TABLES: "the newest runs of the papers' sweep files as tables",
        }
        show(Answer([f"{each:18} {what}" for each, what in known.items()], record={"studies": known}))
    elif name == TABLES:
        _tables(table or "", into, db)
    elif name == VERIFY:
        _verify(table, run, model, db)
    else:
        given = {"tasks": _listed(tasks), "limit": limit, "methods": _listed(methods), "ratio": ratio}
        _run(name, model or "hero-tiny", model_pairs(model_args), given | {"sources": _pairs(source)}, out, db)


def _run(name: str, model: str, arguments: dict[str, Any], given: dict[str, Any], out: Path, db: str | None) -> None:
    import uuid

    from hero_ray.models import load
    from hero_ray.pipeline.provenance import git_commit
    from hero_ray.results.database import open_results
    from hero_ray.store import default_url, studies
    from hero_ray.studies import catalogue, files
    from hero_ray.studies.records import StudyRequest

    begun, runner = time.perf_counter(), catalogue.get(name)
    arguments = arguments | dict(catalogue.LOADED.get(name, {}))
    adapter = load(model, **arguments)
    found = runner(StudyRequest(adapter, **given))
    commit = git_commit()
    facts = {"model": adapter.info.name, "revision": adapter.info.revision, "commit": commit, **arguments, **given}
    paths = files.write(found, out, facts)
    study_id = uuid.uuid4().hex[:12]
    with open_results(db or default_url()) as store:
        result = json.loads(paths[0].read_text(encoding="utf-8"))
        store.transaction(studies.add, study_id, name, adapter.info.name, facts, result, commit)
    tables = [(each.title, files.table(each, LONGEST)) for each in found.tables]
    notes = [f"{each.title}: {len(each.rows) - LONGEST} more rows" for each in found.tables if len(each.rows) > LONGEST]
    notes += [f"wrote {path}" for path in paths]
    record: dict[str, Any] = {"study": name, "id": study_id, "model": adapter.info.name, "findings": found.findings}
    seconds = round(time.perf_counter() - begun, 2)
    record |= {"files": [str(path) for path in paths], "seconds": seconds}
    show(Answer([found.title, found.note], tables, notes, record))


def _tables(prefix: str, into: Path | None, db: str | None) -> None:
    from hero_ray.store import open_store
    from hero_ray.studies import files, paper_page, paper_tables

    with open_store(db, read_only=True) as store:
        found = paper_tables.every(store, prefix)
        if into is not None:
            paper_page.write(into, store, found)
    shown = [(each.title, files.table(each)) for each in found]
    show(Answer(tables=shown, record={"tables": len(found)}))


def _verify(table: str | None, run: str, model: str | None, db: str | None) -> None:
    from hero_ray.store import open_store
    from hero_ray.studies import files, verify

    chosen = verify.parse_table(table)
    with open_store(db, read_only=True) as store:
        found = verify.check(store, run, chosen, model)
    beside = verify.as_table(found, chosen)
    notes = [f"note: {remark}" for remark in verify.remarks(chosen)]
    record = {"table": table, "verdicts": verify.tally(found)}
    show(Answer(tables=[(beside.title, files.table(beside))], notes=notes, record=record))


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _pairs(given: list[str] | None) -> dict[str, Any]:
    from hero_ray.core.errors import ConfigError

    parts = [item.partition("=") for item in given or ()]
    if not all(equals for _, equals, _ in parts):
        raise ConfigError(f"--source {given!r} is not KEY=VALUE, as in data=FOLDER")
    return {key: int(value) if value.isdecimal() else value for key, _, value in parts}
