"""The tables of docs/results.md: every method at three budgets on each embedded model, and each against straw men.

    hero-ray sweep configs/every-method.yaml
    python -m perf.every_method [--run latest] [--db URL] [--into docs/results.md]

Reads a finished sweep; nothing is measured here. `--into` replaces what stands between a page's two marks on the models
of the sweep; what stands there on others stays.

A verdict is about the mean over benchmarks of A minus a straw man of the same budget, one-sided at 5 % and corrected
by Holm over all pairs of one model in both directions. Methods whose count is their own have no budget to be beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hero_ray import stats
from hero_ray.core.errors import ConfigError
from hero_ray.results.averages import strictly
from hero_ray.results.contenders import Results, every_model
from hero_ray.results.marks import mean_of
from hero_ray.results.names import FULL, budget_of
from hero_ray.results.pairs import own_parts
from hero_ray.results.report.figures import number
from hero_ray.results.writer import grid
from hero_ray.store import open_store
from perf.report import report

BEGIN, END = "<!-- every method -->", "<!-- /every method -->"
COSTS = (("Visual tokens", "tokens", 1.0, ".1f"), ("GFLOPs", "flops", 1e9, ".3f"), ("KV KiB", "kv", 1024.0, ".1f"))
ALPHA = 0.05


def scores(results: Results) -> str:
    """One line per method and budget: points of 100 with half a 95 % interval, and what it costs."""
    held = {(mark.name.key, mark.benchmark): mark for mark in results.marks()}
    lines = []
    for label in results.groups:
        own = [held[label, name] for name in results.benchmarks if (label, name) in held]
        name = own[0].name
        figures = (f"{one.value:.1f} ± {one.half:.1f}" if one.half is not None else f"{one.value:.1f}" for one in own)
        costs = (mean_of((one.costs[axis] for one in own), some=True) for _, axis, _, _ in COSTS)
        shown = (
            number(None if value is None else value / unit, form)
            for value, (_, _, unit, form) in zip(costs, COSTS, strict=True)
        )
        lines.append((name.series, name.budget, *figures, *shown))
    return str(grid(["Method", "Budget", *results.benchmarks, *(title for title, *_ in COSTS)], lines, left=2))


@dataclass(frozen=True)
class Pair:
    """A method beside a straw man of its budget; `verdict` after correction."""

    label: str
    rival: str
    result: stats.OneSided
    verdict: str


def pairs(results: Results) -> list[Pair]:
    """Every method beside every straw man of its budget, judged as one family."""
    found = list(_beside(results))
    above, below = stats.both_ways(
        [strictly(result) for *_, result in found],
        [1.0 if result.value >= 0 else result.p_against for *_, result in found],
    )
    return [
        Pair(label, rival, result, "better" if up < ALPHA else "worse" if down < ALPHA else "open")
        for (label, rival, result), up, down in zip(found, above, below, strict=True)
    ]


def _beside(results: Results) -> Iterator[tuple[str, str, stats.OneSided]]:
    firsts = {label: results.first(label) for label in results.groups}
    for label, cell in firsts.items():
        if cell.straw_man or cell.method == FULL or cell.own_count:
            continue
        for rival, other in firsts.items():
            if other.straw_man and budget_of(other) == budget_of(cell):
                shared = own_parts(results, label, rival, results.benchmarks)
                yield label, other.method, stats.pooled_difference(shared)


def against(found: list[Pair]) -> str:
    """The pairs as a table: a line per method and budget, a column per straw man."""
    rivals = list(dict.fromkeys(pair.rival for pair in found))
    lines: dict[str, dict[str, str]] = {}
    for pair in found:
        lines.setdefault(pair.label, {})[pair.rival] = f"{100 * pair.result.value:+.1f} {pair.verdict}"
    return str(
        grid(["Cell", *rivals], [(label, *(row.get(one, "-") for one in rivals)) for label, row in lines.items()])
    )


def section(results: Results) -> str:
    """Both tables of one model with where they come from."""
    run, found = results.run, pairs(results)
    answers = sum(cell.n_done for cell in results.cells)
    failed = sum(cell.n_failed for cell in results.cells)
    counts = sorted({(pair.result.n, pair.result.n_clusters) for pair in found})
    told = " or ".join(f"{n} questions on {pictures} pictures" for n, pictures in counts)
    weights = {str(cell.spec.get("model", {}).get("revision", "unknown"))[:8] for cell in results.cells}
    return "\n\n".join(
        [
            f"### {results.model}",
            f"Commit {(run.git_commit or 'unknown')[:7]}, weights {', '.join(sorted(weights))}, {answers:,} answers in "
            f"{len(results.cells)} cells, {failed or 'none'} failed.",
            scores(results),
            f"Against straw men of the same budget: the difference in points, mean over benchmarks, n = {told}; "
            f"{len(found)} pairs are one family.",
            against(found),
        ]
    )


def parted(text: str, marks: tuple[str, str], page: str) -> tuple[str, str, str]:
    """What stands before, between and behind two marks of a page, the marks with the outer parts.

    Raises:
        ConfigError: the marks are not there.
    """
    head, begin, rest = text.partition(marks[0])
    inner, end, tail = rest.partition(marks[1])
    if not begin or not end:
        raise ConfigError(f"{page} has no part between {' and '.join(marks)} to replace; add the two lines")
    return head + begin, inner, end + tail


def replaced(text: str, parts: dict[str, str], page: str) -> str:
    """A page with the `parts`, by model, between its two marks: in the place of a model's own, else behind the others.

    Raises:
        ConfigError: the marks are not there.
    """
    head, inner, tail = parted(text, (BEGIN, END), page)
    held = {piece.partition("\n")[0]: f"### {piece.strip()}" for piece in inner.split("### ")[1:]}
    whole = "\n\n".join((held | parts).values())
    return f"{head}\n{whole}\n{tail}"


def on_page(
    name: str, doc: str | None, told: Callable[[Results], str], placed: Callable[[str, dict[str, str], str], str]
) -> None:
    """The command line of a module that writes tables of a finished sweep: printed, or put into a page.

    Args:
        told: the part of one model.
        placed: (page, parts by model, what the page is called) -> the page with them.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="latest")
    parser.add_argument("--db", default=None)
    parser.add_argument("--into", type=Path, default=None)
    options = parser.parse_args()
    models = every_model(open_store(options.db, read_only=True), options.run)
    parts = {one.model: told(one) for one in models}
    if options.into is None:
        print("\n\n".join(parts.values()))
    else:
        page = options.into.read_text(encoding="utf-8")
        options.into.write_text(placed(page, parts, str(options.into)), encoding="utf-8")
    report(name, {"run": models[0].run.id, "models": [one.model for one in models]})


def main() -> None:
    on_page("every_method", __doc__, section, replaced)


if __name__ == "__main__":
    main()
