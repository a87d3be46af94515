"""Which budget is safe? The cheapest cell whose loss is shown to stay within what was allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from statistics import NormalDist

from hero_ray import stats
from hero_ray.core.errors import InputError, NotComparableError, UnknownNameError
from hero_ray.results.axes import Axis
from hero_ray.results.contenders import Results
from hero_ray.results.marks import mean_of
from hero_ray.results.names import FULL
from hero_ray.results.sides import sides, worst
from hero_ray.store import CellRow

ALPHA = 0.05


@dataclass(frozen=True)
class Allowance:
    """Loss that may be: `points` hundredths of the score's scale, or (relative) percent of the unpruned score."""

    amount: float
    relative: bool = False

    def __str__(self) -> str:
        points = "point" if self.amount == 1 else "points"
        return f"{self.amount:g}% of the unpruned score" if self.relative else f"{self.amount:g} {points}"


def parse_allowance(text: str) -> Allowance:
    """Read `1.0` (points of 100) or `2%` (of the unpruned score).

    Raises:
        InputError: not a number, or negative.
    """
    try:
        amount = float(text.strip().removesuffix("%"))
    except ValueError:
        raise InputError(f"allowed loss {text!r} is not a number; write 1.0 (points) or 2% (of the score)") from None
    if not 0 <= amount < 100:
        raise InputError(f"allowed loss {text!r} is out of range; expected 0 to 100")
    return Allowance(amount, text.strip().endswith("%"))


@dataclass(frozen=True)
class Loss:
    """What a cell loses on one benchmark, in score units, with a bound that holds for all cells at once (95 %), and its
    verdict.

    `safe`: loss beyond the allowance is ruled out. `unsafe`: it is shown, corrected over cells and benchmarks.
    `unproven`: the samples do not decide. `p` and `p_against` are those of both claims, uncorrected, and the largest of
    all ways to count answers that are `missing` on either side. `seen` says in words what was seen. `needed`: pictures
    that would decide it with 80 % power if the loss and its spread stay as seen; None where the loss is the allowance.
    `beyond`: whether the loss seen is above the allowance, so that more of the same would show the cell unsafe.
    """

    benchmark: str
    value: float
    at_most: float | None
    p: float
    p_against: float
    verdict: str
    missing: int = 0
    seen: str = ""
    needed: int | None = None
    beyond: bool = False


@dataclass(frozen=True)
class Candidate:
    """One method at one budget with its cost and what it loses where.

    `safe` only if safe on every benchmark, `unsafe` if unsafe on one, with Holm's correction over both claims of all
    candidates: the cheapest of many safe-looking cells would otherwise be the luckiest one.
    """

    label: str
    cost: float | None
    losses: tuple[Loss, ...]
    p_holm: float
    verdict: str


def advise(
    results: Results, allowance: Allowance, axis: Axis, benchmarks: Iterable[str] | None = None, baseline: str = FULL
) -> list[Candidate]:
    """Every candidate of a run that has answers, cheapest first; the first safe one is the advice.

    Raises:
        NotComparableError: no cell shares answers with the unpruned ones.
        UnknownNameError: no unpruned cells to compare with.
    """
    chosen = results.only(benchmarks)
    if baseline not in results.groups:
        raise UnknownNameError("baseline of this run", baseline, results.groups)
    costs: dict[str, list[float | None]] = {}
    for mark in results.marks(chosen):
        costs.setdefault(mark.name.key, []).append(mark.costs[axis.name])
    found = []
    family = sum(label != baseline and set(chosen) <= set(by) for label, by in results.groups.items())
    for label, by_benchmark in results.groups.items():
        if label == baseline or not set(chosen) <= set(by_benchmark):
            continue
        try:
            losses = tuple(_loss(results, label, baseline, name, allowance, family) for name in chosen)
        except NotComparableError:  # under way, or its answers were pruned: nothing can be said of it
            continue
        found.append((label, mean_of(costs.get(label, ()), some=False), losses))
    if not found:
        raise NotComparableError(f"no cell shares answered samples with {baseline} on {', '.join(chosen)}")
    safe, unsafe = stats.both_ways(
        [max(loss.p for loss in losses) for *_, losses in found],
        [stats.any_of([loss.p_against for loss in losses]) for *_, losses in found],
    )
    made = [
        _judged(label, cost, losses, float(p), float(q))
        for (label, cost, losses), p, q in zip(found, safe, unsafe, strict=True)
    ]
    sign = -1.0 if axis.higher_is_cheaper else 1.0
    return sorted(made, key=lambda c: (c.cost is None, sign * (c.cost or 0.0), c.label))


def cheapest(candidates: Sequence[Candidate]) -> Candidate | None:
    """The advice: the cheapest safe candidate whose cost is known."""
    return next((c for c in candidates if c.verdict == "safe" and c.cost is not None), None)


