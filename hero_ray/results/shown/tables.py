"""The method x budget table in the papers' form, and its HTML, LaTeX, CSV and Markdown. No Streamlit."""

from __future__ import annotations

import csv
import html
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hero_ray.results.shown import palette
from hero_ray.results.shown.points import AXES, FULL, Mark, retention_average

AVERAGE = "Avg. % of full"
FLAG = "†"
FLAG_NOTE = f"{FLAG} not above the best straw man at the same budget, on average over the benchmarks"
COSTS = (("tokens", "Tokens"), ("flops", "Computation"), ("kv", "KV cache"), ("ttft", "TTFT"))


@dataclass(frozen=True)
class Entry:
    """One figure of the table; `place` 1 is the best of its budget, 2 the second, 0 any other."""

    text: str = ""
    place: int = 0
    title: str = ""


@dataclass(frozen=True)
class Line:
    """One method at one budget."""

    model: str
    method: str
    series: str
    budget: str
    flagged: bool
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Table:
    """Columns behind Method and Budget, and the lines in the order of print."""

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def method_table(found: Sequence[Mark]) -> Table:
    """Every configuration by benchmark, with the retention average and the costs; budgets from large to small."""
    benchmarks = list(dict.fromkeys(mark.benchmark for mark in found))
    averages = {(m.model, m.series, m.budget): m for m in retention_average(found)}
    groups: dict[tuple[str, str, str], list[Mark]] = defaultdict(list)
    for mark in found:
        groups[mark.model, mark.series, mark.budget].append(mark)
    flagged = _flagged(groups, averages)
    units = {key: AXES[key].unit([mark.costs.get(key) for mark in found]) for key, _ in COSTS}
    shown = [(key, title) for key, title in COSTS if any(mark.costs.get(key) is not None for mark in found)]
    heads = [f"{title}, {units[key][1]}" if units[key][1] else title for key, title in shown]
    columns = (*benchmarks, AVERAGE, *heads)
    places = _places(groups, averages, benchmarks)
    lines = []
    for key in sorted(groups, key=lambda k: _order(groups[k][0])):
        group = groups[key]
        own = {mark.benchmark: mark for mark in group}
        entries = [_score(own.get(name), places.get((*key, name), 0)) for name in benchmarks]
        entries.append(_score(averages.get(key), places.get((*key, AVERAGE), 0)))
        entries += [_cost(group, name, units[name][0]) for name, _ in shown]
        first = group[0]
        lines.append(Line(first.model, first.method, first.series, first.budget, key in flagged, tuple(entries)))
    notes = ("Best of a budget bold, second underlined; ± is half the 95 % interval, clustered by picture.",)
    return Table(columns, tuple(lines), notes + ((FLAG_NOTE,) if flagged else ()))


def _order(mark: Mark) -> tuple[object, ...]:
    return (mark.model, mark.method != FULL, -mark.retention_ratio, palette.rank(mark.method), mark.series)


def _score(mark: Mark | None, place: int) -> Entry:
    if mark is None:
        return Entry("-")
    spread = "" if mark.low is None or mark.high is None else f" ± {(mark.high - mark.low) / 2:.1f}"
    people = f"n = {mark.n:,}" + (f" on {mark.n_clusters:,} pictures" if mark.n_clusters else "")
    return Entry(f"{mark.value:.1f}{spread}", place, people)


def _cost(group: Sequence[Mark], key: str, factor: float) -> Entry:
    values = [cost for mark in group if (cost := mark.costs.get(key)) is not None]
    return Entry(f"{sum(values) / len(values) / factor:.1f}" if values else "-")


