"""Verbs that ask a finished (or running) sweep questions: `frontier`, `compare`, `check`, `advise`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db
from hero_ray.cli.show import Answer, Form, finish, show
from hero_ray.results.axes import AXES

if TYPE_CHECKING:
    from hero_ray.results.contenders import Results
    from hero_ray.store import Store

EXIT_CLAIM_FAILS = 1
EXIT_CLAIM_UNDECIDED = 3

Run = Annotated[str, typer.Option("--run", help="Run id, a unique beginning of one, or latest.")]
Model = Annotated[str | None, typer.Option("--model", help="Model, where the run holds several.")]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Comma-separated benchmarks; default all of the run.")]
AxisName = Annotated[str, typer.Option("--axis", help=f"Cost: {' '.join(AXES)}.")]


def reading(db: str | None) -> Store:
    """The store, opened so that nothing can be written."""
    from hero_ray.store import open_store

    return open_store(db, read_only=True)


def listed(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def opened(db: str | None, run: str, model: str | None) -> Results:
    from hero_ray.results.contenders import Results
    from hero_ray.store import row_files

    found = Results(reading(db), run, model)
    files, rows = found.store.read(row_files.outside, found.run.id)
    if rows:
        typer.echo(row_files.told(found.run.id, files, rows), err=True)
    return found


@app.command()
def frontier(
    run: Run = "latest",
    axis: AxisName = "tokens",
    tasks: Tasks = None,
    model: Model = None,
    categories: Annotated[bool, typer.Option("--categories", help="One frontier per category.")] = False,
    average: Annotated[bool, typer.Option("--average", help="Frontier of the share of the unpruned score.")] = False,
    metric: Annotated[str | None, typer.Option("--metric", help="Metric key; default each benchmark's main.")] = None,
    db: Db = None,
    form: Form = None,
) -> None:
    """Which cells are worth their cost: on the frontier, dominated, or within noise of what dominates them."""
    from hero_ray.results.frontiers import average_frontiers, frontiers
    from hero_ray.results.report import tables

    results = opened(db, run, model)
    chosen = listed(tasks)
    found = (
        average_frontiers(results, axis, chosen)
        if average
        else frontiers(results, axis, chosen, categories=categories, metric=metric)
    )
    on_line = {chart.title: [p.point.id for p in chart.placed if p.state == "frontier"] for chart in found}
    record = {"run_id": results.run.id, "model": results.model, "axis": axis, "frontier": on_line}
    said = [f"{title}: on the frontier {', '.join(best)}" for title, best in on_line.items() if best]
    nothing = [f"no cell of this run has a figure with a known {axis} cost"]
    unit = results.unit(AXES[axis])
    shown = [(chart.title, tables.frontier(chart, unit)) for chart in found]
    show(Answer(said or nothing, shown, record=record), form)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="METHOD@BUDGET, for example hero@20%.")],
    second: Annotated[str, typer.Argument(metavar="B", help="What A is compared with.")],
    run: Run = "latest",
    against_run: Annotated[str | None, typer.Option("--against-run", help="Run that B is taken from.")] = None,
    tasks: Tasks = None,
    model: Model = None,
    db: Db = None,
    form: Form = None,
) -> None:
    """Is A better than B? Paired on the samples both answered, corrected over benchmarks."""
    from hero_ray.results import comparisons, contenders
    from hero_ray.results.names import cautions
    from hero_ray.results.report import tables

    results = opened(db, run, model)
    others = contenders.Results(results.store, against_run, model) if against_run else results
    pairs = (results, contenders.parse_contender(first)), (others, contenders.parse_contender(second))
    found = comparisons.compare(*pairs, listed(tasks))
    verdicts: dict[str, list[str]] = {}
    for item in found:
        verdicts.setdefault(item.verdict, []).append(item.benchmark)
    record = {
        "run_id": results.run.id,
        "against": others.run.id,
        "a": first,
        "b": second,
        "verdicts": {item.benchmark: item.verdict for item in found},
        "p_holm": {item.benchmark: item.p_holm for item in found},
        "missing": {item.benchmark: item.missing for item in found},
        "n": {item.benchmark: item.paired.n for item in found},
        "answered": {item.benchmark: item.answered for item in found},
    }
    said = [f"{first} against {second}: {verdict} on {', '.join(names)}" for verdict, names in verdicts.items()]
    unlike = [
        f"{item.benchmark}: {first} answered {item.answered[0]:,} questions and {second} {item.answered[1]:,}; "
        f"compared are the {item.paired.n:,} that both answered"
        for item in found
        if set(item.answered) != {item.paired.n}
    ]
    show(
        Answer([*said, *unlike], [("", tables.comparisons(first, second, found))], cautions(results.model), record),
        form,
    )


@app.command()
def check(
    claim: Annotated[str, typer.Argument(help='For example "hero@20% >= 98% of full on pope".')],
    missing: Annotated[
        Literal["drop", "wrong"] | None,
        typer.Option("--missing", help="Leave out samples that one side did not answer, or count them wrong."),
    ] = None,
    run: Run = "latest",
    model: Model = None,
    db: Db = None,
    form: Form = None,
) -> None:
    """Test a claim about a run. Exit code 0: it holds; 1: it fails; 3: the samples do not decide it."""
    from hero_ray.results import claims
    from hero_ray.results.names import cautions
    from hero_ray.results.report import tables

    parsed = claims.parse_claim(claim)
    results = opened(db, run, model)
    findings = claims.check(results, parsed, missing or "")
    verdict = claims.overall(findings)
    record = {
        "run_id": results.run.id,
        "claim": parsed.text,
        "verdict": verdict,
        "n": sum(f.result.n for f in findings),
        "missing": sum(sum(f.missing) for f in findings),
        "pictures_needed": {f.where: f.more.alone for f in findings if f.more is not None and f.more.alone},
    }
    seen = [
        f"{finding.where}: {'; '.join(filter(None, (finding.seen, finding.outlook)))}"
        for finding in findings
        if finding.seen or finding.outlook
    ]
    said = [f"{verdict}: {parsed.text}", *seen]
    show(Answer(said, [("", tables.findings(findings))], cautions(results.model), record), form)
    if verdict != "holds":
        raise typer.Exit(EXIT_CLAIM_FAILS if verdict == "fails" else EXIT_CLAIM_UNDECIDED)


@app.command()
def advise(
    max_loss: Annotated[
        str, typer.Option("--max-loss", help="Points of 100 (1.0), or share of the score (2%).")
    ] = "1.0",
    tasks: Tasks = None,
    axis: AxisName = "tokens",
    run: Run = "latest",
    model: Model = None,
    db: Db = None,
    form: Form = None,
) -> None:
    """The cheapest method and budget whose loss is shown to stay within --max-loss on every benchmark asked for.

    Exit code 0 with or without one: scripts read `advice`, or ask `check` for a verdict as an exit code.
    """
    from hero_ray.results import advice, axes
    from hero_ray.results.names import cautions
    from hero_ray.results.report import tables

    allowance, chosen = advice.parse_allowance(max_loss), axes.axis(axis)
    results = opened(db, run, model)
    candidates = advice.advise(results, allowance, chosen, listed(tasks))
    best = advice.cheapest(candidates)
    if best is not None:
        verb = "gains" if chosen.higher_is_cheaper else "saves"
        saved = "" if best.saved is None else f"; {verb} {best.saved:.0f}% of full's {chosen.title}"
        said = f"advice: {best.label} (loss within {allowance} on every benchmark asked for{saved})"
    else:
        said = f"no method is shown to stay within {allowance}; allow more, or measure more samples"
    record = {
        "run_id": results.run.id,
        "advice": best.label if best else None,
        "straw_man": best.straw_man if best else None,
        "saved_percent": best.saved if best else None,
        "max_loss": allowance.amount,
        "max_loss_unit": "% of full" if allowance.relative else "points",
        "verdicts": {c.label: c.verdict for c in candidates},
        "unsafe_benchmarks": advice.in_the_way(candidates),
        "pictures_needed": {c.label: needed for c in candidates if (needed := advice.pictures_needed(c))},
        "missing": sum(loss.missing for c in candidates for loss in c.losses),
    }
    warned = [*advice.nothing_to_lose(results, allowance, listed(tasks)), *filter(None, [advice.standing(candidates)])]
    open_ones = [*warned, *advice.unproven(candidates), *advice.outlook(candidates)]
    table = tables.advice(candidates, chosen, results.unit(chosen))
    show(Answer([said, *open_ones], [("", table)], cautions(results.model), record), form)


@app.command()
def report(
    output: Annotated[Path, typer.Argument(help="File to write; .html or .md.")] = Path("report.html"),
    axis: AxisName = "tokens",
    tasks: Tasks = None,
    run: Run = "latest",
    model: Model = None,
    db: Db = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Instead: a folder with the dashboard's charts, tables and flips.")
    ] = None,
    output_named: Annotated[Path | None, typer.Option("--output", help="The same as OUTPUT.")] = None,
) -> None:
    """One self-contained file about a run: tables, plots, comparisons, failures and provenance."""
    if bundle is not None:
        from hero_ray.cli.dashboard import write_bundle

        with reading(db) as store:
            finish(**write_bundle(store, run, bundle))
        return
    from hero_ray.core.errors import InputError
    from hero_ray.results.report import document, page

    output = output_named or output
    if output.suffix not in (".html", ".md"):
        raise InputError(f"report file {output} ends in {output.suffix or 'nothing'!r}; expected .html or .md")
    results = opened(db, run, model)
    size = page.keep(output, document.build(results, axis, listed(tasks)))
    finish(run_id=results.run.id, path=output, bytes=size)
