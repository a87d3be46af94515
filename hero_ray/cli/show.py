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
        scripted: the record ends a drawn table too, since scripts read that verb on any terminal.
    """

    said: Sequence[str] = ()
    tables: Sequence[tuple[str, Grid]] = ()
    notes: Sequence[str] = ()
    record: dict[str, Any] = field(default_factory=dict)
    scripted: bool = False


def is_terminal() -> bool:
    """Whether somebody looks at the output, rather than a script or a file."""
    return sys.stdout.isatty()


def show(answer: Answer, form: str | None = None) -> None:
    """Print an answer: `json` is one object, `csv` the tables alone, `md` and `table` all of it for people.

    Markdown ends with the record as a line of JSON, for scripts; a drawn table does not.
    """
    form = form or ("table" if is_terminal() else "md")
    tables = [(title, grid) for title, grid in answer.tables if grid.columns]
    if form == "json":
        typer.echo(json.dumps(answer.record | {"tables": [_record(*each) for each in tables]}, default=str))
        return
    if form == "csv":
        typer.echo(joined(tables).csv(), nl=False)
        return
    parts = [list(answer.said)] if answer.said else []
    for title, grid in tables:
        parts += [[title]] if title else []
        parts += [[draw(grid) if form == "table" else str(grid)]]
    parts += [list(answer.notes)] if answer.notes else []
    typer.echo("\n\n".join("\n".join(part) for part in parts), nl=bool(parts))
    if form == "md" or answer.scripted:
        typer.echo(json.dumps(answer.record, default=str))


def finish(**record: Any) -> None:
    """End a verb that says nothing else: a line of JSON for scripts, on a terminal its facts, a line each."""
    if not is_terminal():
        typer.echo(json.dumps(record, default=str))
        return
    width = max(map(len, record), default=0)
    for name, value in record.items():
        typer.echo(f"{name.replace('_', ' '):<{width}}  {_told(value)}".rstrip())


def _told(value: Any) -> str:
    """A fact as people write it: yes and no, lists and mappings without brackets, "-" for nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, value)) or "-"
    return "-" if value is None or value == "" else f"{value:,}" if isinstance(value, int) else str(value)


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

    Where not all of it fits side by side, titles take several lines, a name that all rows share stands above, and
    what is left over goes below, beside its rows' names once more: no figure is cut or wrapped.

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
    above, places = _laid_out(grid, texts, console.width)
    with console.capture() as captured:
        for line in above:
            console.print(Text(line))
        for place, chunk in enumerate(places):
            if place or above:
                console.print()
            table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for i in chunk:
                column, room = grid.columns[i], _room(grid, texts, i)
                narrow = room if len(places) > 1 and room < len(column.title) else None
                side: Any = "left" if column.left else "right"
                table.add_column(Text(column.title), justify=side, overflow="fold", width=narrow)
            for row in texts:
                table.add_row(*(Text(row[i]) for i in chunk))
            console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _room(grid: Grid, texts: Sequence[Sequence[str]], place: int) -> int:
    """Characters that a column needs when its title may take three lines or so."""
    title = grid.columns[place].title
    return max(-(-len(title) // 3), *(len(text) for text in (*title.split(), *(row[place] for row in texts))))


def _laid_out(grid: Grid, texts: Sequence[Sequence[str]], room: int) -> tuple[list[str], list[list[int]]]:
    """Lines above the table, and the columns of each of its parts."""
    count = len(grid.columns)
    needed = [_room(grid, texts, i) for i in range(count)]
    in_full = [max(least, len(column.title)) for least, column in zip(needed, grid.columns, strict=True)]
    if len(found := chunks(in_full, room)) == 1:
        return [], found
    naming = next((i for i, column in enumerate(grid.columns) if not column.left), 1) or 1
    shared = [i for i in range(naming - 1) if len(texts) > 1 and len({row[i] for row in texts}) == 1]
    order = [i for i in range(count) if i not in shared]
    names = naming - len(shared)
    while names > 1 and sum(needed[i] for i in order[:names]) > room / 2:
        names -= 1
    parts = chunks([needed[i] for i in order], room, names)
    above = [f"{grid.columns[i].title}: {texts[0][i]}" for i in shared]
    return above, [[order[i] for i in part] for part in parts]


def chunks(widths: Sequence[int], room: int, names: int = 1, gap: int = 3) -> list[list[int]]:
    """Columns that fit side by side into `room` characters, the first `names` of them in each chunk."""
    head = list(range(min(names, len(widths))))
    found: list[list[int]] = []
    used = 0
    for i in range(len(head), len(widths)):
        if not found or used + gap + widths[i] > room:
            found.append(list(head))
            used = sum(widths[:names]) + gap * (names - 1)
        found[-1].append(i)
        used += gap + widths[i]
    return found or [head]
