"""Fair timing of several requests against each other: warm-up per shape, then turns taken in rotating order."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec, TypeVar

from hero_ray.profiling.marks import Marks, percentile

TimedCall = Callable[[Marks], None]
"""Runs one request and stamps `start` and the end of every stage."""
P = ParamSpec("P")
T = TypeVar("T")
Steps = Generator[tuple[int, int], None, T]
"""Work that says (requests run, requests in all) between its steps, when nothing is timed, and returns what it made."""


def to_its_end(steps: Callable[P, Steps[T]]) -> Callable[P, T]:
    """The same work for those who only want what it returns."""

    @wraps(steps)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        running = steps(*args, **kwargs)
        while True:
            try:
                next(running)
            except StopIteration as end:
                made: T = end.value
                return made

    return whole


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


def turns(calls: Sequence[Sequence[TimedCall]], device: str, *, warmup: int, repeats: int) -> Steps[list[StageTimes]]:
    """Time calls A, B, C, ... in rounds A B C, B C A, ... so that clock drift and neighbours hit all alike.

    Args:
        calls: per contender, one call for every shape it is timed on.
        warmup: discarded runs of every shape, before anything is timed.
        repeats: timed runs of every shape.

    Returns:
        Per contender, the times of all its shapes together.
    """
    shapes_in_all = sum(map(len, calls))
    run, in_all = 0, (warmup + repeats) * shapes_in_all
    for shapes in calls:
        yield run, in_all
        for call in shapes:
            for _ in range(warmup):
                marks = Marks(device)
                call(marks)
                marks.intervals()
            run += warmup
    times = [StageTimes() for _ in calls]
    for round_index in range(repeats):
        yield run + round_index * shapes_in_all, in_all
        with _garbage_collected_first():
            for place in range(len(calls)):
                contender = (place + round_index) % len(calls)
                for call in calls[contender]:
                    marks = Marks(device)
                    call(marks)
                    times[contender].add(marks.intervals())
    return times


take_turns = to_its_end(turns)


@contextmanager
def _garbage_collected_first() -> Iterator[None]:
    """Collect between rounds instead of inside whichever request happens to trigger it."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
