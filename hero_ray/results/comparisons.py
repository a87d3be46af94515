"""Is A better than B? Paired comparisons, corrected over everything compared together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hero_ray import stats
from hero_ray.results import early
from hero_ray.results.contenders import Contender, Results, aligned, is_short
from hero_ray.results.pairs import composite_pair, present, shared
from hero_ray.results.sides import Sides, sides
from hero_ray.store import CellRow, Store, answers
from hero_ray.store.answers import CellRef

ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """A against B on one benchmark; p values also corrected over everything compared with it.

    Attributes:
        label: of A.
        answered: questions that A and B answered; what is compared is what both did (`paired.n`).
        equal: whether both said the same, letter by letter, to every question that both answered.
        detectable: smallest true difference this many samples would show with 80 % chance.
        missing: answers that were asked for and are not there, of A and of B.
        stands: whether the verdict is the same with the missing counted wrong, on either side and on both.
        level: of the paired interval: it leaves out 0 where Holm's verdict says so.
    """

    label: str
    benchmark: str
    paired: stats.Paired
    scale: float
    p_holm: float
    p_bh: float
    detectable: float
    missing: tuple[int, int] = (0, 0)
    stands: bool = True
    level: float = 0.95
    answered: tuple[int, int] = (0, 0)
    equal: bool = False

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `undecided` for A, at 5 % over the whole family; with the reason where missing answers
        leave it so; `equal answers` where nothing differs at all."""
        if self.equal:
            return "equal answers"
        if self.p_holm >= ALPHA:
            return "undecided"
        if not self.stands:
            return f"undecided: {sum(self.missing)} failed sample{'' if sum(self.missing) == 1 else 's'}"
        return "better" if self.paired.difference > 0 else "worse"

    @property
    def unit(self) -> float:
        """What the paired figures are out of: a composite is tested in its own unit (MME points), a mean in scores."""
        return self.scale if self.paired.test == "cluster-swap" else 1.0

    @property
    def points(self) -> float:
        """What A leads by, in points of 100."""
        return 100 * self.paired.difference / self.unit


def compare(
    first: tuple[Results, Contender], second: tuple[Results, Contender], benchmarks: Iterable[str] | None = None
) -> list[Comparison]:
    """Paired comparison of two contenders, of one run or of two, on the benchmarks named or on those that both have."""
    (results, a), (others, b) = first, second
    chosen = results.only(benchmarks)
    if benchmarks is None:
        # Where no benchmark has both, `find` says on the first which of them is missing.
        chosen = tuple(name for name in chosen if results.has(a, name) and others.has(b, name)) or chosen[:1]
    return _corrected(results, others, [(name, results.find(a, name), others.find(b, name)) for name in chosen])


def compare_labels(
    results: Results, labels: Sequence[str], rival: str, benchmarks: Iterable[str] | None = None
) -> list[Comparison]:
    """Paired comparisons of labels with one rival, on the benchmarks that both answered: one family."""
    chosen, others = results.only(benchmarks), results.groups[rival]
    named = [(results.groups[label], name) for label in labels if label != rival for name in chosen]
    both = [(name, mine[name], others[name]) for mine, name in named if name in mine and name in others]
    pairs = [pair for pair in both if shared(results, *pair[1:]) is not None]
    return results.once(("compared", *labels, rival, chosen), lambda: _corrected(results, results, pairs))


def _corrected(
    results: Results, others: Results, pairs: Sequence[tuple[str, Sequence[CellRow], Sequence[CellRow]]]
) -> list[Comparison]:
    found = [(name, _paired(results, a, others, b), a, b) for name, a, b in pairs]
    p_values = [result.p_value for _, result, *_ in found]
    holm, bh, levels = stats.holm(p_values), stats.benjamini_hochberg(p_values), stats.holm_levels(p_values)
    made = []
    for (name, result, a, b), p_holm, p_bh, level in zip(found, holm, bh, levels, strict=True):
        metric = results.metrics.get(a[0].id)
        short = sides(results, a, b, others=others) if is_short(a) or is_short(b) else None
        if result.test in PLAIN and level > 0.95:
            left, right, images = aligned(results.scores(a), others.scores(b))
            low, high = stats.bounds(left - right, images, level)
            result = replace(result, low=low, high=high)
        made.append(
            Comparison(
                label=results.labels[a[0].id],
                benchmark=name,
                paired=result,
                scale=metric.scale if metric else 1.0,
                p_holm=float(p_holm),
                p_bh=float(p_bh),
                detectable=stats.detectable(result.se),
                missing=short.missing if short else (0, 0),
                stands=short is None or _stands(short, result.difference, len(found)),
                level=float(level) if result.test in PLAIN else 0.95,
                answered=(results.scores(a).ids.size, others.scores(b).ids.size),
                equal=result.wins == result.losses == 0 and _alike(results.store, a, b),
            )
        )
    return made


PLAIN = ("mcnemar-midp", "cluster-permutation")
"""Tests whose interval is of a mean; the others keep their 95 %."""


def _stands(found: Sides, difference: float, family: int) -> bool:
    """Whether a difference that is shown is so, too, with the missing counted wrong on either side and on both."""
    sign = 1.0 if difference > 0 else -1.0
    tests = [found.gap(sign, 1.0, 0.0, wrong) for wrong in found.ways()[1:]]
    return all(test.value > 0 and 2 * family * test.p_claim < ALPHA for test in tests)


def _alike(store: Store, a: Sequence[CellRow], b: Sequence[CellRow]) -> bool:
    """Whether the cells of A and of B, seed by seed, said the same to every question that both answered."""
    refs = [[CellRef(cell.run_id, cell.id) for cell in sorted(side, key=lambda one: one.seed)] for side in (a, b)]
    return len(a) == len(b) and not any(store.read(answers.unlike, *pair) for pair in zip(*refs, strict=True))


def _paired(results: Results, a: Sequence[CellRow], others: Results, b: Sequence[CellRow]) -> stats.Paired:
    composite = composite_pair(results, a, others, b)
    if composite is not None:
        figure, first, second, pictures = composite
        one, two = present(first), present(second)
        sums = figure.of_sums(one, two)
        return stats.paired_composite(figure, one, two, pictures, resamples=999 if sums else 299, of_sums=sums)
    left, right, images = aligned(results.scores(a), others.scores(b))
    found = stats.paired(left, right, images)
    if not any(cell.stop_reason for cell in (*a, *b)):
        return found
    so_far = early.one_sided(results, [*a, *b], left - right, images)
    p_value = min(1.0, 2 * min(so_far.p_claim, so_far.p_against))
    return replace(found, low=so_far.low, high=so_far.high, p_value=p_value, test="betting")
