"""The verb `board`: a folder of records as a site, and a run as a record."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db, Device
from hero_ray.cli.results import Run
from hero_ray.cli.show import finish

EXIT_FAULTS = 1
board_app = typer.Typer(name="board", help="An open board of results: records in a folder, rendered as a site.")
app.add_typer(board_app)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of records, one folder each.")]


@board_app.command()
def build(
    folder: Folder,
    out: Annotated[Path, typer.Option("--output", "--out", help="Folder of the site.")] = Path("site"),
) -> None:
    """Render a folder of records as pages that open offline: frontiers per model and benchmark, ties, straw men.

    A record that cannot be read, or whose verification says that it differs, is listed as such and does not count.
    """
    from hero_ray.results.board import site

    built = site.build(folder, out)
    for record in built.records:
        typer.echo(f"{record.name}: {record.said}{f' ({record.fault})' if record.fault else ''}")
    counted = sum(record.counts for record in built.records)
    finish(path=built.index, pages=built.pages, records=len(built.records), counted=counted)


@board_app.command()
def submit(
    folder: Folder,
    by: Annotated[str, typer.Option("--by", help="Who measured, as the board shows it.")],
    run: Run = "latest",
    note: Annotated[str, typer.Option("--note", help="A sentence for the record's README.")] = "",
    fraction: Annotated[
        float, typer.Option(help="Verify this share of pictures first, unless the run is verified as it is; 0: never.")
    ] = 0.01,
    device: Device = None,
    db: Db = None,
) -> None:
    """Make a record of a complete run, verified and held against itself; then commit the folder to the board.

    Exit codes: 0 the record counts; 1 it was written and would be listed with a fault.
    """
    from hero_ray.costs.counted import completion_tokens
    from hero_ray.pipeline.verify import is_current, verify
    from hero_ray.results.board import records, site
    from hero_ray.results.database import open_results

    with open_results(db) as store:
        found = store.run(run)
        if fraction and not is_current(store, found.id):
            verify(store, found.id, fraction, device=device, say=_say)
        made = records.submit(store, found.id, folder, by, note, completion_tokens)
    faults = site.faults(made)
    for fault in faults:
        typer.echo(f"fault: {fault}")
    typer.echo(f"wrote {made}; look at it with: hero-ray board build {folder}")
    finish(run_id=found.id, path=made, faults=len(faults))
    if faults:
        raise typer.Exit(EXIT_FAULTS)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
