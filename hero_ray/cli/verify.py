"""The verb `verify`: are stored answers what the model says?"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db, Device
from hero_ray.cli.results import Run
from hero_ray.cli.show import Answer, Form, show

if TYPE_CHECKING:
    from hero_ray.store.verifications import VerificationRow

EXIT_DIFFERS = 1
EXIT_NOT_ASKED = 3


@app.command()
def verify(
    source: Annotated[
        Path | None, typer.Argument(help="Instead of a run: a file or folder of `export -f eee`, read for this alone.")
    ] = None,
    run: Run = "latest",
    fraction: Annotated[float, typer.Option(help="Share of pictures asked again, in (0, 1].")] = 0.01,
    seed: Annotated[str | None, typer.Option(help="Of the draw; by chance if not given, and printed.")] = None,
    device: Device = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write the verification to this file: a record's verify.json.")
    ] = None,
    db: Db = None,
    form: Form = None,
) -> None:
    """Ask a sample of a run's stored answers again, recount all the rest, and mark the run with the verdict.

    Exit codes: 0 nothing differs; 1 something does; 3 nothing could be asked again.
    """
    from hero_ray.pipeline.verify import verify as verify_run
    from hero_ray.results.board.records import write_verification
    from hero_ray.results.database import open_results
    from hero_ray.results.exchange.every_eval_ever import reading

    with TemporaryDirectory() as scratch, open_results(str(Path(scratch) / "read.db") if source else db) as store:
        which = reading.import_ours(store, source) if source else run
        row = verify_run(store, which, fraction, seed=seed, device=device, say=_say)
    if report is not None:
        write_verification(row, report)
    tell(row, form)


def tell(row: VerificationRow, form: str | None) -> None:
    """Print a verification, and end with the code of its verdict."""
    from hero_ray.results import truth
    from hero_ray.results.report.tables import unlike, untrue

    report = row.report
    record: dict[str, Any] = {"run_id": row.run_id, "verification": row.id, "verdict": row.verdict}
    record |= {name: getattr(row, name) for name in ("fraction", "seed", "pictures", "drawn", "answers")}
    record |= {name: getattr(row, name) for name in ("bit_equal", "equal_text", "differs", "unasked", "recounted")}
    record |= {"kinds": report["kinds"], "chances": report["chances"], "needed": report["needed"]}
    drawn = f"{row.drawn} of {row.pictures} pictures drawn by seed {row.seed}"
    said = [f"{row.verdict}: run {row.run_id}, {drawn}", *report["said"]]
    if row.drawn < row.pictures:
        odds = ", ".join(f"{k}: {p:.1%}" for k, p in report["chances"].items())
        said.append(f"chance that this draw holds at least one altered picture, by how many there are: {odds}")
        if report["needed"]:
            said.append(f"from {report['needed']} altered pictures on it finds one with 95%")
    tables = [(title, grid) for title, grid in (
        ("Answers unlike today's", unlike(report["unlike"])),
        ("What its rows do not give", untrue(report["untrue"])),
    ) if grid.rows]  # fmt: skip
    show(Answer(said, tables, record=record), form)
    if row.verdict == truth.DIFFERS:
        raise typer.Exit(EXIT_DIFFERS)
    if row.verdict == truth.NOT_ASKED:
        raise typer.Exit(EXIT_NOT_ASKED)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
