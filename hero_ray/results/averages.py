"""Over all benchmarks: methods against the best straw man, by difficulty, and the average share of the full score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hero_ray import stats
from hero_ray.core.errors import UnknownNameError
from hero_ray.results import marks
from hero_ray.results.contenders import Results
from hero_ray.results.marks import Mark
from hero_ray.results.names import FULL, Name, budget_of
from hero_ray.results.pairs import AnyPart, own_parts, parts, ratio_part
from hero_ray.store import CellRow

DOWNSAMPLE = "downsample"


def difficulty(results: Results, benchmarks: Iterable[str] | None = None) -> dict[str, stats.Split]:
    """Every label's score apart on samples that `downsample` solves at the same budget and on those it does not.

    Samples of all benchmarks are pooled; labels without a downsampled counterpart are left out.
    """
    chosen = results.only(benchmarks)
    cheap: dict[str, str] = {}
    for label in results.groups:
        cell = results.first(label)
        if cell.method == DOWNSAMPLE:
            cheap[budget_of(cell)] = label
    found = {}
    for label in results.groups:
        rival = cheap.get(budget_of(results.first(label)))
        if rival is None or label == rival:
            continue
        shared = list(parts(results, label, rival, chosen).values())
        if shared:
            scores, easy = (np.concatenate([getattr(part, side) for part in shared]) for side in ("scores", "full"))
            images = np.concatenate([np.asarray(part.clusters, dtype=object) for part in shared])
            found[label] = stats.difficulty_split(scores, easy, images)
    return found


@dataclass(frozen=True)
class StrawMan:
    """A method against the baselines anyone could write, at the same budget, over all benchmarks.

    Attributes:
        name: what `label` is the key of.
        rival: the straw man that is hardest to beat.
        result: mean difference in score to it (A minus straw man).
        flagged: not shown to be better than every straw man.
        worse: shown to be worse than one of them.
    """

    label: str
    name: Name
    rival: str
    result: stats.OneSided
    flagged: bool
    worse: bool = False


def straw_men(results: Results, benchmarks: Iterable[str] | None = None) -> list[StrawMan]:
    """Every method against the best straw man. Beating the best means beating each, so no correction is due."""
    chosen = results.only(benchmarks)
    return results.once(("straw men", chosen), lambda: _straw_men(results, chosen))


def _straw_men(results: Results, chosen: Sequence[str]) -> list[StrawMan]:
    budgets: dict[str, list[str]] = {}
    for label in results.groups:
        cell = results.first(label)
        if cell.straw_man:
            budgets.setdefault(budget_of(cell), []).append(label)
    found = []
    for label in results.groups:
        cell = results.first(label)
        if cell.straw_man or cell.method == FULL:
            continue
        tests = {
            rival: stats.pooled_difference(shared)  # by each benchmark's own figure, as `check` tests it
            for rival in sorted(budgets.get(budget_of(cell), ()))
            if (shared := own_parts(results, label, rival, chosen))
        }
        if tests:
            hardest = max(tests, key=lambda name: (strictly(tests[name]), -tests[name].value))
            lead = tests[hardest]
            worse = lead.value < 0 and stats.any_of([test.p_against for test in tests.values()]) < 0.05
            found.append(StrawMan(label, results.names[cell.id], hardest, lead, strictly(lead) >= 0.05, worse))
    return found


def strictly(result: stats.OneSided) -> float:
    """p that a value is above 0, where equal scores (no spread at all) show nothing."""
    return 1.0 if result.value <= 0 else result.p_claim


FLAG, WORSE = "†", "††"
FLAG_NOTES = {
    FLAG: f"{FLAG} not shown to be better than the best straw man at the same budget, over the benchmarks",
    WORSE: f"{WORSE} shown to be worse than a straw man at the same budget, over the benchmarks",
}


def flagged(results: Results, benchmarks: Iterable[str] | None = None) -> dict[str, str]:
    """The sign of each label that is not shown to be better than every straw man of its budget."""
    return {item.label: WORSE if item.worse else FLAG for item in straw_men(results, benchmarks) if item.flagged}


@dataclass(frozen=True)
class Retained:
    """A label's average share of the unpruned score, and what it was averaged from."""

    label: str
    interval: stats.Interval
    parts: Mapping[str, AnyPart]


def retained(results: Results, benchmarks: Iterable[str] | None = None, baseline: str = FULL) -> list[Retained]:
    """Retention average of every label that has all of the benchmarks.

    Raises:
        UnknownNameError: the run has no baseline cells.
    """
    chosen = results.only(benchmarks)
    if baseline not in results.groups:
        raise UnknownNameError("baseline of this run", baseline, results.groups)
    return results.once(("retained", chosen, baseline), lambda: _retained(results, chosen, results.groups[baseline]))


def _retained(results: Results, chosen: Sequence[str], base: Mapping[str, Sequence[CellRow]]) -> list[Retained]:
    full = {name: ratio_part(results, base[name], base[name]) for name in chosen if name in base}
    usable = [name for name, part in full.items() if part is not None]
    found = []
    for label, by_benchmark in results.groups.items():
        made = {name: ratio_part(results, by_benchmark[name], base[name]) for name in usable if name in by_benchmark}
        parts = {name: part for name, part in made.items() if part is not None}
        if usable and set(parts) == set(usable):
            interval = stats.retention_average(parts)
            if by_benchmark is base:  # all of itself by definition: there is nothing to be unsure of
                interval = replace(interval, low=interval.value, high=interval.value)
            found.append(Retained(label, interval, parts))
    return found


def _share(part: AnyPart) -> float:
    if isinstance(part, stats.CompositePart):
        return part.figure(part.scores) / part.figure(part.full)
    return float(np.sum(part.scores) / np.sum(part.full))


def averages(results: Results, benchmarks: Iterable[str] | None = None) -> list[Mark]:
    """The retention averages as marks; none where the run has no unpruned cells."""
    chosen = results.only(benchmarks)
    return results.once(("averages", chosen), lambda: _averages(results, chosen)) if FULL in results.groups else []


def _averages(results: Results, chosen: Sequence[str]) -> list[Mark]:
    own: dict[str, list[Mark]] = {}
    for mark in results.marks(chosen):
        own.setdefault(mark.name.key, []).append(mark)
    found = []
    for item in retained(results, chosen):
        group = [mark for mark in own.get(item.label, ()) if mark.benchmark in item.parts]
        if group:
            found.append(marks.average(group, item.interval, {name: _share(part) for name, part in item.parts.items()}))
    return found
