"""How many pictures would decide it? The one forecast behind `plan --margin`, `advise` and `check`.

Each plans for the verdict that it gives itself, by the same test, with the same power, and says in the same words which
loss and how many changed answers it takes for granted: `plan` a fifth of the margin and what an earlier run changed,
`advise` and `check` what they have just seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from statistics import NormalDist, median

import numpy as np

from hero_ray import stats
from hero_ray.core.errors import InputError, NotComparableError
from hero_ray.results.contenders import Results, aligned
from hero_ray.results.names import FULL
from hero_ray.stats.clusters import cluster_codes
from hero_ray.stats.planning import MOST_PICTURES
from hero_ray.store import Store

ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Changes:
    """What pruning changed on a benchmark.

    Attributes:
        share: of questions whose score differs from the other side's.
        square: mean square of the differences; `share` where answers are right or wrong.
        alike: how alike the changes of one picture are, 0 (independent) to 1 (all or none).
        sizes: questions of each picture.
        run_id: of the earlier run that tells it.
    """

    share: float
    square: float
    alike: float
    sizes: tuple[int, ...] = (1,)
    run_id: str = ""


@dataclass(frozen=True)
class Forecast:
    """Pictures that decide whether a loss is within what is allowed, and what was taken for granted.

    Attributes:
        alone: pictures for this one claim at 5 %; None where no number up to ten million decides it.
        together: pictures where it is one of `claims` that must hold at once, as `advise` corrects; None as above.
        at_least: below this many even cells without any difference stay undecided; 0 where these never show it.
        beyond: the loss is above what is allowed, so that the claim would be refuted.
        loss: taken for granted, as a share of the scale.
        changed: share of answers changed, taken for granted; None where a figure's own spread stands for it.
    """

    alone: int | None
    together: int | None
    claims: int
    at_least: int
    beyond: bool
    loss: float
    changed: float | None

    @property
    def granted(self) -> str:
        """What was taken for granted, in the words of every verb."""
        changed = "" if self.changed is None else f" and {self.changed:.1%} of answers change"
        return f"the loss is {100 * self.loss:.2g} points{changed}"


def forecast(
    allowed: float,
    loss: float,
    changes: Changes,
    claims: int = 1,
    power: float = POWER,
    held: int = 0,
) -> Forecast:
    """Pictures that tell a loss from what is allowed, by the test that `check` and `advise` make.

    Args:
        allowed, loss: in score units; of a loss above the allowance that is shown.
        claims: that must hold together at 5 %.
        held: pictures that did not decide it; the forecast is more.
    """
    beyond, square = loss > allowed, min(1.0, max(changes.square, abs(loss)))
    margin, lost = (-allowed, -loss) if beyond else (allowed, loss)

    def pictures(alpha: float) -> stats.Need:
        return stats.pictures_needed(margin, power, lost, square, changes.alike, changes.sizes, alpha)

    if loss == allowed or not -1 < margin < 1:
        return Forecast(None, None, claims, 0, beyond, loss, changes.share)
    one = pictures(ALPHA)
    all_ = one if claims == 1 else pictures(ALPHA / claims)
    alone, together = _above(held, one.pictures), _above(held, all_.pictures)
    return Forecast(alone, together, claims, one.at_least, beyond, loss, changes.share)


def _above(held: int, pictures: int | None) -> int | None:
    return None if pictures is None else max(held + 1, pictures)


def by_bound(loss: stats.OneSided, allowed: float, claims: int = 1, alike: bool = False) -> Forecast:
    """The same for a figure that is no mean of scores, by a normal law from the bound that the pictures at hand give.

    Args:
        loss: with its upper bound at 5 % over all claims.
        alike: no picture differs, so that the bound shrinks with the number of pictures, not with its root.
    """
    law, beyond = NormalDist(), loss.value > allowed
    widest = law.inv_cdf(1 - ALPHA / claims)

    def pictures(alpha: float) -> int | None:
        if loss.high is None or loss.high <= loss.value:
            return None
        if alike:
            return _above(loss.n_clusters, ceil(loss.n_clusters * loss.high / allowed)) if allowed > 0 else None
        error, apart = (loss.high - loss.value) / widest, abs(allowed - loss.value)
        reach = law.inv_cdf(1 - alpha) + law.inv_cdf(POWER)
        found = loss.n_clusters * (reach * error / apart) ** 2 if apart else inf
        return _above(loss.n_clusters, ceil(found)) if found <= MOST_PICTURES else None

    return Forecast(pictures(ALPHA), pictures(ALPHA / claims), claims, 0, beyond, loss.value, None)


def changes_of(mine: np.ndarray, base: np.ndarray, pictures: Sequence[str] | np.ndarray, run_id: str = "") -> Changes:
    """What changed between the scores of two cells on the samples that both answered."""
    codes, count = cluster_codes(pictures, mine.size)
    moved, sizes = mine - base, np.bincount(codes, minlength=count)
    changed = np.abs(moved) > 1e-12
    alike = _alike(changed, codes, sizes)
    return Changes(float(changed.mean()), float(np.mean(moved**2)), alike, tuple(sizes.tolist()), run_id)


def _alike(changed: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> float:
    """Intraclass correlation of changes within pictures, 0 to 1; 1 where nothing tells."""
    share, pairs = float(changed.mean()), float((sizes * (sizes - 1)).sum())
    if pairs == 0 or share in (0.0, 1.0):
        return 1.0
    residual = np.bincount(codes, weights=changed - share, minlength=sizes.size)
    between = float((residual**2).sum()) / (share * (1 - share)) - changed.size
    return float(np.clip(between / pairs, 0.0, 1.0))


def earlier_changes(store: Store, model: str, benchmark: str, margin: float) -> Changes | None:
    """What the latest complete run of a model changed, the middle over its cells that lose less than a margin.

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
                found.append(changes_of(mine, base, pictures))
        if found:
            share, square, alike = (median(getattr(one, key) for one in found) for key in ("share", "square", "alike"))
            return Changes(share, square, alike, found[0].sizes, run.id)
    return None


