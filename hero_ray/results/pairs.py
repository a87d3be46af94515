"""Paired comparisons, straw men and retention averages over the cells of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hero_ray import stats
from hero_ray.core.errors import UnknownNameError
from hero_ray.core.types import Scored
from hero_ray.results.contenders import FULL, Contender, Results, aligned, budget_label
from hero_ray.store import CellRow

DOWNSAMPLE = "downsample"
STRAW_MEN = ("random", "spatial", "spatial-pool", DOWNSAMPLE)


@dataclass(frozen=True)
class Comparison:
    """A against B on one benchmark; p values also corrected over the benchmarks compared.

    Attributes:
        value_a, value_b: the benchmark's main metric as reported for each.
        detectable: smallest true difference this many samples would show with 80 % chance.
    """

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


def compare(
    first: tuple[Results, Contender], second: tuple[Results, Contender], benchmarks: Iterable[str] | None = None
) -> list[Comparison]:
    """Paired comparison of two contenders, of one run or of two, benchmark by benchmark."""
    (results, a), (others, b) = first, second
    chosen = [name for name in results.only(benchmarks) if benchmarks or name in others.benchmarks]
    return _corrected(results, others, [(name, results.find(a, name), others.find(b, name)) for name in chosen])


def compare_labels(results: Results, a: str, b: str, benchmarks: Iterable[str] | None = None) -> list[Comparison]:
    """Paired comparison of two labels of one run, on the benchmarks that both have."""
    mine, theirs = results.groups[a], results.groups[b]
    chosen = [name for name in results.only(benchmarks) if name in mine and name in theirs]
    return _corrected(results, results, [(name, mine[name], theirs[name]) for name in chosen])


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


def _value(results: Results, cells: Sequence[CellRow]) -> float | None:
    values = [results.metrics[cell.id].value for cell in cells if cell.id in results.metrics]
    return float(np.mean(values)) if values else None


def _paired(results: Results, a: Sequence[CellRow], others: Results, b: Sequence[CellRow]) -> stats.Paired:
    composite = composite_pair(results, a, others, b)
    if composite is not None:
        figure, first, second, pictures = composite
        return stats.paired_composite(figure, first, second, pictures, resamples=299)
    left, right, images = aligned(results.scores(a), others.scores(b))
    return stats.paired(left, right, images)


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
        if mine and other:
            first, second, images = aligned(results.scores(mine), results.scores(other))
            found[name] = stats.Part(first, second, images)
    return found


def difficulty(results: Results, benchmarks: Iterable[str] | None = None) -> dict[str, stats.Split]:
    """Every label's score apart on samples that `downsample` solves at the same budget and on those it does not.

    Samples of all benchmarks are pooled; labels without a downsampled counterpart are left out.
    """
    chosen = results.only(benchmarks)
    cheap: dict[str, str] = {}
    for label, by_benchmark in results.groups.items():
        cell = next(iter(by_benchmark.values()))[0]
        if cell.method == DOWNSAMPLE:
            cheap[budget_label(cell)] = label
    found = {}
    for label, by_benchmark in results.groups.items():
        cell = next(iter(by_benchmark.values()))[0]
        rival = cheap.get(budget_label(cell))
        if rival is None or label == rival:
            continue
        shared = list(parts(results, label, rival, chosen).values())
        if shared:
            scores, easy = (np.concatenate([getattr(part, side) for part in shared]) for side in ("scores", "full"))
            images = np.concatenate([np.asarray(part.clusters, dtype=object) for part in shared])
            found[label] = stats.difficulty_split(scores, easy, images)
    return found


AnyPart = stats.Part | stats.CompositePart


def ratio_part(results: Results, cells: Sequence[CellRow], full: Sequence[CellRow]) -> AnyPart | None:
    """A contender beside the unpruned model on one benchmark, by its own aggregate where that is no mean of scores.

    None where the unpruned model scores nothing: a share of nothing is undefined.
    """
    composite = composite_pair(results, cells, results, full)
    if composite is not None:
        figure, mine, base, pictures = composite
        return stats.CompositePart(figure, mine, base, pictures) if figure(base) > 0 else None
    scores, reference, images = aligned(results.scores(cells), results.scores(full))
    return stats.Part(scores, reference, images) if reference.sum() > 0 else None


@dataclass(frozen=True)
class StrawMan:
    """A method against the baselines anyone could write, at the same budget, over all benchmarks.

    Attributes:
        rival: the straw man that is hardest to beat.
        result: mean difference in score to it (A minus straw man).
        flagged: not shown to be better than every straw man.
    """

    label: str
    rival: str
    result: stats.OneSided
    flagged: bool


def straw_men(results: Results, benchmarks: Iterable[str] | None = None) -> list[StrawMan]:
    """Every method against the best straw man. Beating the best means beating each, so no correction is due."""
    chosen = results.only(benchmarks)
    budgets: dict[str, set[str]] = {}
    for label, by_benchmark in results.groups.items():
        cell = next(iter(by_benchmark.values()))[0]
        if cell.method in STRAW_MEN:
            budgets.setdefault(budget_label(cell), set()).add(label)
    found = []
    for label, by_benchmark in results.groups.items():
        cell = next(iter(by_benchmark.values()))[0]
        rivals = budgets.get(budget_label(cell), set())
        if cell.method in (*STRAW_MEN, FULL) or not rivals:
            continue
        tests = {}
        for rival in sorted(rivals):
            shared = parts(results, label, rival, chosen)
            if shared:
                tests[rival] = stats.pooled_difference(shared)
        if tests:
            hardest = max(tests, key=lambda name: (tests[name].p_claim, -tests[name].value))
            found.append(StrawMan(label, hardest, tests[hardest], tests[hardest].p_claim >= 0.05))
    return found


@dataclass(frozen=True)
class Retained:
    """A label's average share of the unpruned score, and its mean costs over the same benchmarks."""

    label: str
    interval: stats.Interval
    parts: Mapping[str, AnyPart]
    cells: tuple[CellRow, ...]


def retained(results: Results, benchmarks: Iterable[str] | None = None, baseline: str = FULL) -> list[Retained]:
    """Retention average of every label that has all of the benchmarks.

    Raises:
        UnknownNameError: the run has no baseline cells.
    """
    chosen = results.only(benchmarks)
    if baseline not in results.groups:
        raise UnknownNameError("baseline of this run", baseline, results.groups)
    base = results.groups[baseline]
    full = {name: ratio_part(results, base[name], base[name]) for name in chosen if name in base}
    usable = [name for name, part in full.items() if part is not None]
    found = []
    for label, by_benchmark in results.groups.items():
        made = {name: ratio_part(results, by_benchmark[name], base[name]) for name in usable if name in by_benchmark}
        parts = {name: part for name, part in made.items() if part is not None}
        if usable and set(parts) == set(usable):
            cells = tuple(cell for name in usable for cell in by_benchmark[name])
            found.append(Retained(label, stats.retention_average(parts), parts, cells))
    return found
