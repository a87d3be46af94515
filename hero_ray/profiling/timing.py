"""Fair timing of several requests against each other: warm-up per shape, then turns taken in rotating order."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from hero_ray.profiling.marks import Marks, percentile

S = TypeVar("S")
R = TypeVar("R")
TimedCall = Callable[[Marks], None]
"""Runs one request and stamps `start` and the end of every stage."""


@dataclass
class StageTimes:
    """Milliseconds of every timed run, stage by stage; run i is entry i of each list."""

    stages: dict[str, list[float]] = field(default_factory=dict)

    def add(self, spans: dict[str, float]) -> None:
        """Note one run."""
        for stage, span in spans.items():
            self.stages.setdefault(stage, []).append(span)

    @property
    def n(self) -> int:
        return len(next(iter(self.stages.values()), []))

    def together(self, *stages: str) -> list[float]:
        """Sum of several stages, run by run."""
        return [sum(spans) for spans in zip(*(self.stages[stage] for stage in stages), strict=True)]

    def at(self, share: float, *stages: str) -> float:
        """A percentile of the summed stages; of sums, not a sum of percentiles."""
        return percentile(self.together(*stages), share)


def finished(steps: Generator[S, None, R], each: Callable[[S], object] = lambda step: None) -> R:
    """Go through all steps of what is done in steps, telling of each; what it returns at its end."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        each(step)


def take_turns(calls: Sequence[Sequence[TimedCall]], device: str, *, warmup: int, repeats: int) -> list[StageTimes]:
    """`turns`, gone through to the end."""
    return finished(turns(calls, device, warmup=warmup, repeats=repeats))


def turns(
    calls: Sequence[Sequence[TimedCall]], device: str, *, warmup: int, repeats: int
) -> Generator[str, None, list[StageTimes]]:
    """Time calls A, B, C, ... in rounds A B C, B C A, ... so that clock drift and neighbours hit all alike.

    Args:
        calls: per contender, one call for every shape it is timed on.
        warmup: discarded runs of every shape, before anything is timed.
        repeats: timed runs of every shape.

    Yields:
        How many of how many requests are timed, after the warm-up and after every round: never in the middle of one.

    Returns:
        Per contender, the times of all its shapes together.
    """
    for shapes in calls:
        for call in shapes:
            for _ in range(warmup):
                marks = Marks(device)
                call(marks)
                marks.intervals()
    times = [StageTimes() for _ in calls]
    due = repeats * sum(map(len, calls))
    yield f"0 of {due} requests timed"
    with _garbage_collected_between() as collect:
        for round_index in range(repeats):
            collect()
            for place in range(len(calls)):
                contender = (place + round_index) % len(calls)
                for call in calls[contender]:
                    marks = Marks(device)
                    call(marks)
                    times[contender].add(marks.intervals())
            yield f"{sum(one.n for one in times)} of {due} requests timed"
    return times


@contextmanager
def _garbage_collected_between() -> Iterator[Callable[[], object]]:
    """Collect between rounds instead of inside whichever request happens to trigger it.

    What is there at the beginning, all modules among it, stays and is looked through once: 0.3 s.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
