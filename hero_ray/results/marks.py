"""From stored rows to figures: one mark per contender and benchmark, its seeds merged. The only place that merges.

A merged score is the mean over the seeds, and its interval the mean of theirs: seeds answer the same questions, so more
of them do not narrow it. A bound that one seed lacks is unknown for all. A cost is the mean over the seeds that know it
(a profile times one of them for all). A number that is not finite counts as unknown throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from hero_ray.results.axes import AXES, Axis
from hero_ray.results.names import FULL, Name, name_all
from hero_ray.stats import Interval
from hero_ray.store import PointRow

EARLY = "‡"
"""Beside a score that was decided early."""


@dataclass(frozen=True)
class Mark:
    """A contender on one benchmark (or category, or on average) with every cost.

    Attributes:
        params: the seed left out.
        benchmark: "" for an average over benchmarks.
        value, low, high: points of 100; for an average percent of the unpruned score.
        cells: (run id, cell id) behind it.
        costs: axis name -> cost in the axis's base unit.
        certificate: hash of the conditions its speeds were taken under; "mixed" where seeds disagree, None without.
        stopped: why a cell of it was decided early, or "".
        flags: what a reader must know of the figure and its interval; "" for an average.
        parts: of an average, benchmark -> percent of the unpruned score.
    """

    name: Name
    model: str
    method: str
    params: Mapping[str, Any]
    straw_man: bool
    retention_ratio: float
    benchmark: str
    category: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    n_clusters: int | None
    n_failed: int
    cells: tuple[tuple[str, str], ...]
    costs: Mapping[str, float | None]
    certificate: str | None = None
    stopped: str = ""
    flags: tuple[str, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What a reader should know of it."""
        notes = [f"mean of {len(self.cells)} seeds"] if len(self.cells) > 1 and self.benchmark else []
        return "; ".join([*notes, *([f"decided early: {self.stopped}"] if self.stopped else []), *self.flags])

    @property
    def half(self) -> float | None:
        """Half the width of its interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def marks(rows: Sequence[PointRow], names: Mapping[str, Name] | None = None) -> list[Mark]:
    """One mark per contender, benchmark, category and metric, in the order of the rows.

    Args:
        rows: figures of cells; of a cell and seed one row per figure.
        names: cell id -> name, where more cells than these share the names; made from the rows if not given.
    """
    named = name_all(rows) if names is None else [names[row.cell_id] for row in rows]
    groups: dict[tuple[str, Name, str, str, str], list[PointRow]] = {}
    for row, name in zip(rows, named, strict=True):
        groups.setdefault((row.model, name, row.benchmark, row.category, row.metric), []).append(row)
    return [_merged(group, key[1]) for key, group in groups.items()]


def _merged(group: Sequence[PointRow], name: Name) -> Mark:
    first = group[0]

    def points(values: Iterable[float | None]) -> float | None:
        mean = mean_of(values, some=False)
        return None if mean is None else 100 * mean / first.scale

    return Mark(
        name=name,
        model=first.model,
        method=first.method,
        params={key: value for key, value in first.params.items() if key != "seed"},
        straw_man=first.straw_man,
        retention_ratio=first.retention_ratio,
        benchmark=first.benchmark,
        category=first.category,
        metric=first.metric,
        value=100 * fmean(row.value for row in group) / first.scale,
        low=points(row.ci_low for row in group),
        high=points(row.ci_high for row in group),
        n=first.n,
        n_clusters=first.n_clusters,
        n_failed=sum(row.n_failed for row in group),
        cells=tuple((row.run_id, row.cell_id) for row in group),
        costs={key: mean_of((axis.cost(row) for row in group), some=True) for key, axis in AXES.items()},
        certificate=_one_certificate(row.profile.get("certificate_hash") for row in group),
        stopped="; ".join(sorted({row.stop_reason for row in group if row.stop_reason})),
        flags=tuple(dict.fromkeys(flag for row in group for flag in row.flags.split("; ") if flag)),
    )


def mean_of(values: Iterable[float | None], some: bool) -> float | None:
    """Mean of what is known; unless `some` are enough, None as soon as one is not."""
    values = list(values)
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known and (some or len(known) == len(values)) else None


Unpruned = Mapping[tuple[str, str], Mark]
"""(model, benchmark) -> mark of the unpruned model over the whole benchmark."""


def unpruned(found: Iterable[Mark]) -> Unpruned:
    """The unpruned models among some marks."""
    return {(mark.model, mark.benchmark): mark for mark in found if mark.method == FULL and not mark.category}


def saved(own: Iterable[Mark], full: Unpruned, axis: Axis) -> float | None:
    """Percent of the unpruned model's cost that a contender saves, over the benchmarks on which both are known.

    Timings under another certificate are not held against it.
    """
    pairs = [
        (mark.costs[axis.name], base.costs[axis.name])
        for mark in own
        if (base := full.get((mark.model, mark.benchmark))) is not None
        and (not axis.measured or mark.certificate == base.certificate != "mixed")
    ]
    known = [(cost, whole) for cost, whole in pairs if cost is not None and whole is not None]
    return axis.saved(fmean(cost for cost, _ in known), fmean(whole for _, whole in known)) if known else None


def _one_certificate(found: Iterable[str | None]) -> str | None:
    certificates = set(found) - {None}
    return "mixed" if len(certificates) > 1 else next(iter(certificates), None)


def average(group: Sequence[Mark], interval: Interval, shares: Mapping[str, float]) -> Mark:
    """The mark of a contender's average over benchmarks.

    Args:
        group: its marks on these benchmarks. A cost that one of them lacks is unknown for the average: means over
            unequal sets do not compare.
        interval, shares: the average and its parts, as shares of the unpruned score.
    """
    low, high = (None if bound is None else 100 * bound for bound in (interval.low, interval.high))
    return replace(
        group[0],
        benchmark="",
        category="",
        metric="retention",
        value=100 * interval.value,
        low=low,
        high=high,
        n=sum(mark.n for mark in group),
        n_clusters=None,
        n_failed=sum(mark.n_failed for mark in group),
        cells=tuple(cell for mark in group for cell in mark.cells),
        costs={key: mean_of((mark.costs[key] for mark in group), some=False) for key in AXES},
        certificate=_one_certificate(mark.certificate for mark in group),
        stopped="; ".join(sorted({mark.stopped for mark in group if mark.stopped})),
        flags=(),
        parts={benchmark: 100 * share for benchmark, share in shares.items()},
    )


def by_certificate(found: Iterable[Mark], axis: Axis) -> dict[str | None, list[Mark]]:
    """Marks that may share an axis, the largest group first; marks without the cost are left out."""
    groups: dict[str | None, list[Mark]] = {}
    for mark in found:
        if mark.costs[axis.name] is not None:
            groups.setdefault(mark.certificate if axis.measured else None, []).append(mark)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))