def unproven(candidates: Sequence[Candidate]) -> list[str]:
    """For each cell that is neither safe nor unsafe, what was seen where it is least proven."""
    lines = []
    for item in candidates:
        if item.verdict == "unproven":
            worst_of = max(item.losses, key=lambda loss: loss.p)
            shown, needed = "unsafe" if worst_of.beyond else "safe", worst_of.needed
            more = f"; about {needed:,} pictures like these would show it {shown} there" if needed else ""
            lines.append(f"{item.label} unproven on {worst_of.benchmark}: {worst_of.seen}{more}")
    return lines


def pictures_needed(candidate: Candidate) -> int | None:
    """Pictures of each benchmark that would decide an unproven candidate; None for the others, or out of reach."""
    open_ones = [loss.needed for loss in candidate.losses if loss.verdict == "unproven"]
    known = [needed for needed in open_ones if needed is not None]
    return max(known) if candidate.verdict == "unproven" and known and len(known) == len(open_ones) else None


def nothing_to_lose(results: Results, benchmarks: Iterable[str] | None = None, baseline: str = FULL) -> list[str]:
    """A line for each benchmark on which the unpruned model scores nothing, so that no cell can lose anything."""
    cells = results.groups.get(baseline, {})
    silent = [name for name in results.only(benchmarks) if name in cells and not _figure(results, cells[name]) > 0]
    return [
        f"{name}: {baseline} scores 0.0, so nothing can be lost there; look at its answers first" for name in silent
    ]


def _figure(results: Results, cells: Sequence[CellRow]) -> float:
    try:
        return sides(results, cells, cells).figures[0]
    except NotComparableError:  # nothing answered yet: nothing to say
        return 1.0


def in_the_way(candidates: Sequence[Candidate]) -> list[str]:
    """Benchmarks on which no candidate is shown to be safe."""
    names = dict.fromkeys(loss.benchmark for item in candidates for loss in item.losses)
    safe = {loss.benchmark for item in candidates for loss in item.losses if loss.verdict == "safe"}
    return [name for name in names if name not in safe]


def _loss(results: Results, label: str, baseline: str, name: str, allowance: Allowance, family: int) -> Loss:
    found = sides(results, results.groups[label][name], results.groups[baseline][name])
    share = 1 - allowance.amount / 100 if allowance.relative else 1.0
    offset = 0.0 if allowance.relative else -allowance.amount / 100
    p, p_against = worst([found.gap(1.0, share, offset, way) for way in found.ways()])
    loss = found.gap(-1.0, 1.0, 0.0, (False, False), level=1 - 2 * ALPHA / family)
    at_most = None if loss.high is None else min(1.0, loss.high)
    verdict = "safe" if p < ALPHA else "unproven"
    allowed = (1 - share) * found.figures[1] - offset
    needed = None if verdict == "safe" else to_decide(loss, allowed, ALPHA / family, alike=found.differing[0] == 0)
    seen, missing = found.seen(at_most), sum(found.missing)
    return Loss(name, loss.value, at_most, p, p_against, verdict, missing, seen, needed, loss.value > allowed)


def to_decide(
    loss: stats.OneSided, allowed: float, alpha: float, power: float = 0.8, alike: bool = False
) -> int | None:
    """Pictures at which a loss like the one seen is told from what is allowed, at `alpha` on one side.

    A normal law's estimate from the bound that the pictures at hand give; None beyond ten million.

    Args:
        alike: no picture differs, so that the bound shrinks with the number of pictures, not with its root.
    """
    if loss.high is None or loss.high <= loss.value:
        return None
    if alike:
        return max(loss.n_clusters + 1, ceil(loss.n_clusters * loss.high / allowed)) if allowed > 0 else None
    law = NormalDist()
    error = (loss.high - loss.value) / law.inv_cdf(1 - alpha)  # of n_clusters pictures
    apart = abs(allowed - loss.value)
    pictures = loss.n_clusters * ((law.inv_cdf(1 - alpha) + law.inv_cdf(power)) * error / apart) ** 2 if apart else inf
    return max(loss.n_clusters + 1, ceil(pictures)) if pictures <= 1e7 else None


def _judged(label: str, cost: float | None, losses: Sequence[Loss], p_safe: float, p_unsafe: float) -> Candidate:
    """The verdict on a cell, and on which benchmarks it is unsafe if it is on one."""
    if p_unsafe < ALPHA:
        losses = [replace(loss, verdict="unsafe") if len(losses) * loss.p_against < ALPHA else loss for loss in losses]
        return Candidate(label, cost, tuple(losses), p_safe, "unsafe")
    return Candidate(label, cost, tuple(losses), p_safe, "safe" if p_safe < ALPHA else "unproven")