def _places(groups: dict, averages: dict, benchmarks: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Best and second of every column among the methods of one model and budget; equal prints share a place."""
    columns: dict[tuple[str, str, str], dict[tuple[str, str, str], float]] = defaultdict(dict)
    for key, group in groups.items():
        if group[0].method == FULL:
            continue
        for mark in group:
            if mark.benchmark in benchmarks:
                columns[key[0], key[2], mark.benchmark][key] = round(mark.value, 1)
        if key in averages:
            columns[key[0], key[2], AVERAGE][key] = round(averages[key].value, 1)
    places: dict[tuple[str, ...], int] = {}
    for (_, _, column), values in columns.items():
        for place, value in enumerate(sorted(set(values.values()), reverse=True)[:2] if len(values) > 1 else (), 1):
            places |= {(*key, column): place for key, own in values.items() if own == value}
    return places


def _flagged(groups: dict, averages: dict) -> set[tuple[str, str, str]]:
    """Methods that do not beat the best straw man of their model and budget on average."""
    bar: dict[tuple[str, str], float] = {}
    for key, mark in averages.items():
        if mark.method in palette.STRAW_MEN and mark.method != FULL:
            bar[key[0], key[2]] = max(bar.get((key[0], key[2]), 0.0), mark.value)
    return {
        key
        for key, mark in averages.items()
        if mark.method not in palette.STRAW_MEN and mark.value <= bar.get((key[0], key[2]), -1.0)
    }


def _name(line: Line) -> str:
    return line.series + (f" {FLAG}" if line.flagged else "")


def _grid(table: Table, dress: Callable[[Entry], str], safe: Callable[[str], str]) -> list[tuple[Line, list[str]]]:
    return [(line, [safe(_name(line)), safe(line.budget), *map(dress, line.entries)]) for line in table.lines]


def to_html(table: Table) -> str:
    """A table that scrolls sideways on small screens, its first column staying in place."""

    def dress(entry: Entry) -> str:
        text = html.escape(entry.text)
        value, sign, spread = text.partition(" ± ")
        value = {1: f"<b>{value}</b>", 2: f"<u>{value}</u>"}.get(entry.place, value)
        return value + (f"<small> ± {spread}</small>" if sign else "")

    models = list(dict.fromkeys(line.model for line in table.lines))
    parts = ['<div class="hr-scroll"><table class="hr-table"><thead><tr><th>Method</th><th>Budget</th>']
    parts += [f"<th>{html.escape(column)}</th>" for column in table.columns] + ["</tr></thead><tbody>"]
    previous: tuple[str, str] | None = None
    for line, texts in _grid(table, dress, html.escape):
        if len(models) > 1 and (previous is None or previous[0] != line.model):
            span = len(table.columns) + 2
            parts.append(f'<tr class="hr-model"><th colspan="{span}">{html.escape(line.model)}</th></tr>')
        look = palette.look(line.method)
        rule = ' class="hr-rule"' if previous is not None and previous != (line.model, line.budget) else ""
        dot = f'<span class="hr-dot" style="background:{look.colour}"></span>'
        cells = [f"<th>{dot}{texts[0]}</th>", f"<td>{texts[1]}</td>"]
        titles = [f' title="{html.escape(entry.title)}"' if entry.title else "" for entry in line.entries]
        cells += [f"<td{title}>{text}</td>" for title, text in zip(titles, texts[2:], strict=True)]
        parts.append(f"<tr{rule}>{''.join(cells)}</tr>")
        previous = (line.model, line.budget)
    return "".join(parts) + "</tbody></table></div>"


CSS = """
.hr-scroll{overflow-x:auto;max-width:100%}
.hr-table{border-collapse:separate;border-spacing:0;font-size:.86rem;font-variant-numeric:tabular-nums;white-space:nowrap;width:100%}
.hr-table th,.hr-table td{padding:.28rem .6rem;text-align:right;border:0}
.hr-table th:first-child{text-align:left;font-weight:500;position:sticky;left:0;backdrop-filter:blur(10px)}
.hr-table thead th{border-bottom:1.5px solid rgba(128,132,140,.7);font-weight:600}
.hr-table tbody tr:hover{background:rgba(128,132,140,.12)}
.hr-table tr.hr-rule th,.hr-table tr.hr-rule td{border-top:1px solid rgba(128,132,140,.35)}
.hr-table tr.hr-model th{text-align:left;font-weight:700;padding-top:.8rem}
.hr-table small{opacity:.7}
.hr-dot{display:inline-block;width:.62rem;height:.62rem;border-radius:50%;margin-right:.45rem}
"""


def to_latex(table: Table) -> str:
    """A booktabs table; a rule between budgets."""

    def safe(text: str) -> str:
        for mark in "&%_#$":
            text = text.replace(mark, "\\" + mark)
        return text.replace(FLAG, "$^\\dagger$")

    def dress(entry: Entry) -> str:
        value, sign, spread = entry.text.partition(" ± ")
        value = {1: f"\\textbf{{{value}}}", 2: f"\\underline{{{value}}}"}.get(entry.place, value)
        return value + (f" {{\\scriptsize$\\pm${spread}}}" if sign else "")

    head = " & ".join(["Method", "Budget", *map(safe, table.columns)]) + r" \\"
    lines = [r"\begin{tabular}{ll" + "r" * len(table.columns) + "}", r"\toprule", head]
    previous: tuple[str, str] | None = None
    for line, texts in _grid(table, dress, safe):
        if previous != (line.model, line.budget):
            lines.append(r"\midrule")
        lines.append(" & ".join(texts) + r" \\")
        previous = (line.model, line.budget)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in table.notes), ""])


def to_csv(table: Table) -> str:
    """Value and half interval in columns of their own."""
    halves = [any(" ± " in line.entries[i].text for line in table.lines) for i in range(len(table.columns))]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [part for name, half in zip(table.columns, halves, strict=True) for part in _pair(name, half)]
    writer.writerow(["model", "method", "budget", "straw_man_flag", *columns])
    for line in table.lines:
        row: list[object] = [line.model, line.series, line.budget, int(line.flagged)]
        for entry, half in zip(line.entries, halves, strict=True):
            value, _, spread = entry.text.partition(" ± ")
            row += [value, spread] if half else [value]
        writer.writerow(row)
    return buffer.getvalue()


def _pair(name: str, half: bool) -> list[str]:
    return [name, f"{name} ±"] if half else [name]
