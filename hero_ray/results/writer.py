"""One table, written as Markdown, HTML, LaTeX or CSV: columns say how they stand and how their numbers look."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LATEX = str.maketrans(
    {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
     "−": "$-$", "±": r"$\pm$"}
)  # fmt: skip


def latex_text(text: object) -> str:
    """`text` as LaTeX shows it."""
    return str(text).translate(_LATEX)


_FIGURE = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?( ?[\[±%][-\d\s.,\[\]±%+]*)?|-+", re.IGNORECASE)


def csv_cell(value: object) -> object:
    """`value` as a CSV file may hold it: text that a spreadsheet would take for a formula gets an apostrophe before it.

    Figures written as text ("-5", "+3.2", "-7.4 [-9.1, -5.0]", a lone "-") stay as they are. A carriage return becomes
    a newline: Python's writer leaves it bare, and readers end the row there.
    """
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    formula = value.lstrip().startswith(("=", "+", "-", "@")) and not _FIGURE.fullmatch(value)
    return "'" + value if formula else value


@dataclass(frozen=True)
class Column:
    """One column. `form` is the format of its floats; `missing` stands where there is no value."""

    title: str
    left: bool = False
    form: str = ""
    missing: str = "-"

    def text(self, value: object) -> str:
        if value is None:
            return self.missing
        return format(value, self.form) if isinstance(value, float) and self.form else str(value)


@dataclass(frozen=True)
class Grid:
    """Rows under columns; its text is Markdown, as lmms-eval prints tables, "" without columns."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[object, ...], ...]

    def texts(self) -> list[list[str]]:
        """Every row as text."""
        return [[c.text(value) for c, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def __str__(self) -> str:
        if not self.columns:
            return ""
        marks = [":--" if column.left else "--:" for column in self.columns]
        lines = [[column.title for column in self.columns], marks, *self.texts()]
        # A cell is one line, and a bar in it would end it.
        shown = ([" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines)
        return "\n".join("| " + " | ".join(line) + " |" for line in shown)

    def html(self, caption: str = "") -> str:
        """A table in a region that can be scrolled by keyboard; the first column heads its rows.

        Args:
            caption: what it shows, for those who cannot see where it stands.
        """
        head = "".join(f'<th scope="col">{html.escape(column.title)}</th>' for column in self.columns)
        rows = []
        for first, *rest in self.texts():
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
            rows.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
        name = html.escape(caption or ", ".join(column.title for column in self.columns[:3]))
        lines = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
        lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>", *rows, "</tbody>"]
        start = f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        return "\n".join([start, *lines, "</table></div>"])

    def latex(self) -> str:
        """A booktabs table."""
        return latex_table(
            [column.left for column in self.columns],
            [latex_text(column.title) for column in self.columns],
            [[latex_text(cell) for cell in row] for row in self.texts()],
        )

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        rows = [[column.title for column in self.columns], *self.rows]
        writer.writerows([csv_cell(value) for value in row] for row in rows)
        return text.getvalue()


EMPTY = Grid((), ())


def grid(head: Sequence[str | Column], rows: Iterable[Sequence[object]], left: int = 1) -> Grid:
    """A table; columns given by their title alone stand left if they are among the first `left`, else right."""
    columns = tuple(one if isinstance(one, Column) else Column(one, place < left) for place, one in enumerate(head))
    return Grid(columns, tuple(tuple(row) for row in rows))


def latex_table(
    left: Sequence[bool], head: Sequence[str], rows: Iterable[Sequence[str] | None], notes: Sequence[str] = ()
) -> str:
    """A booktabs table of cells that are LaTeX already; None draws a rule between rows, notes stand below the last."""
    stands = "".join("l" if one else "r" for one in left)
    lines = [r"\midrule" if row is None else " & ".join(row) + r" \\" for row in rows]
    start = [rf"\begin{{tabular}}{{{stands}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    below = [note + r" \\" for note in notes]
    return "\n".join([*start, *lines, r"\bottomrule", *below, r"\end{tabular}", ""])
