"""The method x budget table in the papers' form, and its HTML, LaTeX, CSV and Markdown. No Streamlit."""

from __future__ import annotations

import csv
import html
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hero_ray.results.averages import FLAG_NOTES
from hero_ray.results.axes import AXES, Axis
from hero_ray.results.marks import EARLY, Mark, Unpruned, mean_of, saved, unpruned
from hero_ray.results.names import EMBEDDED_NOTE, FULL, is_embedded
from hero_ray.results.report.figures import spread
from hero_ray.results.shown import markers, palette
from hero_ray.results.ties import BOLD_NOTE, Below, bold
from hero_ray.results.writer import csv_cell, latex_table, latex_text

AVERAGE = "Avg. % of full"
COSTS = ("tokens", "flops", "kv", "ttft")
"""Costs that a table shows where nobody asks for others."""
_TITLES = {"flops": "Computation", "encode_flops": "Before the LLM"}


@dataclass(frozen=True)
class Entry:
    """One figure of the table.

    Attributes:
        tail: what of the text stands behind the figure: its interval, or what is saved.
        best: whether no other of its budget is shown to be better.
        value: what lines are sorted by, the best first when it is smallest; None comes last.
        low, high: of a score, its 95 % interval.
        saved: of a cost, percent of the unpruned model's that is saved (of a rate: gained), if known.
    """

    text: str = ""
    tail: str = ""
    best: bool = False
    title: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    saved: float | None = None

    @property
    def figure(self) -> str:
        return self.text.removesuffix(self.tail)


@dataclass(frozen=True)
class TableLine:
    """One method at one budget."""

    model: str
    method: str
    series: str
    budget: str
    flag: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class MethodTable:
    """Columns behind Method and Budget (the first `scores` of them scores), the lines in the order of print, and what a
    reader must know; `answered` says over how many questions and pictures each score is."""

    columns: tuple[str, ...]
    scores: int
    lines: tuple[TableLine, ...]
    notes: tuple[str, ...]
    answered: tuple[str, ...] = ()


def method_table(
    found: Sequence[Mark],
    averages: Sequence[Mark] = (),
    flagged: Mapping[str, str] | None = None,
    unit: Callable[[Axis], tuple[float, str]] | None = None,
    costs: Sequence[str] = COSTS,
    full: Unpruned | None = None,
    below: Below | None = None,
) -> MethodTable:
    """Every contender by benchmark, with the retention average and the costs; budgets from large to small.

    Args:
        found: marks of one model.
        averages, flagged: from `results.averages`, over the same benchmarks.
        unit: (factor, name) of a cost's unit; default: what suits these marks.
        costs: names of the axes to show.
        full: what costs are held against; default: the unpruned model among `found`.
        below: the test behind bold figures; without one, as for figures that have no answers, none are bold.
    """
    benchmarks = list(dict.fromkeys(mark.benchmark for mark in found))
    rows: dict[str, dict[str, Mark]] = defaultdict(dict)
    for mark in found:
        rows[mark.name.key][mark.benchmark] = mark
    for mark in averages:
        if mark.name.key in rows:
            rows[mark.name.key][AVERAGE] = mark
    shown = [AXES[key] for key in costs if any(mark.costs[key] is not None for mark in found)]
    units = [unit(axis) if unit else axis.unit([mark.costs[axis.name] for mark in found]) for axis in shown]
    titles = [_TITLES.get(axis.name, axis.short) for axis in shown]
    heads = [f"{title}, {name}" if name else title for title, (_, name) in zip(titles, units, strict=True)]
    scored = (*benchmarks, AVERAGE)
    best = bold(rows, scored, AVERAGE, below) if below else set()
    full = unpruned(found) if full is None else full
    lines = []
    for key, own in sorted(rows.items(), key=lambda item: _order(_any(item[1]))):
        first = _any(own)
        entries = [_score(own.get(name), (key, name) in best) for name in scored]
        group = [mark for mark in own.values() if mark.benchmark]
        entries += [_cost(group, axis, factor, full) for axis, (factor, _) in zip(shown, units, strict=True)]
        head = (first.model, first.method, first.name.series, first.name.budget)
        lines.append(TableLine(*head, (flagged or {}).get(key, ""), tuple(entries)))
    notes, answered = tuple(_notes(lines, found)), tuple(_answered(found, benchmarks))
    return MethodTable((*scored, *heads), len(scored), tuple(lines), notes, answered)


