"""A table of docs/results.md: settings of a method beside its first one, in points and in cost.

    hero-ray sweep configs/beside-defaults.yaml
    python -m perf.beside_defaults [--run latest] [--db URL] [--into docs/results.md]

Reads a finished sweep; nothing is measured here. The difference is the mean over benchmarks on the same questions, with
its 90 % interval clustered by picture; costs are means over benchmarks of what both sides were counted to cost.
"""

from __future__ import annotations

from collections.abc import Iterator

from hero_ray import stats
from hero_ray.results.contenders import Results
from hero_ray.results.marks import mean_of
from hero_ray.results.names import FULL
from hero_ray.results.pairs import own_parts
from hero_ray.results.report.figures import number
from hero_ray.results.writer import grid
from perf.every_method import on_page, parted

MARKS = ("<!-- beside defaults -->", "<!-- /beside defaults -->")
COSTS = (("Equivalent tokens", "equivalent_tokens", 1.0, ".1f"), ("GFLOPs", "flops", 1e9, ".3f"))


def beside(results: Results) -> Iterator[tuple[str, str]]:
    """(setting, the method's first one at the same budget) of everything that is no first one itself."""
    firsts: dict[tuple[str, str], str] = {}
    plain: dict[str, str] = {}
    for label in results.groups:
        name = results.names[results.first(label).id]
        method = results.first(label).method
        if method == FULL:
            continue
        if plain.setdefault(method, name.series) == name.series:
            firsts[method, name.budget] = label
        else:
            yield label, firsts[method, name.budget]


def section(results: Results) -> str:
    """The table of one model with where it comes from."""
    costs = {axis: _costs(results, axis) for _, axis, _, _ in COSTS}
    lines = []
    for label, first in beside(results):
        name = results.names[results.first(label).id]
        found = stats.pooled_difference(own_parts(results, label, first, results.benchmarks))
        points = (number(None if one is None else 100 * one, "+.1f") for one in (found.value, found.low, found.high))
        value, low, high = points
        figures = (
            f"{number(_told(costs[axis].get(label), unit), form)} ({number(_told(costs[axis].get(first), unit), form)})"
            for _, axis, unit, form in COSTS
        )
        lines.append((name.series, name.budget, f"{value} [{low}, {high}]", *figures))
    head = ["Setting", "Budget", "Points beside the default", *(f"{title} (default's)" for title, *_ in COSTS)]
    commit = (results.run.git_commit or "unknown")[:7]
    failed = sum(cell.n_failed for cell in results.cells) or "none"
    return f"**{results.model}**, commit {commit}, {failed} failed\n\n{grid(head, lines, left=2)}"


def _costs(results: Results, axis: str) -> dict[str, float | None]:
    found: dict[str, list[float | None]] = {}
    for mark in results.marks():
        found.setdefault(mark.name.key, []).append(mark.costs[axis])
    return {label: mean_of(values, some=True) for label, values in found.items()}


def _told(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def placed(text: str, parts: dict[str, str], page: str) -> str:
    """A page with the `parts` of all models between its two marks. Raises ConfigError if they are not there."""
    head, _, tail = parted(text, MARKS, page)
    return "\n".join([head, "\n\n".join(parts.values()), tail])


def main() -> None:
    on_page("beside_defaults", __doc__, section, placed)


if __name__ == "__main__":
    main()
