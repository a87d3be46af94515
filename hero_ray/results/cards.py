"""What one page says of one method: its figures, where it fails beside the unpruned model, and three typical flips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hero_ray.results.axes import AXES
from hero_ray.results.comparisons import compare_labels
from hero_ray.results.contenders import Results
from hero_ray.results.marks import Mark
from hero_ray.results.names import FULL, budget_of
from hero_ray.results.report.figures import number, p_value, span
from hero_ray.results.writer import Grid, grid
from hero_ray.store import CellRow, flips
from hero_ray.store.answers import CellRef
from hero_ray.store.flips import FlipRow

USUAL_RATIO = 0.2
"""Where several budgets were measured, failures are looked for at the one nearest to this: most papers print it."""
WORST = 8


@dataclass(frozen=True)
class TypicalFlip:
    """A question that the unpruned model scores higher, from where a method loses most of them.

    Attributes:
        lost: how many it loses of this benchmark and category.
    """

    full: CellRow
    own: CellRow
    flip: FlipRow
    lost: int


@dataclass(frozen=True)
class MethodCard:
    """One method on one model.

    Attributes:
        at: the contender that `failing` and `flips` are about, "" where the run has no unpruned cells.
        figures: scores of every setting and budget with their costs.
        lost: paired differences from the unpruned model; None without one.
        failing: categories with the largest losses; None where none lost anything.
    """

    method: str
    model: str
    at: str
    figures: Grid
    lost: Grid | None
    failing: Grid | None
    flips: tuple[TypicalFlip, ...]


def methods(results: Results) -> list[str]:
    """Methods of a run that have a card: all but the unpruned model, straw men last."""
    held = {cell.method: cell.straw_man for cell in results.cells if cell.method != FULL}
    return sorted(held, key=lambda name: held[name])


def card(results: Results, method: str) -> MethodCard:
    """The card of a method on the model of these results.

    Raises:
        UnknownNameError: it is not in them.
    """
    labels = [label for label in results.groups if results.first(label).method == method]
    at = _usual(results, labels) if FULL in results.groups and labels else ""
    return MethodCard(
        method,
        results.model,
        at,
        _figures(results, labels),
        _lost(results, labels) if at else None,
        _failing(results, at) if at else None,
        _typical(results, at) if at else (),
    )


def _usual(results: Results, labels: Sequence[str]) -> str:
    return min(labels, key=lambda label: (abs(results.first(label).retention_ratio - USUAL_RATIO), label))


def _figures(results: Results, labels: Sequence[str]) -> Grid:
    marks = [mark for mark in results.marks() if mark.name.key in labels]
    shown = [AXES[name] for name in ("tokens", "flops", "kv", "ttft")]
    shown = [axis for axis in shown if any(mark.costs[axis.name] is not None for mark in marks)]
    units = {axis.name: results.unit(axis) for axis in shown}
    heads = [f"{axis.short}, {units[axis.name][1]}" if units[axis.name][1] else axis.short for axis in shown]

    def row(mark: Mark) -> list[object]:
        held = [mark.costs[axis.name] for axis in shown]
        costs = [
            number(None if cost is None else cost / units[axis.name][0]) for axis, cost in zip(shown, held, strict=True)
        ]
        return [mark.name.key, mark.benchmark, number(mark.value), span(mark.low, mark.high, 100.0), mark.n, *costs]

    return grid(["Cell", "Benchmark", "Score", "95% interval", "n", *heads], map(row, marks), left=2)


def _lost(results: Results, labels: Sequence[str]) -> Grid:
    rows = [
        (
            one.label,
            one.benchmark,
            number(one.points, "+.1f"),
            span(one.paired.low, one.paired.high, one.unit),
            f"{one.paired.wins}/{one.paired.losses}/{one.paired.ties}",
            p_value(one.p_holm),
            one.verdict,
        )
        for one in compare_labels(results, labels, FULL)
    ]
    head = ["Cell", "Benchmark", "Against full", "Interval", "Won/lost/tied", "p (Holm)", "It is"]
    return grid(head, rows, left=2)


def _failing(results: Results, at: str) -> Grid | None:
    """Categories where the method lies furthest below the unpruned model, the worst first."""
    by_category: dict[tuple[str, str], dict[str, Mark]] = {}
    split = [mark for mark in results.marks(categories=True) if mark.category]
    whole = {mark.benchmark for mark in split}
    for mark in [*split, *(mark for mark in results.marks() if mark.benchmark not in whole)]:
        if mark.name.key in (at, FULL):
            by_category.setdefault((mark.benchmark, mark.category), {})[mark.name.key] = mark
    rows = [(where, held[FULL], held[at]) for where, held in by_category.items() if len(held) == 2]
    rows = [row for row in rows if row[2].value < row[1].value]
    rows.sort(key=lambda row: (row[2].value - row[1].value, row[0]))
    if not rows:
        return None
    lines = [
        (where[0], where[1] or "all", number(own.value - full.value, "+.1f"), number(full.value), number(own.value),
         span(own.low, own.high, 100.0), own.n)
        for where, full, own in rows[:WORST]
    ]  # fmt: skip
    return grid(["Benchmark", "Category", "Against full", "full", at, "its 95% interval", "n"], lines, left=2)


def _typical(results: Results, at: str, most: int = 3) -> tuple[TypicalFlip, ...]:
    """One lost question from each of the categories that hold most of them; several of one where there are fewer."""
    groups: list[list[TypicalFlip]] = []
    for benchmark, cells in results.groups[at].items():
        full = results.groups[FULL].get(benchmark)
        if full:
            groups += _losses(results, full[0], cells[0]).values()
    groups.sort(key=lambda group: (-len(group), group[0].own.benchmark, group[0].flip.category))
    rounds = [group[place] for place in range(most) for group in groups if place < len(group)]
    return tuple(rounds[:most])


def _losses(results: Results, full: CellRow, own: CellRow) -> Mapping[str, list[TypicalFlip]]:
    a, b = (CellRef(cell.run_id, cell.id) for cell in (full, own))
    rows = results.store.read(flips.flips, a, b, "worse")
    found: dict[str, list[TypicalFlip]] = {}
    counts = {name: sum(row.category == name for row in rows) for name in {row.category for row in rows}}
    for row in rows:
        found.setdefault(row.category, []).append(TypicalFlip(full, own, row, counts[row.category]))
    return found


def told(flip: TypicalFlip) -> str:
    """Where a flip comes from, in words."""
    where = f"{flip.own.benchmark}, {flip.flip.category}" if flip.flip.category else flip.own.benchmark
    return f"{where}: {flip.lost:,} question{'' if flip.lost == 1 else 's'} lost at {budget_of(flip.own)}"


def expected(reference: Any, most: int = 8) -> str:
    """What was expected of an answer, as people read it: each accepted answer once."""
    accepted = reference if isinstance(reference, list) else [reference]
    return " · ".join(dict.fromkeys(str(one) for one in accepted[:most]))
