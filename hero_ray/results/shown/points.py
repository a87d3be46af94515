"""From rows of the store to what charts and tables show: series, seeds merged, retention averages. Pure."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from hero_ray.results.shown import palette
from hero_ray.stats import frontier
from hero_ray.store import PointRow

FULL = "full"


@dataclass(frozen=True)
class Axis:
    """One cost that accuracy is drawn against.

    Attributes:
        key: name in the URL.
        title: axis title, the unit left out.
        read: the cost of a point in its base unit, None where it was not measured.
        units: (factor, name) from small to large; the largest that leaves the maximum above 1 is used.
        speed: whether it comes from a profile, so that only equal certificates may share the axis.
        higher_is_better: a rate rather than a cost.
    """

    key: str
    title: str
    read: Callable[[PointRow], float | None]
    units: tuple[tuple[float, str], ...] = ((1.0, ""),)
    speed: bool = False
    higher_is_better: bool = False

    def unit(self, values: Iterable[float | None]) -> tuple[float, str]:
        """The unit that suits these values."""
        largest = max((abs(value) for value in values if value is not None), default=0.0)
        fitting = [unit for unit in self.units if largest >= unit[0]]
        return fitting[-1] if fitting else self.units[0]


_FLOPS = ((1e6, "MFLOPs"), (1e9, "GFLOPs"), (1e12, "TFLOPs"))
_BYTES = ((2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"))


def _profiled(name: str) -> Callable[[PointRow], float | None]:
    return lambda point: point.profile.get(name)


AXES = {
    axis.key: axis
    for axis in (
        Axis("tokens", "Visual tokens that enter the LLM", lambda p: p.n_visual_llm),
        Axis("equivalent", "Equivalent tokens (mean alive over layers)", lambda p: p.equivalent_tokens),
        Axis("share", "Retention ratio asked for", lambda p: p.retention_ratio, ((0.01, "%"),)),
        Axis("flops", "Computation per answer", lambda p: p.flops, _FLOPS),
        Axis("kv", "KV cache after prefill", lambda p: p.kv_bytes, _BYTES),
        Axis("ttft", "Time to first token, median", _profiled("ttft_ms_p50"), ((1.0, "ms"),), speed=True),
        Axis(
            "decode",
            "Decode speed",
            _profiled("decode_tokens_per_s"),
            ((1.0, "tokens/s"),),
            speed=True,
            higher_is_better=True,
        ),
        Axis("memory", "Peak memory", _profiled("peak_memory_bytes"), _BYTES, speed=True),
    )
}


@dataclass(frozen=True)
class Mark:
    """One marker of a chart: a configuration with its score (0 to 100) and every cost.

    Attributes:
        series: legend entry: the method, with variant and parameters where they tell series apart.
        budget: what was asked for, as text ("20%", "576tok").
        value, low, high: score x 100 / scale, or share of the unpruned score in percent.
        cells: (run id, cell id) behind it; several for merged seeds and averages over benchmarks.
        costs: axis key -> cost in the axis's base unit.
        certificate: hash of the conditions its speeds were measured under; None without a profile.
        note: what a reader should know of this mark.
    """

    model: str
    method: str
    series: str
    budget: str
    retention_ratio: float
    benchmark: str
    value: float
    low: float | None
    high: float | None
    n: int
    n_clusters: int | None
    cells: tuple[tuple[str, str], ...]
    costs: Mapping[str, float | None]
    certificate: str | None = None
    n_failed: int = 0
    note: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def muted(self) -> bool:
        return palette.look(self.method).muted


def budget_label(point: Any) -> str:
    """What a cell was asked to keep, as text."""
    return f"{point.tokens}tok" if point.tokens else f"{100 * point.retention_ratio:g}%"


def settings_of(point: Any) -> str:
    """Everything that makes a series of its own, the seed left out."""
    params = {key: value for key, value in point.params.items() if key != "seed"}
    return json.dumps([point.model, point.method, point.variant, params], sort_keys=True)


def series_labels(points: Iterable[Any]) -> dict[str, str]:
    """Settings -> legend entry: the method's name, and as much more as tells it from its siblings."""
    by_method: dict[str, dict[str, Any]] = defaultdict(dict)
    for point in points:
        by_method[point.method].setdefault(settings_of(point), point)
    labels = {}
    for method, siblings in by_method.items():
        differing = {
            key
            for key in set().union(*(point.params for point in siblings.values())) - {"seed"}
            if len({json.dumps(point.params.get(key)) for point in siblings.values()}) > 1
        }
        for settings, point in siblings.items():
            words = [] if point.variant == "exact" else [point.variant]
            words += [f"{key}={point.params.get(key)}" for key in sorted(differing & point.params.keys())]
            labels[settings] = f"{method} ({', '.join(words)})" if words else method
    return labels


def marks(points: Sequence[PointRow]) -> list[Mark]:
    """One mark per configuration and benchmark; seeds of one configuration become their mean.

    The interval of merged seeds is the mean of theirs: seeds share their questions, so more of them do not narrow it.
    """
    labels = series_labels(points)
    groups: dict[tuple[Any, ...], list[PointRow]] = defaultdict(list)
    for point in points:
        key = (settings_of(point), budget_label(point), point.benchmark, point.flavour, point.category)
        groups[key].append(point)
    found = [_merged(group, labels[settings_of(group[0])]) for group in groups.values()]
    return sorted(found, key=lambda mark: (mark.model, palette.rank(mark.method), mark.series, -mark.retention_ratio))


