"""How reading verbs speak: the answer, then tables; drawn on a terminal, Markdown in a pipe, or as asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import typer

from hero_ray.results.writer import Column, Grid

FORMATS = ("table", "md", "csv", "json")
Form = Annotated[
    Literal["table", "md", "csv", "json"] | None,
    typer.Option("--format", help="Default: table on a terminal, md with a last line of JSON elsewhere."),
]


@dataclass(frozen=True)
class Answer:
    """What a verb found.

    Attributes:
        said: the answer in a line or two.
        tables: what it rests on, each with its title ("" for none).
        notes: lines below the tables.
        record: the same for scripts.
    """

    said: Sequence[str] = ()
    tables: Sequence[tuple[str, Grid]] = ()
    notes: Sequence[str] = ()
    record: dict[str, Any] = field(default_factory=dict)


def show(answer: Answer, form: str | None = None) -> None:
    """Print an answer: `json` is one object, `csv` the tables alone, `md` and `table` all of it for people.

    Markdown ends with the record as a line of JSON, for scripts; a drawn table does not.
    """
    form = form or ("table" if sys.stdout.isatty() else "md")
    if form == "json":
        typer.echo(json.dumps(answer.record | {"tables": [_record(*each) for each in answer.tables]}, default=str))
        return
    if form == "csv":
        typer.echo(joined(answer.tables).csv(), nl=False)
        return
    for line in answer.said:
        typer.echo(line)
    for title, grid in answer.tables:
        typer.echo(f"\n{title}\n" if title else "")
        typer.echo(draw(grid) if form == "table" else str(grid))
    if answer.notes:
        typer.echo("")
    for line in answer.notes:
        typer.echo(line)
    if form == "md":
        typer.echo(json.dumps(answer.record, default=str))


def _record(title: str, grid: Grid) -> dict[str, Any]:
    names = [column.title for column in grid.columns]
    return {"title": title, "columns": names, "rows": [list(row) for row in grid.rows]}


def joined(tables: Sequence[tuple[str, Grid]]) -> Grid:
    """Tables of the same columns as one, told apart by a first column of their titles where there are several."""
    if len(tables) == 1:
        return tables[0][1]
    if not tables:
        return Grid((), ())
    columns = tables[0][1].columns
    rows = tuple((title, *row) for title, grid in tables for row in grid.rows)
    return Grid((Column("Table", left=True), *columns), rows)


def draw(grid: Grid, width: int | None = None) -> str:
    """The table for a terminal.

    What does not fit side by side goes below, under the first column once more: no figure is cut or wrapped.

    Args:
        width: of the terminal in characters; default its own.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=width, file=sys.stdout, highlight=False)
    texts = grid.texts()
    if not texts:
        return ""
    widths = [max(len(line) for line in (c.title, *(row[i] for row in texts))) for i, c in enumerate(grid.columns)]
    with console.capture() as captured:
        for place, chunk in enumerate(chunks(widths, console.width)):
            if place:
                console.print()
            table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for i in chunk:
                column = grid.columns[i]
                table.add_column(Text(column.title), justify="left" if column.left else "right", overflow="fold")
            for row in texts:
                table.add_row(*(Text(row[i]) for i in chunk))
            console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def chunks(widths: Sequence[int], room: int, gap: int = 3) -> list[list[int]]:
    """Columns that fit side by side into `room` characters, the first one in each chunk."""
    found: list[list[int]] = []
    used = 0
    for i, width in enumerate(widths):
        if i == 0:
            continue
        if not found or used + gap + width > room:
            found.append([0])
            used = widths[0]
        found[-1].append(i)
        used += gap + width
    return found or [[0]]
