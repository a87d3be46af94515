"""Close cells: from per-sample scores to metrics with intervals clustered by picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from hero_ray import stats
from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.types import Cell, Metric, Sample, Scored
from hero_ray.results import early
from hero_ray.stats.clusters import cluster_codes
from hero_ray.store import Store, answers, samples, writes
from hero_ray.store import said as answered
from hero_ray.store.records import MetricRow, ScoreRow
from hero_ray.store.said import Said

RESAMPLES = 500
AT_ONCE = 1_000_000
"""Scores that are in memory at a time, if more than one cell holds them."""
SAID_AT_ONCE = 250_000
"""The same of answers with their texts, which take ten times as much."""

Numbers = NDArray[np.int64]


def close_cells(store: Store, run_id: str, cells: Sequence[Cell], benchmarks: Mapping[str, Benchmark]) -> None:
    """Aggregate every cell that has answers and write its metrics and mean costs."""
    stopped, by_benchmark = store.stopped(run_id), attrgetter("benchmark")
    stored = {cell: count.done + count.failed for cell, count in store.counts(run_id).items()}
    for name, same in groupby(sorted(cells, key=by_benchmark), by_benchmark):
        asked = _Questions(store)
        for some in portions([cell.id for cell in same], stored, SAID_AT_ONCE):
            figures = dict[str, list[MetricRow]]()
            try:
                for cell, said in store.read(answered.said, run_id, some).items():
                    largest = store.read(answers.most_questions, name) if cell in stopped else 0
                    figures[cell] = metrics_of(benchmarks[name], *asked.scored(said), largest)
            finally:  # a benchmark of somebody's own may raise at one cell: those before it are closed
                if figures:
                    store.transaction(writes.write_all_metrics, run_id, figures)


def portions(cell_ids: Sequence[str], stored: Mapping[str, int], at_once: int = AT_ONCE) -> Iterator[list[str]]:
    """Cells in their order, as many at a time as hold `at_once` answers in all; one at least.

    Args:
        stored: answers by cell id; none where it is not named.
    """
    some, held = list[str](), 0
    for cell in cell_ids:
        held += stored.get(cell, 0)
        if some and held > at_once:
            yield some
            some, held = [], stored.get(cell, 0)
        some.append(cell)
    if some:
        yield some


@dataclass(frozen=True)
class Membership:
    """Where the answers of a cell belong.

    Attributes:
        pictures: the number of each one's picture: [n].
        parts: positions by category.
    """

    pictures: Numbers
    parts: Mapping[str, Numbers]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Membership:
        places = dict[str, list[int]]()
        for place, sample in enumerate(samples):
            places.setdefault(sample.category, []).append(place)
        pictures, _ = cluster_codes([sample.image_key for sample in samples], len(samples))
        return cls(pictures, {key: np.array(part, dtype=np.int64) for key, part in places.items()})

    def chosen(self, category: str) -> Numbers:
        """Positions of a category, which some answer has or has not."""
        return self.parts.get(category, np.empty(0, dtype=np.int64))


@dataclass
class _Questions:
    """A benchmark's questions met so far: cells share them, so each is read once, and mostly all in one order."""

    store: Store
    known: dict[int, tuple[str, Sample]] = field(default_factory=dict)
    last: tuple[Numbers, Numbers, list[Sample], Membership] | None = None

    def scored(self, said: Said) -> tuple[list[Scored], Membership]:
        """The answers of a cell in the order of their samples' ids."""
        sorter = np.argsort(said.numbers)
        by_id, questions, membership = self._ordered(said.numbers[sorter])
        order = sorter[by_id].tolist()
        texts, scores = ([column[i] for i in order] for column in (said.texts, said.scores))
        return list(map(Scored, questions, texts, scores)), membership

    def _ordered(self, numbers: Numbers) -> tuple[Numbers, list[Sample], Membership]:
        """Of ascending numbers, their order by sample id, and the questions in that order."""
        if self.last is None or not np.array_equal(self.last[0], numbers):
            listed = numbers.tolist()
            self.known |= self.store.read(samples.by_number, [number for number in listed if number not in self.known])
            named = [self.known[number] for number in listed]
            order = sorted(range(len(named)), key=lambda i: named[i][0])
            questions = [named[i][1] for i in order]
            self.last = numbers, np.array(order, dtype=np.int64), questions, Membership.of(questions)
        return self.last[1:]


def scored_of(benchmark: Benchmark, rows: Sequence[ScoreRow]) -> list[Scored]:
    """Stored answers as aggregates take them."""
    return [Scored(row.sample(benchmark.name), row.text, row.scores) for row in rows]


def metrics_of(
    benchmark: Benchmark, scored: Sequence[Scored], membership: Membership | None = None, largest: int = 0
) -> list[MetricRow]:
    """Every metric of a cell; those that are plain means of a per-sample score get the analytic cluster interval,
    the others (sums over parts, F1, circular groups) a cluster bootstrap.

    Args:
        membership: where the answers belong, if it is known.
        largest: most questions about one picture, for a cell that was decided early: the intervals of its means must
            then bear that somebody looked.
    """
    cell = _Cell(benchmark, scored, membership or Membership.of([one.sample for one in scored]), largest)
    return [cell.row(metric) for metric in benchmark.aggregate(scored)]