def describe(name: str, sizes: list[int], margin: float, power: float, known: Changes | None, cells: int = 1) -> str:
    """A line for one benchmark.

    Args:
        sizes: questions of each picture that the plan asks about.
        margin: in points.
        cells: that the plan holds against the unpruned model there.
    """
    loss = margin / 500
    changes = replace(known or Changes(loss, loss, 1.0), sizes=tuple(sizes))
    need = forecast(margin / 100, loss, changes, max(1, cells), power)
    basis = (
        f"the middle of the cells of run {known.run_id} that lose less than this"
        if known
        else "losses only, since no earlier run here tells"
    )
    granted = f"if {need.granted} ({basis})"
    if need.alone is None:
        return f"{name}: no number of pictures up to ten million shows a loss below {margin:g} points, {granted}"
    all_ = "" if cells <= 1 else f", from {_count(need.together)} for all {cells} cells at once, as `advise` asks"
    held = len(sizes)
    verdict = "enough" if need.together and held >= need.together else "enough for one claim"
    return (
        f"{name}: a loss below {margin:g} points is shown with {power:.0%} power from {need.alone:,} pictures on for "
        f"one claim, as `check` asks{all_}, {granted}; cells without any difference need {need.at_least:,}; this plan "
        f"has {held:,}: {verdict if held >= need.alone else 'too few'}"
    )


def _count(pictures: int | None) -> str:
    return "over ten million" if pictures is None else f"{pictures:,}"


MANY = 10_000
"""Above it a forecast says no more: the digits of a number that nobody will collect mean nothing."""


def many(pictures: int) -> str:
    """A forecast's number in words."""
    return f"more than {MANY:,}" if pictures > MANY else f"{pictures:,}"


def about(pictures: int) -> str:
    """The same where it stands by itself."""
    return many(pictures) if pictures > MANY else f"about {pictures:,}"