def _answered(found: Sequence[Mark], benchmarks: Sequence[str]) -> Iterator[str]:
    """How many questions, on how many pictures, each benchmark's figures rest on."""
    for name in benchmarks:
        questions = _range(mark.n for mark in found if mark.benchmark == name)
        pictures = _range(mark.n_clusters or 0 for mark in found if mark.benchmark == name)
        yield f"{name} n = {questions}" + (f" on {pictures} pictures" if pictures != "0" else "")


def _range(counts: Iterable[int]) -> str:
    held = sorted(set(counts))
    return "-".join(f"{n:,}" for n in dict.fromkeys((held[0], held[-1])))


def _notes(lines: Sequence[TableLine], found: Sequence[Mark]) -> Iterator[str]:
    """What a reader of these lines must know."""
    entries = [entry for line in lines for entry in line.entries]
    if any(entry.best for entry in entries):
        yield BOLD_NOTE
    yield "± is half the 95 % interval, clustered by picture."
    if any(entry.tail.startswith(", ") for entry in entries):
        yield "Where it goes one way only, the interval itself stands there."
    if any(entry.saved is not None for entry in entries):
        yield "Percentages beside costs: what is saved (−) against full; of a rate, gained (+)."
    for flag, note in FLAG_NOTES.items():
        if any(line.flag == flag for line in lines):
            yield f"{note}."
    if any(mark.stopped for mark in found):
        yield f"{EARLY} decided early."
    if any(is_embedded(mark.model) for mark in found):
        yield EMBEDDED_NOTE


def _any(own: Mapping[str, Mark]) -> Mark:
    return next(iter(own.values()))


def _order(mark: Mark) -> tuple[object, ...]:
    return (mark.model, mark.method != FULL, -mark.retention_ratio, palette.rank(mark.method), mark.name.series)


def _score(mark: Mark | None, best: bool) -> Entry:
    if mark is None:
        return Entry("-")
    tail = spread(mark.value, mark.low, mark.high) + (EARLY if mark.stopped else "")
    people = f"n = {mark.n:,}" + (f" on {mark.n_clusters:,} pictures" if mark.n_clusters else "")
    return Entry(f"{mark.value:.1f}{tail}", tail, best, people, -mark.value, mark.low, mark.high)


def _cost(group: Sequence[Mark], axis: Axis, factor: float, full: Unpruned) -> Entry:
    value = mean_of((mark.costs[axis.name] for mark in group), some=True)
    if value is None:
        return Entry("-")
    less = None if group[0].method == FULL else saved(group, full, axis)
    sign = "+" if less is not None and (less < 0) != axis.higher_is_cheaper else "−"
    tail = "" if less is None else f" {sign}{abs(less):.0f} %"
    order = -value if axis.higher_is_cheaper else value
    return Entry(f"{value / factor:.1f}{tail}", tail, value=order, saved=less)


def sorted_by(table: MethodTable, column: str) -> MethodTable:
    """The same lines with the best in a column first: the highest score, the lowest cost.

    Raises:
        ValueError: no such column.
    """
    at = table.columns.index(column)
    known = lambda line: line.entries[at].value  # noqa: E731
    return replace(table, lines=tuple(sorted(table.lines, key=lambda line: (known(line) is None, known(line) or 0.0))))


def _name(line: TableLine) -> str:
    return f"{line.series} {line.flag}".rstrip()


def _grid(
    table: MethodTable, dress: Callable[[Entry], str], safe: Callable[[str], str]
) -> list[tuple[TableLine, list[str]]]:
    return [(line, [safe(_name(line)), safe(line.budget), *map(dress, line.entries)]) for line in table.lines]