@dataclass(frozen=True)
class _Cell:
    """The answers of one cell, from which every one of its figures gets an interval."""

    benchmark: Benchmark
    scored: Sequence[Scored]
    membership: Membership
    largest: int

    def row(self, metric: Metric) -> MetricRow:
        """A figure with its interval and flags."""
        benchmark, members, groups = self.benchmark, self.scored, self.membership.pictures
        if metric.category:
            chosen = self.membership.chosen(metric.category)
            members, groups = [members[i] for i in chosen.tolist()], groups[chosen]
        interval = self._interval(metric, members, groups)
        main = metric.name == benchmark.main_metric and not metric.category
        caution = getattr(benchmark, "caution", lambda scored: "")(members) if main else ""
        return MetricRow(
            metric=metric.name,
            value=metric.value,
            n=metric.n,
            category=metric.category,
            ci_low=interval.low if interval else None,
            ci_high=interval.high if interval else None,
            n_clusters=interval.n_clusters if interval else len(np.unique(groups)),
            is_main=main,
            scale=benchmark.scale,
            interval=interval.kind if interval else None,
            flags="; ".join(flag for flag in (*_flags(interval, members), caution) if flag),
        )

    def _interval(self, metric: Metric, members: Sequence[Scored], groups: Numbers) -> stats.Interval | None:
        values = _plain_values(metric, self.benchmark, members)
        if values is not None:
            interval = stats.mean_interval(values, groups)
            if self.largest and values.min() >= 0 and values.max() <= 1:
                pictures = [member.sample.image_key for member in members]
                low, high = stats.interval_so_far(*early.by_picture(values, pictures), self.largest)
                interval = replace(interval, low=low, high=high, kind="betting")
            return interval
        if metric.category:
            return None  # a part's own composite is reported without an interval rather than with a wrong one
        return stats.composite_interval(
            _recompute(metric, self.benchmark),
            members,
            groups,
            resamples=RESAMPLES,
            scale=self.benchmark.scale,
            draws=self._draws.get(metric.name),
        )

    @cached_property
    def _draws(self) -> dict[str, np.ndarray]:
        """Every figure that the benchmark can tell from sums, on every resample of whole pictures."""
        tally = getattr(self.benchmark, "tally", None)
        if tally is None or len(np.unique(self.membership.pictures)) < 2:
            return {}
        made = tally(self.scored)
        parts = [made.figures(sums) for sums in stats.drawn_sums(made.counts, self.membership.pictures, RESAMPLES)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


ALWAYS_FROM = 5
"""Answers from which on "always the same" is worth saying."""


def _flags(interval: stats.Interval | None, members: Sequence[Scored]) -> Iterator[str]:
    """What a reader must know of a figure."""
    said = {text.strip().lower() for text in {member.prediction for member in members}}
    if len(said) == 1 and len(members) >= ALWAYS_FROM:
        yield f"always {next(iter(said))[:40]!r}"
    if interval is None or interval.low is None or interval.kind == "betting":
        return  # bets assume nothing of how often answers vary
    if interval.one_sided:
        yield f"one-sided: rests on {interval.n_clusters} pictures alike"
    elif interval.never_varies and len(said) > 1:
        yield f"every picture has the same mean: rests on {interval.n_clusters} pictures alone"
    elif interval.too_few_pictures:
        yield "too few pictures for this share: the interval may hold less than 95%"


def is_mean(benchmark: Benchmark, rows: Sequence[ScoreRow]) -> bool:
    """Whether a benchmark's main figure is the plain mean of per-sample scores, as far as these answers tell."""
    scored = scored_of(benchmark, rows)
    main = (m for m in benchmark.aggregate(scored) if m.name == benchmark.main_metric and not m.category)
    return all(_plain_values(metric, benchmark, scored) is not None for metric in main)


def _plain_values(metric: Metric, benchmark: Benchmark, members: Sequence[Scored]) -> np.ndarray | None:
    """Per-sample values whose mean is this metric, or None for a composite.

    A sum over nothing right is 0 as well as a mean is: such a cell is asked again with some answers made right.
    """
    values = _scores(metric, members)
    if values is None or not math.isclose(float(values.mean()), metric.value, rel_tol=1e-9, abs_tol=1e-12):
        return None
    if values.any():
        return values
    probe = [_made_right(member) if i % 3 == 0 else member for i, member in enumerate(members)]
    found, made = _recompute(metric, benchmark)(probe), _scores(metric, probe)
    means = made is not None and math.isclose(found, float(made.mean()), rel_tol=1e-9)
    return values if found == 0 or means else None  # 0: read from other keys


def _scores(metric: Metric, members: Sequence[Scored]) -> np.ndarray | None:
    values = [member.scores.get(metric.name) for member in members]
    kinds = set(map(type, values))
    if not kinds or any(issubclass(kind, bool) or not issubclass(kind, int | float) for kind in kinds):
        return None
    return np.asarray(values, dtype=float)


def _made_right(member: Scored) -> Scored:
    right = {key: 1.0 if type(value) in (int, float) else value for key, value in member.scores.items()}
    return replace(member, scores=right)


def _recompute(metric: Metric, benchmark: Benchmark):  # type: ignore[no-untyped-def]
    def value(members: Sequence[Scored]) -> float:
        for found in benchmark.aggregate(members):
            if found.name == metric.name and found.category == metric.category:
                return found.value
        return math.nan

    return value
