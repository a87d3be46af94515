"""Which budget is safe? The cheapest cell whose loss is shown to stay within what was allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hero_ray import stats
from hero_ray.core.errors import InputError, NotComparableError, UnknownNameError
from hero_ray.results.axes import Axis
from hero_ray.results.contenders import Results
from hero_ray.results.marks import mean_of
from hero_ray.results.names import FULL
from hero_ray.results.needs import POWER, Forecast, about, many
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
    all ways to count answers that are `missing` on either side. `seen` says in words what was seen. `more`: pictures
    that would decide it beside all cells if all goes on as seen; None where it is decided.
    """

    benchmark: str
    value: float
    at_most: float | None
    p: float
    p_against: float
    verdict: str
    missing: int = 0
    seen: str = ""
    more: Forecast | None = None


@dataclass(frozen=True)
class Candidate:
    """One method at one budget with its cost (`saved`: percent of the unpruned model's) and what it loses where.

    `safe` only if safe on every benchmark, `unsafe` if unsafe on one, with Holm's correction over both claims of all
    candidates: the cheapest of many safe-looking cells would otherwise be the luckiest one.
    """

    label: str
    cost: float | None
    losses: tuple[Loss, ...]
    p_holm: float
    verdict: str
    saved: float | None = None
    straw_man: bool = False

    @property
    def worst(self) -> Loss:
        """Where most is lost: what tables show."""
        return max(self.losses, key=lambda loss: loss.value)

    @property
    def least_proven(self) -> Loss:
        """Where the claim of being safe has the least behind it; of those that have nothing, where most is lost."""
        return max(self.losses, key=lambda loss: (loss.p, loss.value))


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
            losses = tuple(_loss(results, label, baseline, name, allowance, family, len(chosen)) for name in chosen)
        except NotComparableError:  # under way, or its answers were pruned: nothing can be said of it
            continue
        found.append((label, mean_of(costs.get(label, ()), some=False), losses))
    if not found:
        raise NotComparableError(f"no cell shares answered samples with {baseline} on {', '.join(chosen)}")
    whole = mean_of(costs.get(baseline, ()), some=False)
    safe, unsafe = stats.both_ways(
        [max(loss.p for loss in losses) for *_, losses in found],
        [stats.any_of([loss.p_against for loss in losses]) for *_, losses in found],
    )
    made = [
        replace(
            _judged(label, cost, losses, float(p), float(q)),
            saved=axis.saved(cost, whole),
            straw_man=results.first(label).straw_man,
        )
        for (label, cost, losses), p, q in zip(found, safe, unsafe, strict=True)
    ]
    sign = -1.0 if axis.higher_is_cheaper else 1.0
    return sorted(made, key=lambda c: (c.cost is None, sign * (c.cost or 0.0), c.straw_man, c.label))


def cheapest(candidates: Sequence[Candidate]) -> Candidate | None:
    """The advice: the cheapest safe candidate whose cost is known."""
    return next((c for c in candidates if c.verdict == "safe" and c.cost is not None), None)


def standing(candidates: Sequence[Candidate]) -> str:
    """A caution where the advice is a straw man: cheap and safe, but no method that anybody had to invent; else ""."""
    best = cheapest(candidates)
    if best is None or not best.straw_man:
        return ""
    proper = cheapest([one for one in candidates if not one.straw_man])
    other = f"the cheapest safe cell that is none is {proper.label}" if proper else "no cell that is none is shown safe"
    return f"{best.label} is a straw man, which anybody could write; {other}"


def unproven(candidates: Sequence[Candidate]) -> list[str]:
    """For each cell that is neither safe nor unsafe, what was seen where it is least proven."""
    lines = []
    for item in candidates:
        if item.verdict == "unproven":
            where = item.least_proven
            lines.append(f"{item.label} unproven on {where.benchmark}: {where.seen}{_outlook(where)}")
    return lines