def to_html(table: MethodTable) -> str:
    """A table that scrolls sideways on small screens, also by keyboard; what a row is stays in place."""

    def dress(entry: Entry) -> str:
        value = html.escape(entry.figure)
        value = f"<b>{value}</b>" if entry.best else value
        return value + (f"<small>{html.escape(entry.tail)}</small>" if entry.tail else "")

    model = html.escape(table.lines[0].model if table.lines else "no cells")
    parts = [
        f'<div class="hr-scroll" tabindex="0" role="region" aria-label="Methods of {model}"><table class="hr-table">'
        f"<caption>{model}: score with half a 95% interval, then costs, by method and budget</caption>"
        '<thead><tr><th scope="col">Method, budget</th>'
    ]
    parts += [f'<th scope="col">{html.escape(column)}</th>' for column in table.columns]
    parts.append("</tr></thead><tbody>")
    previous = None
    for line, texts in _grid(table, dress, html.escape):
        look = palette.look(line.method)
        rule = ' class="hr-rule"' if previous not in (None, line.budget) else ""
        dot = f'<img class="hr-dot" alt="" src="{markers.picture(look.symbol, look.colour)}">'
        cells = [f'<th scope="row">{dot}{texts[0]} <span class="hr-budget">{texts[1]}</span></th>']
        titles = [f' title="{html.escape(entry.title)}"' if entry.title else "" for entry in line.entries]
        cells += [f"<td{title}>{text}</td>" for title, text in zip(titles, texts[2:], strict=True)]
        parts.append(f"<tr{rule}>{''.join(cells)}</tr>")
        previous = line.budget
    return "".join(parts) + "</tbody></table></div>"


CSS = """
.hr-scroll{overflow-x:auto;max-width:100%}
.hr-table{border-collapse:separate;border-spacing:0;font-size:.86rem;font-variant-numeric:tabular-nums;white-space:nowrap;width:100%}
.hr-table th,.hr-table td{padding:.28rem .6rem;text-align:right;border:0}
.hr-table caption{text-align:left;opacity:.8;padding:.2rem .6rem}
.hr-table th:first-child{text-align:left;font-weight:500;position:sticky;left:0;background:Canvas}
.hr-budget{opacity:.8;margin-left:.35rem}
.hr-table thead th{white-space:normal;vertical-align:bottom}
.hr-table thead th{border-bottom:1.5px solid rgba(128,132,140,.7);font-weight:600}
.hr-table tbody tr:hover{background:rgba(128,132,140,.12)}
.hr-table tr.hr-rule th,.hr-table tr.hr-rule td{border-top:1px solid rgba(128,132,140,.35)}
.hr-table small{opacity:.8}
.hr-dot{display:inline-block;width:.8rem;height:.8rem;margin-right:.4rem;vertical-align:-.08rem}
@media (max-width:640px){.hr-table th:first-child{white-space:normal;overflow-wrap:anywhere;max-width:9rem}}
@media print{.hr-scroll{overflow:visible}.hr-table{white-space:normal}
.hr-table th,.hr-table td{font-size:8px;padding:1px 3px}.hr-table th:first-child{position:static}}
"""


def to_latex(table: MethodTable) -> str:
    """A booktabs table; a rule between budgets, below it what a reader must know, then model and n as comments."""

    def dress(entry: Entry) -> str:
        value = latex_text(entry.figure)
        value = f"\\textbf{{{value}}}" if entry.best else value
        return value + (f"{{\\scriptsize{latex_text(entry.tail)}}}" if entry.tail else "")

    rows: list[list[str] | None] = []
    previous = None
    for line, texts in _grid(table, dress, latex_text):
        rows += [None, texts] if previous not in (None, line.budget) else [texts]
        previous = line.budget
    head = ["Method", "Budget", *map(latex_text, table.columns)]
    notes = [rf"\multicolumn{{{len(head)}}}{{l}}{{\footnotesize {latex_text(note)}}}" for note in table.notes]
    models = dict.fromkeys(line.model for line in table.lines)
    facts = [f"model {', '.join(models)}", *table.answered, *(note for note in table.notes if note == EMBEDDED_NOTE)]
    told = "".join(f"% {' '.join(line.split())}\n" for line in facts)
    return latex_table([True, True, *(False for _ in table.columns)], head, rows, notes) + told


def to_csv(table: MethodTable) -> str:
    """Every score with the bounds of its interval, and every cost with what is saved, in columns of their own."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    heads = ["model", "method", "budget", "straw_man_flag"]
    for place, name in enumerate(table.columns):
        heads += [name, f"{name} 95% low", f"{name} 95% high"] if place < table.scores else [name, f"{name}, saved %"]
    writer.writerow(heads)
    for line in table.lines:
        row: list[object] = [line.model, line.series, line.budget, int(bool(line.flag))]
        for place, entry in enumerate(line.entries):
            beside = (entry.low, entry.high) if place < table.scores else (entry.saved,)
            row += [entry.figure, *("" if value is None else f"{value:.1f}" for value in beside)]
        writer.writerow([csv_cell(each) for each in row])
    return buffer.getvalue()
