"""What the dashboard asks the database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hero_ray.core.types import Prediction, TokenCount
from hero_ray.store import MetricRow, Store, figures, flips, runs, searching
from hero_ray.store import answers as stored
from hero_ray.store.answers import CellRef
from tests import stored as stores

FULL, HERO = stores.cell("full", 1.0), stores.cell("hero", 0.2)
A, B = CellRef("run1", FULL.id), CellRef("run1", HERO.id)


@pytest.fixture(autouse=True)
def _filled(store: Store) -> None:
    """Four questions: hero loses q0 by 1 and q1 by 0.5, wins q2, ties q3; q4 failed under hero."""
    stores.begin(store, cells=[FULL, HERO], samples=5)
    samples = [stores.sample(i, image=i // 2, category="xy"[i % 2]) for i in range(5)]
    scores = {FULL.id: (1.0, 1.0, 0.0, 1.0, 1.0), HERO.id: (0.0, 0.5, 1.0, 1.0, None)}
    rows = [
        stores.answer(cell, sample, score) if score is not None else stores.failure(cell, sample)
        for cell in (FULL, HERO)
        for sample, score in zip(samples, scores[cell.id], strict=True)
    ]
    store.write_unit("run1", rows)


def ask(store: Store, query: Any, *arguments: Any) -> Any:
    with store.engine.connect() as connection:
        return query(connection, *arguments)


def test_flips_come_worst_first_and_leave_ties_and_failures_out(store: Store) -> None:
    rows = ask(store, flips.flips, A, B)
    assert [(row.sample_key, row.change) for row in rows] == [("q0", -1.0), ("q2", 1.0), ("q1", -0.5)]
    assert [row.sample_key for row in ask(store, flips.flips, A, B, "worse")] == ["q0", "q1"]
    assert [row.sample_key for row in ask(store, flips.flips, A, B, "better")] == ["q2"]
    assert [row.sample_key for row in ask(store, flips.flips, A, B, "any", "y")] == ["q1"]
    assert len(ask(store, flips.flips, A, B, "any", None, 2)) == 2
    assert [row.sample_key for row in ask(store, flips.flips, A, B, "all")] == ["q0", "q2", "q1", "q3"]


def test_flip_counts_are_over_what_both_answered(store: Store) -> None:
    assert ask(store, flips.flip_counts, A, B) == flips.FlipCounts(4, 1, 2)
    assert ask(store, flips.flip_counts, A, B, "y") == flips.FlipCounts(2, 0, 1)
    assert ask(store, flips.flip_counts, B, A) == flips.FlipCounts(4, 2, 1)


def test_a_sample_comes_with_the_answers_of_the_cells_asked_for(store: Store) -> None:
    (first, *_) = ask(store, flips.flips, A, B)
    sample = ask(store, stored.sample, first.sample_id)
    assert (sample.sample_key, sample.question, sample.reference, sample.width) == ("q0", "What is 0?", ["0"], 0)
    answers = ask(store, stored.answers, first.sample_id, [A, B])
    assert {ref: row.score for ref, row in answers.items()} == {A: 1.0, B: 0.0}
    assert answers[A].keep_mask == b"\x01\x02"
    assert ask(store, stored.answers, first.sample_id, [A]).keys() == {A}
    assert ask(store, stored.sample, "nobody") is None


def test_geometry_comes_back_as_four_numbers(store: Store) -> None:
    sample = stores.sample(9)
    row = Prediction(HERO.id, sample, "x", {"accuracy": 1.0}, TokenCount(1, 1, 1, 1, (1,)), geometry=(2, 3, 4, 5))
    store.write_unit("run1", [row])
    (answer,) = ask(store, stored.answers, stores.key(HERO, sample)[1], [B]).values()
    assert answer.geometry == (2, 3, 4, 5)


def test_progress_counts_live_answers_and_sees_who_works(store: Store) -> None:
    stale, live = ask(store, runs.progress, "run1"), ask(store, runs.progress, "run1", True)
    assert (stale.cells, stale.expected, stale.done) == (2, 10, 0)
    assert (live.done, live.failed, live.share) == (9, 1, 1.0)
    assert not runs.is_alive(live)
    store.acquire_lease("run1", "worker", 60)
    assert runs.is_alive(ask(store, runs.progress, "run1"))


def test_version_changes_when_a_cell_closes_and_not_before(store: Store) -> None:
    before = ask(store, runs.version)
    assert ask(store, runs.version) == before
    store.write_metrics("run1", HERO.id, [MetricRow("accuracy", 0.5, 4, "", 0.3, 0.7, 2, True)])
    after = ask(store, runs.version)
    assert after != before
    store.add_alert("regression", "look", run_id="run1")
    assert ask(store, runs.version) != after


def test_sizes_and_metric_names(store: Store) -> None:
    rows = [MetricRow("f1", 0.4, 4), MetricRow("accuracy", 0.5, 4, is_main=True), MetricRow("accuracy", 0.5, 2, "x")]
    store.write_metrics("run1", HERO.id, rows)
    assert ask(store, runs.run_sizes) == {"run1": (2, 10, 1)}
    assert ask(store, figures.metric_names, ["run1"]) == {"synth-demo": ["accuracy", "f1"]}
    assert ask(store, stored.categories, "synth-demo") == ["x", "y"]


def test_profiles_keep_their_own_tokens_beside_the_cells(store: Store) -> None:
    for size in (4, 1):
        store.write_profile("run1", HERO.id, {"batch_size": size, "tokens": 33.5, "certificate": {"device": "cpu"}})
    rows = ask(store, figures.profiles, ["run1"])
    assert [(row["batch_size"], row["tokens"], row["cell_tokens"]) for row in rows] == [
        (1, 33.5, None),
        (4, 33.5, None),
    ]
    assert rows[0]["method"] == "hero"


def test_trend_is_oldest_first_and_forgets_superseded_runs(store: Store) -> None:
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for day, status in ((2, "complete"), (1, "complete"), (3, "superseded")):
        name = f"night{day}"
        store.create_run(name, "nightly", {}, "h", {}, "c", "nightly", start + timedelta(days=day))
        store.add_cells(name, [HERO], {HERO.id: 4})
        store.write_metrics(name, HERO.id, [MetricRow("accuracy", day / 10, 4, is_main=True), MetricRow("f1", 0.1, 4)])
        store.set_status(name, status)
    rows = ask(store, figures.trend, "nightly")
    assert [(row.run_id, row.value, row.metric) for row in rows] == [
        ("night1", 0.1, "accuracy"),
        ("night2", 0.2, "accuracy"),
    ]
    assert [row.run_id for row in ask(store, figures.trend, "nightly", 1)] == ["night2"]


def test_alerts_are_newest_first_and_by_run(store: Store) -> None:
    store.add_alert("a", "first", run_id="run1")
    store.add_alert("b", "second")
    assert [alert["message"] for alert in ask(store, runs.alerts)] == ["second", "first"]
    assert [alert["message"] for alert in ask(store, runs.alerts, "run1")] == ["first"]


def test_questions_are_found_by_a_part_in_any_case(store: Store) -> None:
    found = ask(store, searching.questions, ["run1"], "wHAT IS 2")
    assert [(hit.sample_key, hit.question, hit.cells) for hit in found] == [("q2", "What is 2?", 0)]
    assert len(ask(store, searching.questions, ["run1"], "what")) == 5
    assert len(ask(store, searching.questions, ["run1"], "what", None, 2)) == 2
    assert ask(store, searching.questions, ["run1"], "what", "another") == []
    assert ask(store, searching.questions, ["run2"], "what") == []


@pytest.mark.parametrize("text", ["%", "_", "What%2", "'; --"])
def test_signs_of_the_database_are_letters(store: Store, text: str) -> None:
    assert ask(store, searching.questions, ["run1"], text) == []
    assert ask(store, searching.answers, ["run1"], text) == []


def test_equal_answers_to_a_question_are_one(store: Store) -> None:
    found = ask(store, searching.answers, ["run1"], "ANSWER 1")
    told = [(hit.sample_key, hit.text, hit.cells, hit.score) for hit in found]
    assert told[0] == ("q3", "answer 1.0", 2, 1.0), "said in two cells"
    assert {key for key, *_ in told} == {"q0", "q1", "q2", "q3", "q4"}
    assert all(cells == 1 for _, _, cells, _ in told[1:])
    assert ask(store, searching.answers, ["run1"], "it broke") == [], "a failure is no answer"
    given = ask(store, searching.given, found[0].sample_id, ["run1"])
    assert {(row.cell_id, row.text) for row in given} == {(FULL.id, "answer 1.0"), (HERO.id, "answer 1.0")}