def _outlook(loss: Loss) -> str:
    """What more pictures would show of one loss, and how many of them the claim alone needs, as `check` asks it."""
    if loss.more is None or loss.more.together is None:
        return ""
    shown, open_alone = "unsafe" if loss.more.beyond else "safe", loss.p >= ALPHA and loss.p_against >= ALPHA
    alone = f" ({many(loss.more.alone)} for this claim alone)" if open_alone and loss.more.alone else ""
    return f"; {about(loss.more.together)} pictures like these would show it {shown} there{alone}"


def outlook(candidates: Sequence[Candidate]) -> list[str]:
    """What the forecasts of `unproven` take for granted; nothing where there are none."""
    if not any(_outlook(loss) for item in candidates if item.verdict == "unproven" for loss in item.losses):
        return []
    cells = "1 cell" if len(candidates) == 1 else f"{len(candidates)} cells"
    return [
        f"Pictures are forecast with {POWER:.0%} power for all {cells} at once, if losses and the "
        "share of answers that change stay as seen; `check` asks for one claim alone, `plan --margin` for a loss of a "
        "fifth of the margin."
    ]


def pictures_needed(candidate: Candidate) -> int | None:
    """Pictures of each benchmark that would decide an unproven candidate; None for the others, or out of reach.

    One benchmark whose loss is beyond the allowance is enough to show a cell unsafe; to be safe it takes all.
    """
    open_ones = [loss.more for loss in candidate.losses if loss.more is not None]
    if candidate.verdict != "unproven" or not open_ones:
        return None
    if beyond := [more.together for more in open_ones if more.beyond]:
        return min((needed for needed in beyond if needed is not None), default=None)
    known = [more.together for more in open_ones if more.together is not None]
    return max(known) if len(known) == len(open_ones) else None


def nothing_to_lose(
    results: Results, allowance: Allowance, benchmarks: Iterable[str] | None = None, baseline: str = FULL
) -> list[str]:
    """A line for each benchmark on which the unpruned model scores no more than may be lost: all is safe."""
    cells, lines = results.groups.get(baseline, {}), []
    for name in results.only(benchmarks):
        score = 100 * _figure(results, cells[name]) if name in cells else 100.0
        if not score > 0:
            lines.append(f"{name}: {baseline} scores 0.0, so nothing can be lost there; look at its answers first")
        elif not allowance.relative and score <= allowance.amount:
            lines.append(
                f"{name}: {baseline} itself scores {score:.1f}, so no cell can lose more than the {allowance} allowed; "
                f"being safe there says nothing. Ask for a share of the score ({allowance.amount:g}%) or leave it out"
            )
    return lines


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


def _loss(
    results: Results, label: str, baseline: str, name: str, allowance: Allowance, family: int, benchmarks: int
) -> Loss:
    found = sides(results, results.groups[label][name], results.groups[baseline][name])
    share = 1 - allowance.amount / 100 if allowance.relative else 1.0
    offset = 0.0 if allowance.relative else -allowance.amount / 100
    p, p_against = worst([found.gap(1.0, share, offset, way) for way in found.ways()])
    loss = found.gap(-1.0, 1.0, 0.0, (False, False), level=1 - 2 * ALPHA / family)
    at_most = None if loss.high is None else min(1.0, loss.high)
    verdict = "safe" if p < ALPHA else "unproven"
    allowed = (1 - share) * found.figures[1] - offset
    claims = family * (benchmarks if loss.value > allowed else 1)  # safe is safe on each, unsafe is unsafe on one
    more = None if min(p, benchmarks * p_against) < ALPHA / family else found.needed(allowed, claims)
    return Loss(name, loss.value, at_most, p, p_against, verdict, sum(found.missing), found.seen(at_most), more)


def _judged(label: str, cost: float | None, losses: Sequence[Loss], p_safe: float, p_unsafe: float) -> Candidate:
    """The verdict on a cell, and on which benchmarks it is unsafe if it is on one."""
    if p_unsafe < ALPHA:
        losses = [replace(loss, verdict="unsafe") if len(losses) * loss.p_against < ALPHA else loss for loss in losses]
        return Candidate(label, cost, tuple(losses), p_safe, "unsafe")
    return Candidate(label, cost, tuple(losses), p_safe, "safe" if p_safe < ALPHA else "unproven")
