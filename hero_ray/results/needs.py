"""Plan before you pay: how many pictures does a verdict at a margin need on this benchmark?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

import numpy as np

from hero_ray import stats
from hero_ray.core.errors import InputError, NotComparableError
from hero_ray.results.contenders import Results, aligned
from hero_ray.results.names import FULL
from hero_ray.stats.intervals import cluster_codes
from hero_ray.store import Store


@dataclass(frozen=True)
class Changes:
    """What pruning changed on a benchmark in an earlier run, the middle over its cells that lose less than a margin.

    Attributes:
        share: of questions whose score differs from the unpruned model's.
        alike: how alike the changes of one picture are, 0 (independent) to 1 (all or none).
    """

    run_id: str
    share: float
    alike: float


def earlier_changes(store: Store, model: str, benchmark: str, margin: float) -> Changes | None:
    """The latest complete run of a model that tells; None if none does.

    Args:
        margin: in score units.
    """
    for run in store.runs(limit=20):
        if run.status != "complete":
            continue
        try:
            results = Results(store, run.id, model)
        except InputError:
            continue
        full = results.groups.get(FULL, {}).get(benchmark)
        found = []
        for label, by_benchmark in results.groups.items():
            if full is None or label == FULL or benchmark not in by_benchmark:
                continue
            try:
                mine, base, pictures = aligned(results.scores(by_benchmark[benchmark]), results.scores(full))
            except NotComparableError:
                continue
            if float((base - mine).mean()) < margin:
                found.append(_changes(mine != base, pictures))
        if found:
            return Changes(run.id, median(share for share, _ in found), median(alike for _, alike in found))
    return None


def _changes(changed: np.ndarray, pictures: Iterable[str]) -> tuple[float, float]:
    """Share of changed samples, and the intraclass correlation of changes within pictures, 0 to 1."""
    codes, count = cluster_codes(list(pictures), changed.size)
    share, sizes = float(changed.mean()), np.bincount(codes, minlength=count)
    pairs = float((sizes * (sizes - 1)).sum())
    if pairs == 0 or share in (0.0, 1.0):
        return share, 1.0
    residual = np.bincount(codes, weights=changed - share, minlength=count)
    between = float((residual**2).sum()) / (share * (1 - share)) - changed.size
    return share, float(np.clip(between / pairs, 0.0, 1.0))


def describe(name: str, sizes: list[int], margin: float, power: float, known: Changes | None) -> str:
    """A line for one benchmark.

    Args:
        sizes: questions of each picture that the plan asks about.
        margin: in points.
    """
    loss = margin / 500
    changed = max(known.share, loss) if known else None
    need = stats.pictures_needed(margin / 100, power, changed=changed, alike=known.alike if known else 1.0, sizes=sizes)
    basis = (
        f"{known.share:.1%} of answers changed, the middle of the cells of run {known.run_id} that lose less than this"
        if known
        else "answers changed by losses only, since no earlier run here tells"
    )
    if need.pictures is None:
        return f"{name}: no number of pictures up to ten million shows a loss below {margin:g} points ({basis})"
    verdict = "enough" if len(sizes) >= need.pictures else "too few"
    return (
        f"{name}: a loss below {margin:g} points is shown with {power:.0%} power from {need.pictures:,} pictures on, "
        f"if it is {100 * loss:.2g} ({basis}); cells without any difference need {need.at_least:,}; this plan has "
        f"{len(sizes):,}: {verdict}"
    )