def _merged(group: Sequence[PointRow], series: str) -> Mark:
    first = group[0]
    factor = 100.0 / first.scale
    seeds = len({point.seed for point in group})
    newest = {point.seed: point for point in reversed(group)}.values()  # the same cell of an older run gives way
    certificates = {point.profile.get("certificate_hash") for point in newest} - {None}
    notes = [f"mean of {seeds} seeds"] if seeds > 1 else []
    notes += sorted({f"stopped early: {point.stop_reason}" for point in newest if point.stop_reason})
    return Mark(
        model=first.model,
        method=first.method,
        series=series,
        budget=budget_label(first),
        retention_ratio=first.retention_ratio,
        benchmark=first.benchmark,
        value=factor * fmean(point.value for point in newest),
        low=_mean([None if point.ci_low is None else factor * point.ci_low for point in newest]),
        high=_mean([None if point.ci_high is None else factor * point.ci_high for point in newest]),
        n=first.n,
        n_clusters=first.n_clusters,
        cells=tuple((point.run_id, point.cell_id) for point in newest),
        costs={key: _mean([axis.read(point) for point in newest]) for key, axis in AXES.items()},
        certificate=certificates.pop() if len(certificates) == 1 else None,
        n_failed=sum(point.n_failed for point in newest),
        note="; ".join(notes),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def retention_average(found: Sequence[Mark]) -> list[Mark]:
    """Per configuration the mean over benchmarks of its score as a percentage of the unpruned score.

    Only configurations measured on every benchmark that has an unpruned score are averaged. The interval joins the
    cells' own as if they were independent; pairing would narrow it, so it errs on the wide side.
    """
    full = {(m.model, m.benchmark): m for m in found if m.method == FULL and m.value > 0}
    groups: dict[tuple[str, str, str], list[Mark]] = defaultdict(list)
    for mark in found:
        if (mark.model, mark.benchmark) in full:
            groups[mark.model, mark.series, mark.budget].append(mark)
    averages = []
    for (model, _, _), group in groups.items():
        wanted = {benchmark for other, benchmark in full if other == model}
        if {mark.benchmark for mark in group} == wanted:
            averages.append(_average(group, {mark.benchmark: full[model, mark.benchmark] for mark in group}))
    return averages


def _average(group: Sequence[Mark], full: Mapping[str, Mark]) -> Mark:
    shares = {mark.benchmark: 100 * mark.value / full[mark.benchmark].value for mark in group}
    value, half = fmean(shares.values()), None
    own = group[0].method == FULL
    halves = [_relative_half(mark, full[mark.benchmark]) for mark in group]
    if not own and all(each is not None for each in halves):
        half = math.sqrt(sum((each or 0.0) ** 2 for each in halves)) / len(halves)
    certificates = {mark.certificate for mark in group} - {None}
    return replace(
        group[0],
        benchmark="",
        value=value,
        low=None if half is None else value - half,
        high=None if half is None else value + half,
        n=sum(mark.n for mark in group),
        n_clusters=None,
        cells=tuple(cell for mark in group for cell in mark.cells),
        costs={key: _mean([mark.costs.get(key) for mark in group]) for key in group[0].costs},
        certificate=certificates.pop() if len(certificates) == 1 else None,
        n_failed=sum(mark.n_failed for mark in group),
        parts=shares,
    )


def _relative_half(mark: Mark, full: Mark) -> float | None:
    """Half the interval of 100 x mark / full, by the delta method."""
    if None in (mark.low, mark.high, full.low, full.high) or mark.value <= 0:
        return None
    own = (mark.high - mark.low) / 2 / mark.value  # type: ignore[operator]
    base = (full.high - full.low) / 2 / full.value  # type: ignore[operator]
    return 100 * mark.value / full.value * math.hypot(own, base)


def by_certificate(found: Sequence[Mark], axis: Axis) -> list[tuple[str | None, list[Mark]]]:
    """Marks that may share this axis, the largest group first; marks without the cost are left out."""
    measured = [mark for mark in found if mark.costs.get(axis.key) is not None]
    if not axis.speed:
        return [(None, measured)] if measured else []
    groups: dict[str, list[Mark]] = defaultdict(list)
    for mark in measured:
        groups[mark.certificate or "mixed"].append(mark)
    return sorted(groups.items(), key=lambda item: -len(item[1]))


CONDITIONS_APART = frozenset({"n", "model", "revision", "hero_ray", "commit", "clock_mhz", "hash"})
"""Entries of a certificate that may differ between comparable speeds: the subject, not the conditions."""


def differing_conditions(certificates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Conditions in which certificates differ, with their values, as text."""
    names = sorted(set().union(*certificates) - CONDITIONS_APART) if certificates else []
    found = []
    for name in names:
        values = sorted({str(certificate.get(name, "unknown")) for certificate in certificates})
        if len(values) > 1:
            found.append(f"{name.replace('_', ' ')} ({', '.join(values)})")
    return found


def place(found: Sequence[Mark], axis: Axis) -> list[frontier.Placed]:
    """Marks on and off the Pareto line of one axis, cheapest first; `point.id` is the index into `found`."""
    candidates = [
        frontier.Point(str(index), mark.series, mark.costs[axis.key] or 0.0, mark.value, mark.low, mark.high)
        for index, mark in enumerate(found)
    ]
    by = "decode" if axis.higher_is_better else "tokens"
    return frontier.frontier(candidates, by=by, draws=2000 if len(candidates) <= 200 else 300)


def best(placed: Sequence[frontier.Placed]) -> list[int]:
    """Indices of the marks on the Pareto line, cheapest first."""
    return [int(entry.point.id) for entry in placed if entry.state == "frontier"]
