"""How often are verdicts wrong, and how often do they decide? Simulated benchmarks with known truths.

    python -m perf.decisions [--runs 20000] [--db sqlite:///hero_ray.db]

A bound on an error is met by its rate minus two Monte Carlo errors. `--db` adds how many of a sweep's stored answers
`--until decided` would have needed. Ten minutes on one quiet core; `--runs 1000` for a quick look.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hero_ray import stats
from hero_ray.stats.evidence import Evidence, p_at_most, weigh, wilson
from hero_ray.stats.frontier import Point, frontier
from hero_ray.stats.intervals import ENOUGH, share_bounds, t_quantile
from hero_ray.stats.paired import sign_flip
from perf.designs import KINDS, Design, chunks, differences, lopsided, partial, scores, whole_pictures
from perf.report import keep, report

Array = NDArray[np.float64]
MARGINS = (0.01, 0.03, 0.05)
PICTURES = (20, 50, 100, 200, 400, 1000, 5000)
ALPHA = 0.05


def evidence(design: Design, runs: int, pictures: int, rng: np.random.Generator) -> Iterator[Evidence]:
    """Evidence of every run, some runs at a time."""
    for some in chunks(runs, pictures):
        yield weigh(*design.draw(rng, some, pictures))


def p_within(design: Design, margin: float, runs: int, pictures: int, rng: np.random.Generator) -> Array:
    """p of "the loss is below the margin" in every run: [runs]. Single questions are told by their counts alone."""
    if design.sizes.max() > 1 or set(np.unique(design.sums)) - {-1.0, 0.0, 1.0}:
        return np.concatenate([p_at_most(e, -margin) for e in evidence(design, runs, pictures, rng)])
    chance = [float(design.chance[design.sums == value].sum()) for value in (-1, 1, 0)]
    drawn = rng.multinomial(pictures, chance, runs)[:, :2]
    counts, which = np.unique(drawn, axis=0, return_inverse=True)
    p = []
    for some in chunks(len(counts), pictures):
        lost, won = counts[sum(map(len, p)) :][:some].T
        at = np.arange(pictures)
        sums = (at >= pictures - won[:, None]).astype(float) - (at < lost[:, None])
        p.append(p_at_most(weigh(sums, np.ones(pictures), (lost + won).astype(float)), -margin))
    return np.concatenate(p)[which.ravel()]


def rate(hits: NDArray[np.bool_]) -> dict[str, float]:
    """Share in percent and its Monte Carlo error."""
    share = float(hits.mean())
    return {"percent": round(100 * share, 2), "error": round(100 * math.sqrt(share * (1 - share) / hits.size), 2)}


def false_holds(runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Verdict "holds" with the true loss at the margin, and its power with a fifth of it."""
    made: list[tuple[str, Callable[[str, float], Design], tuple[str, ...]]] = [
        ("losses only", differences, KINDS),
        ("wins 2 %", lambda kind, loss: differences(kind, loss, 0.02), KINDS),
        ("whole pictures", whole_pictures, ("18", "1-50")),
        ("falls by 0.3, 0.6, 1", partial, ("1", "2")),
        ("lopsided", lopsided, ("1", "18", "1-50")),
    ]
    found = []
    for name, make, kinds in made:
        for kind in kinds:
            for margin in MARGINS:
                if name == "lopsided" and margin > 0.045:
                    continue
                for pictures in PICTURES if kind == "1" and name != "falls by 0.3, 0.6, 1" else (20, 100, 400, 1000):
                    wrong = p_within(make(kind, margin), margin, runs, pictures, rng) < ALPHA
                    right = p_within(make(kind, margin / 5), margin, runs // 4, pictures, rng) < ALPHA
                    where = {"design": name, "questions": kind, "margin": 100 * margin, "pictures": pictures}
                    found.append(where | rate(wrong) | {"power": rate(right)["percent"]})
    return found


def families(runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """`advise`: a false "safe" or "unsafe" anywhere among cells whose loss is exactly the margin."""
    found = []
    for kind, pictures in (("1", 100), ("1", 400), ("1", 1000), ("18", 100), ("18", 400)):
        some = runs if kind == "1" else runs // 20
        for margin in (0.01, 0.03):
            for cells in (9, 27, 69):
                p = p_within(differences(kind, margin), margin, some * cells, pictures, rng).reshape(some, cells)
                safe = p.min(axis=1) * cells < ALPHA
                where = {"questions": kind, "pictures": pictures, "margin": 100 * margin, "cells": cells}
                found.append(where | rate(safe))
    return found


def answers(rng: np.random.Generator, cells: Array, pictures: int, each: int) -> Array:
    """Right or wrong answers of cells of given logits to the same questions, some pictures harder: [cells, n]."""
    hard = np.repeat(rng.normal(0, 1.2, pictures), each)
    return (rng.random((cells.size, hard.size)) < 1 / (1 + np.exp(-(1.3 * cells[:, None] + hard)))).astype(float)


def placed(drawn: Array, costs: Array, clusters: NDArray[np.int64]) -> list[Any]:
    """The cells' frontier, compared on the questions they share."""
    points = []
    for k, row in enumerate(drawn):
        interval = stats.mean_interval(row, clusters)
        points.append(Point(str(k), str(k), float(costs[k]), interval.value, interval.low, interval.high))

    def better(a: str, b: str) -> float:
        result = stats.one_sided(drawn[int(a)] - drawn[int(b)], clusters)
        return 1.0 if result.value <= 0 else result.p_claim

    return frontier(points, better, draws=20)


def frontiers(runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Cells of equal truth called dominated (of points that are not the cheapest); a rival 10 points better found."""
    found = []
    clusters = np.repeat(np.arange(100), 3)
    for cells in (2, 5, 10, 25):
        hits = []
        for _ in range(max(20, runs // (cells - 1) // 4)):
            entries = placed(answers(rng, np.full(cells, 0.65), 100, 3), np.arange(cells) * 1.0 + 1, clusters)
            hits += [entry.state == "dominated" for entry in entries[1:]]
        found.append({"cells": cells, "rival": "equal"} | rate(np.array(hits)))
    logits, hits = np.array([0.97, 0.515]), []  # 76.4 and 66.4 % right
    for _ in range(max(20, runs // 10)):
        entries = placed(answers(rng, logits, 100, 3), np.ones(2), clusters)
        hits.append(any(entry.point.id == "1" and entry.state == "dominated" for entry in entries))
    return [*found, {"cells": 2, "rival": "10 points better"} | rate(np.array(hits))]


def coverage(runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Intervals of a mean: how often they hold the truth, their half width against Wilson's with plain clusters."""
    found = []
    for kind in KINDS:
        for pictures in (50, 100, 400):
            for share in (0.5, 0.8, 0.95, 0.99):
                for alike in (0.3,) if kind == "1" else (0.1, 0.3, 0.7):
                    held, ratio, held_before, flagged = intervals(scores(kind, share, alike), runs, pictures, rng)
                    where = {"questions": kind, "pictures": pictures, "share": share, "alike": alike}
                    more = {"width_ratio": round(ratio, 3), "before": rate(held_before)["percent"]}
                    found.append(where | rate(held) | more | {"flagged": rate(flagged)["percent"]})
    return found


def intervals(
    design: Design, runs: int, pictures: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], float, NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether intervals hold the truth, their width against the former ones, whether those held, who was flagged."""
    held, before, widths, flagged = [], [], [], []
    for some in chunks(runs, pictures):
        sums, sizes, squares = design.draw(rng, some, pictures)
        found = weigh(sums, sizes, squares)
        low, high = share_bounds(found, (1 - 0.95) / 2)
        held.append((low <= design.truth) & (design.truth <= high))
        n, value = sizes.sum(axis=1), found.value
        residual = sums - value[:, None] * sizes
        variance = pictures / (pictures - 1) * (residual**2).sum(axis=1) / n**2
        plain = np.where(variance > 1e-24, value * (1 - value) / np.maximum(variance, 1e-24), pictures)
        old_low, old_high = wilson(value, plain, t_quantile(0.975, pictures - 1))
        before.append((old_low <= design.truth) & (design.truth <= old_high))
        widths.append([(high - low).sum(), (old_high - old_low).sum()])
        flagged.append(np.minimum(value, 1 - value) / found.unit < ENOUGH)
    new, old = np.sum(widths, axis=0)
    return np.concatenate(held), float(new / old), np.concatenate(before), np.concatenate(flagged)


def anytime(runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Betting, looking after every one of 1,000 pictures: error at the margin either way, and pictures it takes."""
    found, limit = [], math.log(1 / ALPHA)
    for name, wins in (("losses only", 0.0), ("wins 2 %", 0.02)):
        for kind in KINDS:
            largest = {"1-50": 50}.get(kind) or int(kind)
            for margin in MARGINS:
                hits: dict[bool, list[Any]] = {True: [], False: []}
                for some in chunks(runs, 1000):
                    sums, sizes, _ = differences(kind, margin, wins).draw(rng, some, 1000)
                    for above in hits:
                        hits[above].append(stats.log_wealth(sums, sizes, margin, largest, above).max(axis=1) > limit)
                sums, sizes, _ = differences(kind, margin / 5, wins).draw(rng, min(runs, 1000), 1000)
                reached = stats.log_wealth(sums, sizes, margin, largest) > limit
                took = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 1000)
                where = {"design": name, "questions": kind, "margin": 100 * margin}
                worse = rate(np.concatenate(hits[False]))["percent"]
                found.append(
                    where
                    | rate(np.concatenate(hits[True]))
                    | {"worse_percent": worse, "pictures_taken": round(float(took.mean()))}
                )
    return found


def retention(runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Coverage of the retention average over four benchmarks that share their pictures."""
    found = []
    for kept, base, pictures in ((0.99, 0.8, 20), (0.99, 0.8, 50), (0.99, 0.8, 100), (0.99, 0.8, 400), (0.8, 0.2, 30)):
        hits = []
        for _ in range(max(20, runs // 10)):
            hard = rng.beta(base * 2.33, (1 - base) * 2.33, pictures)
            parts = {}
            for name in "abcd":
                full = (rng.random(pictures) < hard).astype(float)
                mine = full * (rng.random(pictures) < kept)
                if full.any():
                    parts[name] = stats.Part(mine, full, list(range(pictures)))
            interval = stats.retention_average(parts)
            assert interval.low is not None
            assert interval.high is not None
            hits.append(interval.low <= kept <= interval.high)
        found.append({"kept": kept, "base": base, "pictures": pictures} | rate(np.array(hits)))
    return found


def two_sided(runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The paired test on cells of equal truth: balanced with one question, lopsided with 18 and with 1 to 50."""
    found = []
    for pictures in (50, 100, 200, 400, 1000):
        wins, losses, _ = rng.multinomial(pictures, [0.05, 0.05, 0.9], max(100, runs)).T
        p = np.array([stats.mcnemar(int(w), int(lost)) for w, lost in zip(wins, losses, strict=True)])
        found.append({"design": "10 % differ", "questions": "1", "pictures": pictures} | rate(p < ALPHA))
    for kind in ("18", "1-50"):
        for pictures in (10, 20, 50, 100, 400):
            sums, _, _ = lopsided(kind, 0.0).draw(rng, max(100, runs // 10), pictures)
            p = np.array([sign_flip(row) for row in sums])
            found.append({"design": "lopsided", "questions": kind, "pictures": pictures} | rate(p < ALPHA))
    return found


PARTS: dict[str, Callable[[int, np.random.Generator], list[dict[str, Any]]]] = {
    "false_holds": false_holds,
    "advise_families": families,
    "frontier": frontiers,
    "coverage": coverage,
    "anytime": anytime,
    "retention": retention,
    "two_sided": two_sided,
}


def show(name: str, rows: list[dict[str, Any]]) -> None:
    """A plain table of one part."""
    print(f"\n{name}")
    keys = list(rows[0])
    lines = [keys, *[[str(row[key]) for key in keys] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(keys))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--only", choices=PARTS, help="one part; nothing is kept")
    parser.add_argument("--db", help="a finished sweep, for the share of answers that --until decided needs")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"runs": arguments.runs}
    for number, (name, part) in enumerate(PARTS.items()):
        if arguments.only in (None, name):
            figures[name] = part(arguments.runs, np.random.default_rng([20261130, number]))
            show(name, figures[name])
    if arguments.db:
        from perf.until_decided import speed

        figures["until_decided"] = speed(arguments.db)
        show("until_decided", figures["until_decided"])
    if arguments.only is None and arguments.runs >= 20_000:
        keep(Path(__file__).parent / "results" / "decisions.json", "decisions", figures)
    report("decisions", figures)


if __name__ == "__main__":
    main()
