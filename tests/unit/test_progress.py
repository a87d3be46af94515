"""What a sweep says while it runs: what is at work, a rate that means something, and no line twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hero_ray.pipeline import progress as followed
from hero_ray.pipeline.progress import Progress
from hero_ray.store import CellCount


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    held = SimpleNamespace(now=100.0)
    monkeypatch.setattr(followed, "time", SimpleNamespace(monotonic=lambda: held.now))
    return held


class Counting:
    """A store whose two cells of 50 questions are as far as it is told."""

    done = 0

    def counts(self, run_id: str) -> dict[str, CellCount]:
        first = min(self.done, 50)
        return {"a": CellCount(50, first, 0), "b": CellCount(50, self.done - first, 0)}


def follow(clock: SimpleNamespace, already: int = 0) -> tuple[Any, Progress]:
    store = Counting()
    store.done = already
    return store, Progress(store, "run", 100, already)  # type: ignore[arg-type]


def test_before_the_first_answer_it_says_what_is_at_work_and_for_how_long(clock: SimpleNamespace) -> None:
    _, shown = follow(clock)
    assert shown.line(107)[1] == "starting replicas, 7 s without an answer of 100 yet"
    clock.now = 110
    shown.stage("answering with hero-tiny")
    assert shown.line(142)[1] == "answering with hero-tiny, 32 s without an answer of 100 yet"


def test_the_rate_counts_from_the_first_answer(clock: SimpleNamespace) -> None:
    store, shown = follow(clock)
    shown.stage("answering with hero-tiny")
    store.done = 10
    assert shown.line(200)[1] == "10/100 answers (10%), 0/2 cells complete, answering with hero-tiny"
    store.done = 60
    said = shown.line(210)[1]
    assert said == "60/100 answers (60%), 5.0/s, 1/2 cells complete, 8 s left, answering with hero-tiny"


def test_a_resumed_run_keeps_what_is_there_out_of_the_rate(clock: SimpleNamespace) -> None:
    store, shown = follow(clock, already=40)
    assert shown.line(103)[1] == "starting replicas, 3 s; 40/100 answers (40%)"
    store.done = 50
    shown.line(110)
    store.done = 70
    assert "2.0/s" in shown.line(120)[1]


def test_timing_has_no_rate_of_answers_that_would_sink(clock: SimpleNamespace) -> None:
    store, shown = follow(clock)
    store.done = 100
    clock.now = 300
    shown.stage("timing hero-tiny alone: 16 methods and budgets on 2 pictures")
    for now, seconds in ((305, 5), (340, 40)):
        said = f"100/100 answers (100%); timing hero-tiny alone: 16 methods and budgets on 2 pictures, {seconds} s"
        assert shown.line(now)[1] == said


def test_a_log_is_told_what_moved_and_ever_rarer_that_nothing_did(clock: SimpleNamespace) -> None:
    _, shown = follow(clock)
    told = [now for now in range(100, 411, 10) if shown.worth_telling(("answering", 0), now)]
    assert told == [100, 120, 160, 240, 400]
    assert shown.worth_telling(("answering", 1), 411)
    assert shown.worth_telling(("timing", 1), 412)
