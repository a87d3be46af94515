"""Pairs of contenders on the samples that both answered: comparisons, and the parts that averages are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hero_ray import stats
from hero_ray.core.errors import NotComparableError
from hero_ray.core.types import Scored
from hero_ray.results import early
from hero_ray.results.contenders import Contender, Results, aligned
from hero_ray.store import CellRow


@dataclass(frozen=True)
class Comparison:
    """A against B on one benchmark; p values also corrected over everything compared with it.

    Attributes:
        label: of A.
        value_a, value_b: the benchmark's main metric as reported for each.
        detectable: smallest true difference this many samples would show with 80 % chance.
    """

    label: str
    benchmark: str
    paired: stats.Paired
    value_a: float | None
    value_b: float | None
    scale: float
    p_holm: float
    p_bh: float
    detectable: float

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `undecided` for A, at 5 % over the whole family."""
        if self.p_holm >= 0.05:
            return "undecided"
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
    pairs = [pair for pair in both if _shared(results, *pair[1:]) is not None]
    return results.once(("compared", *labels, rival, chosen), lambda: _corrected(results, results, pairs))


def _corrected(
    results: Results, others: Results, pairs: Sequence[tuple[str, Sequence[CellRow], Sequence[CellRow]]]
) -> list[Comparison]:
    found = [(name, _paired(results, a, others, b), a, b) for name, a, b in pairs]
    p_values = [result.p_value for _, result, *_ in found]
    holm, bh = stats.holm(p_values), stats.benjamini_hochberg(p_values)
    made = []
    for (name, result, a, b), p_holm, p_bh in zip(found, holm, bh, strict=True):
        metric = results.metrics.get(a[0].id)
        made.append(
            Comparison(
                label=results.labels[a[0].id],
                benchmark=name,
                paired=result,
                value_a=_value(results, a),
                value_b=_value(others, b),
                scale=metric.scale if metric else 1.0,
                p_holm=float(p_holm),
                p_bh=float(p_bh),
                detectable=stats.detectable(result.se),
            )
        )
    return made


def _shared(
    results: Results, a: Sequence[CellRow], b: Sequence[CellRow]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """`aligned` scores of both, or None where no sample was answered by both: a run under way, or answers pruned."""
    try:
        return aligned(results.scores(a), results.scores(b))
    except NotComparableError:
        return None


def _value(results: Results, cells: Sequence[CellRow]) -> float | None:
    values = [results.metrics[cell.id].value for cell in cells if cell.id in results.metrics]
    return float(np.mean(values)) if values else None


def _paired(results: Results, a: Sequence[CellRow], others: Results, b: Sequence[CellRow]) -> stats.Paired:
    composite = composite_pair(results, a, others, b)
    if composite is not None:
        figure, first, second, pictures = composite
        return stats.paired_composite(figure, first, second, pictures, resamples=299)
    left, right, images = aligned(results.scores(a), others.scores(b))
    found = stats.paired(left, right, images)
    if not any(cell.stop_reason for cell in (*a, *b)):
        return found
    so_far = early.one_sided(results, [*a, *b], left - right, images)
    p_value = min(1.0, 2 * min(so_far.p_claim, so_far.p_against))
    return replace(found, low=so_far.low, high=so_far.high, p_value=p_value, test="betting")


Figure = Callable[[Sequence[Scored]], float]


def composite_pair(
    results: Results, a: Sequence[CellRow], others: Results, b: Sequence[CellRow]
) -> tuple[Figure, list[Scored], list[Scored], list[str]] | None:
    """The benchmark's own aggregate with the shared answers of both sides, where the main metric is no mean of scores.

    None for plain means, and for several seeds, whose answers cannot be averaged.
    """
    metric = results.metrics.get(a[0].id)
    if metric is None or metric.interval != "cluster-bootstrap" or len(a) != 1 or len(b) != 1:
        return None
    from hero_ray.benchmarks import get

    benchmark = get(a[0].benchmark, flavour=a[0].flavour)

    def figure(scored: Sequence[Scored]) -> float:
        whole = (m.value for m in benchmark.aggregate(scored) if m.name == metric.metric and not m.category)
        return next(whole, np.nan)

    rows_a = {row.sample_id: row for row in results.store.cell_scores(results.run.id, a[0].id)}
    rows_b = {row.sample_id: row for row in others.store.cell_scores(others.run.id, b[0].id)}
    ids = [key for key in rows_a if key in rows_b]
    first, second = (
        [Scored(rows[key].sample(a[0].benchmark), rows[key].text, rows[key].scores) for key in ids]
        for rows in (rows_a, rows_b)
    )
    return figure, first, second, [rows_a[key].image_key for key in ids]


def parts(results: Results, label: str, rival: str, benchmarks: Sequence[str]) -> dict[str, stats.Part]:
    """Scores of one label beside a rival's on every benchmark that both have."""
    found = {}
    for name in benchmarks:
        mine, other = results.groups[label].get(name), results.groups.get(rival, {}).get(name)
        shared = _shared(results, mine, other) if mine and other else None
        if shared is not None:
            found[name] = stats.Part(*shared)
    return found


AnyPart = stats.Part | stats.CompositePart


def ratio_part(results: Results, cells: Sequence[CellRow], full: Sequence[CellRow]) -> AnyPart | None:
    """A contender beside the unpruned model on one benchmark, by its own aggregate where that is no mean of scores.

    None where the unpruned model scores nothing (a share of nothing is undefined) or nothing was answered by both.
    """
    composite = composite_pair(results, cells, results, full)
    if composite is not None:
        figure, mine, base, pictures = composite
        return stats.CompositePart(figure, mine, base, pictures) if figure(base) > 0 else None
    shared = _shared(results, cells, full)
    return stats.Part(*shared) if shared is not None and shared[1].sum() > 0 else None
