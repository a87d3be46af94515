"""The store on SQLite and on PostgreSQL: the same tests on both."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hero_ray.core.errors import RunLockedError, StoreError
from hero_ray.store import CellCount, ImageRecord, MetricRow, Store, leases, open_store, score_arrays
from hero_ray.store import schema as schema_room
from hero_ray.store.engine import release_pages
from hero_ray.store.score_arrays import Asked
from tests import stored as data

HERO, RANDOM = data.cell("hero"), data.cell("random")
SAMPLES = [data.sample(i, image=i // 2) for i in range(4)]


def test_upgrade_matches_the_tables_and_comes_down_again(store: Store) -> None:
    assert schema_room.drift(store.engine) == []
    schema_room.downgrade(store.engine)
    with store.engine.connect() as connection:
        assert schema_room.current(connection) is None
    schema_room.upgrade(store.engine)
    assert schema_room.drift(store.engine) == []


def test_upgrading_twice_at_once_is_harmless(store_url: str) -> None:
    code = f"from hero_ray.store import open_store; open_store({store_url!r}).close()"
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == ["", ""]


def test_a_run_keeps_what_it_was_made_with(store: Store) -> None:
    data.begin(store)
    run = store.find_run("hash1")
    assert run is not None
    assert (run.id, run.status, run.config, run.environment) == ("run1", "pending", {"seed": 0}, {"python": "3"})
    store.set_status("run1", "running")
    started = store.run("run1").started_at
    assert started is not None
    assert started.tzinfo is not None
    store.set_status("run1", "running")
    store.set_status("run1", "complete")
    run = store.run("ru")
    assert run.started_at == started
    assert run.finished_at is not None
    store.set_status("run1", "superseded")
    assert store.find_run("hash1") is None
    with pytest.raises(StoreError, match="'nope' is not in the database"):
        store.set_status("nope", "running")


def test_writing_a_unit_twice_changes_nothing(store: Store) -> None:
    data.begin(store, cells=[HERO, RANDOM])
    unit = [data.answer(HERO, s, 0.5) for s in SAMPLES[:2]] + [data.failure(RANDOM, SAMPLES[0])]
    picture = [ImageRecord("img0", 640, 480, b"webp")]
    store.write_unit("run1", unit, picture)
    first = store.cell_scores("run1", HERO.id)
    store.write_unit("run1", unit[:2], picture)
    assert store.cell_scores("run1", HERO.id) == first
    assert [(row.score, row.scores, row.image_key, row.reference) for row in first] == [
        (0.5, {"accuracy": 0.5}, "img0", row.reference) for row in first
    ]
    assert store.counts("run1") == {HERO.id: CellCount(4, 2, 0), RANDOM.id: CellCount(4, 0, 1)}
    assert store.totals("run1") == (2, 1)


def test_an_answer_is_never_replaced_and_a_failure_is(store: Store) -> None:
    data.begin(store, cells=[HERO])
    store.write_unit("run1", [data.answer(HERO, SAMPLES[0], 1.0), data.failure(HERO, SAMPLES[1])])
    store.write_unit("run1", [data.failure(HERO, SAMPLES[0]), data.answer(HERO, SAMPLES[1], 0.25)])
    assert {row.sample_key: (row.score, row.error_type) for row in store.cell_scores("run1", HERO.id, failed=True)} == {
        "q0": (1.0, None),
        "q1": (0.25, None),
    }


def test_done_leaves_out_only_what_is_worth_another_try(store: Store) -> None:
    data.begin(store, cells=[HERO])
    store.write_unit(
        "run1",
        [
            data.answer(HERO, SAMPLES[0]),
            data.failure(HERO, SAMPLES[1], "OSError"),
            data.failure(HERO, SAMPLES[2], "ImageError"),
        ],
    )
    assert store.done("run1") == {data.key(HERO, SAMPLES[0]), data.key(HERO, SAMPLES[2])}
    keys = [data.key(HERO, s)[1] for s in SAMPLES]
    assert store.done_counts("run1", [HERO.id, RANDOM.id], keys) == {keys[0]: 1, keys[2]: 1}
    assert store.done_counts("run1", [HERO.id, RANDOM.id], keys[1:]) == {keys[2]: 1}
    assert store.done_cells("run1", keys[:2]) == {keys[0]: {HERO.id}}
    for _ in range(2):
        store.write_unit("run1", [data.failure(HERO, SAMPLES[1], "OSError")])
    assert data.key(HERO, SAMPLES[1]) in store.done("run1")
    assert data.key(HERO, SAMPLES[1]) not in store.done("run1", max_attempts=4)


def test_half_a_unit_is_never_written(store: Store) -> None:
    data.begin(store, cells=[HERO])
    stranger = data.cell("unplanned")
    with pytest.raises(StoreError):
        store.write_unit("run1", [data.answer(HERO, SAMPLES[0]), data.answer(stranger, SAMPLES[0])])
    assert store.totals("run1") == (0, 0)


def test_text_that_databases_choke_on_is_kept_readable(store: Store) -> None:
    data.begin(store, cells=[HERO])
    odd = data.sample(9)
    nasty = "nul \x00, half a pair \ud800, snow ☃"
    store.write_unit(
        "run1", [data.Prediction(HERO.id, odd, nasty, {"accuracy": 1.0, "note": nasty, "nan": float("nan")})]
    )
    row = store.cell_scores("run1", HERO.id)[0]
    assert row.text == "nul \ufffd, half a pair \ufffd, snow ☃"
    assert row.scores == {"accuracy": 1.0, "note": row.text, "nan": None}


def test_a_score_that_is_not_finite_becomes_a_named_failure(store: Store) -> None:
    data.begin(store, cells=[HERO])
    store.write_unit("run1", [data.answer(HERO, SAMPLES[0], float("nan"))])
    assert [row["error_type"] for row in store.failures("run1")] == ["NonFiniteScoreError"]


def test_scores_are_read_to_the_last_bit_and_in_one_order_whatever_was_met_before(store: Store) -> None:
    data.begin(store, cells=[HERO, RANDOM])
    values = [1 / 3, 0.1 + 0.2, 1.0, 1.0]
    for sample, value in zip(SAMPLES[::-1], values, strict=True):
        store.write_unit("run1", [data.answer(HERO, sample, value)])
    store.write_unit("run1", [data.answer(RANDOM, SAMPLES[0], 0.5), data.failure(RANDOM, SAMPLES[1], "OSError")])
    asked = Asked()
    first = store.scores("run1", RANDOM.id, asked)
    assert [part.tolist() for part in first] == [[data.key(HERO, SAMPLES[0])[1]], [SAMPLES[0].image_key], [0.5]]
    known = sorted((data.key(HERO, s)[1], s.image_key, v) for s, v in zip(SAMPLES[::-1], values, strict=True))
    expected = [list(part) for part in zip(*known, strict=True)]
    assert [part.tolist() for part in store.scores("run1", HERO.id, asked)] == expected
    assert [part.tolist() for part in store.scores("run1", HERO.id)] == expected
    assert [part.size for part in store.scores("run1", "nobody")] == [0, 0, 0]


def test_two_readers_of_one_report_do_not_mix_up_questions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data.begin(store, cells=[HERO, RANDOM])
    store.write_unit("run1", [data.answer(HERO, sample, 0.25) for sample in SAMPLES[:2]])
    store.write_unit("run1", [data.answer(RANDOM, sample, 0.75) for sample in SAMPLES[2:]])
    asked, looked_up = Asked(), score_arrays.columns_by_number
    meanwhile = []

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(score_arrays, "columns_by_number", looked_up)
        meanwhile.append(store.scores("run1", RANDOM.id, asked))
        return looked_up(*arguments)

    monkeypatch.setattr(score_arrays, "columns_by_number", interrupted)
    found = {HERO.id: store.scores("run1", HERO.id, asked), RANDOM.id: meanwhile[0]}
    again = {cell.id: store.scores("run1", cell.id, asked) for cell in (HERO, RANDOM)}
    for cell in (HERO, RANDOM):
        alone = [part.tolist() for part in store.scores("run1", cell.id)]
        assert [part.tolist() for part in found[cell.id]] == [part.tolist() for part in again[cell.id]] == alone


def test_units_count_their_beginnings(store: Store) -> None:
    data.begin(store)
    assert [store.begin_unit("run1", "u1"), store.begin_unit("run1", "u1"), store.begin_unit("run1", "u2")] == [1, 2, 1]


def test_units_that_were_stopped_by_hand_are_handed_back(store: Store) -> None:
    """However often a run is stopped; a unit that kills its process keeps the beginnings that nobody stopped."""
    data.begin(store)
    for _ in range(5):
        assert store.begin_unit("run1", "stopped") == 1
        store.hand_back("run1")
    store.begin_unit("run1", "settled")
    store.settle_unit("run1", "settled", 1)
    store.begin_unit("run1", "deadly"), store.begin_unit("run1", "deadly")
    store.hand_back("run1")
    assert [store.begin_unit("run1", name) for name in ("stopped", "settled", "deadly")] == [1, 2, 2]


def test_only_one_holder_at_a_time(store: Store) -> None:
    data.begin(store)
    store.acquire_lease("run1", "alice", 60)
    store.acquire_lease("run1", "alice", 60)
    with pytest.raises(RunLockedError, match="held by alice"):
        store.acquire_lease("run1", "bob", 60)
    store.heartbeat("run1", "alice", 60)
    store.release("run1", "bob")
    with pytest.raises(RunLockedError):
        store.acquire_lease("run1", "bob", 60)
    store.release("run1", "alice")
    store.acquire_lease("run1", "bob", -1)
    store.acquire_lease("run1", "alice", 60)  # bob's claim had expired
    with pytest.raises(RunLockedError, match="now held by alice"):
        store.heartbeat("run1", "bob", 60)


def test_a_drivers_clock_that_is_ahead_takes_no_claim_that_lives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("a file has no clock of its own")
    data.begin(store)
    store.acquire_lease("run1", "alice", 60)
    monkeypatch.setattr(leases, "now", lambda: datetime.now(UTC) + timedelta(minutes=2))
    with pytest.raises(RunLockedError, match="held by alice"):
        store.acquire_lease("run1", "bob", 60)


def test_cancelling_is_a_request_that_a_new_start_clears(store: Store) -> None:
    data.begin(store)
    assert not store.cancel_requested("run1")
    store.request_cancel("run1")
    assert store.cancel_requested("run1")
    store.set_status("run1", "running")
    assert not store.cancel_requested("run1")


def test_points_carry_figures_costs_and_profile(store: Store) -> None:
    data.begin(store, cells=[HERO, RANDOM], samples=2)
    store.write_unit("run1", [data.answer(c, s) for c in (HERO, RANDOM) for s in SAMPLES[:2]])
    rows = [
        MetricRow("accuracy", 0.75, 2, ci_low=0.5, ci_high=1.0, n_clusters=1),
        {"metric": "accuracy", "value": 0.5, "n": 1, "category": "small"},
        MetricRow("f1", float("nan"), 0),
    ]
    store.write_metrics("run1", HERO.id, rows)
    profile = {"batch_size": 1, "new_tokens": 8, "ttft_ms_p50": 12.5, "certificate": {"device": "cpu"}, "novel": 3}
    store.write_profile("run1", HERO.id, profile)
    store.write_profile("run1", HERO.id, profile | {"ttft_ms_p50": 11.5})
    (point,) = store.points(["run1"])
    assert (point.cell_id, point.metric, point.value, point.ci_low, point.n) == (HERO.id, "accuracy", 0.75, 0.5, 2)
    assert (point.n_visual_llm, point.equivalent_tokens, point.flops, point.kv_bytes) == (22.0, 22.0, 1e9, 2048.0)
    assert (point.profile["ttft_ms_p50"], point.profile["details"]) == (11.5, {"novel": 3})
    (small,) = store.points(["run1"], categories=True)
    assert (small.category, small.value) == ("small", 0.5)
    assert store.points(["run1"], benchmarks=["other"]) == []
    progress = {c.id: (c.status, c.n_done) for c in store.cells("run1")}
    assert progress == {HERO.id: ("complete", 2), RANDOM.id: ("pending", 0)}


def test_parts_with_a_metric_of_their_own_stand_for_the_main_one(store: Store) -> None:
    data.begin(store, cells=[HERO, RANDOM], samples=2)
    whole = MetricRow("ocrbench_accuracy", 0.5, 2, is_main=True)
    parts = [MetricRow("type_accuracy", value, 1, category=name) for name, value in (("artistic", 1.0), ("doc", 0.0))]
    store.write_metrics("run1", HERO.id, [whole, *parts])
    mixed = [MetricRow("ocrbench_accuracy", 0.25, 1, category="doc"), parts[0]]
    store.write_metrics("run1", RANDOM.id, [whole, *mixed])
    found = [(p.cell_id, p.metric, p.category, p.value) for p in store.points(["run1"], categories=True)]
    assert found == [
        (HERO.id, "type_accuracy", "artistic", 1.0),
        (HERO.id, "type_accuracy", "doc", 0.0),
        (RANDOM.id, "ocrbench_accuracy", "doc", 0.25),
    ]


def test_a_store_travels_to_another_process_by_its_address(store: Store) -> None:
    data.begin(store)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.runs() == store.runs()
    copy.close()


def test_reading_only_reads(store: Store) -> None:
    data.begin(store)
    with open_store(store.url, read_only=True) as reader:
        assert [run.id for run in reader.runs()] == ["run1"]
        with pytest.raises(StoreError, match="opened read-only"):
            reader.request_cancel("run1")
        with pytest.raises(Exception, match=r"(?i)read-?only"), reader.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE runs SET status = 'x'")


def test_an_unprepared_database_is_refused_when_it_may_not_be_prepared(store_url: str) -> None:
    if store_url.startswith("sqlite"):
        with pytest.raises(StoreError, match="does not exist"):
            open_store(store_url, upgrade=False)
        assert not Path(store_url.removeprefix("sqlite:///")).exists()
    else:
        with pytest.raises(StoreError, match="holds no hero_ray tables"):
            open_store(store_url, upgrade=False)


def test_a_database_from_the_future_is_refused(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer than this version"):
        open_store(store.url)


def test_straw_men_of_an_older_database_are_marked(store: Store) -> None:
    cells = [data.cell(method) for method in ("hero", "random", "spatial-pool", "full")]
    data.begin(store, cells=cells)
    schema_room.downgrade(store.engine, "0002")
    schema_room.upgrade(store.engine)
    assert {cell.method for cell in store.cells("run1") if cell.straw_man} == {"random", "spatial-pool"}


def test_a_plug_in_may_become_a_straw_man_later(store: Store) -> None:
    data.begin(store, cells=[HERO])
    store.add_cells("run1", [replace(HERO, straw_man=True)], {HERO.id: 4})
    assert [cell.straw_man for cell in store.cells("run1")] == [True]


def test_four_writers_at_once_lose_nothing(store: Store) -> None:
    data.begin(store, cells=[HERO], samples=80)
    problems: list[BaseException] = []

    def work(part: int) -> None:
        try:
            with open_store(store.url, upgrade=False) as own:
                for i in range(part, 80, 4):
                    own.write_unit("run1", [data.answer(HERO, data.sample(i))], [ImageRecord(f"img{i}", 1, 1)])
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert store.counts("run1")[HERO.id] == CellCount(80, 80, 0)


def test_drivers_that_start_together_make_one_run(store: Store) -> None:
    """Each has looked before and found nothing; the second to write is given the run of the first."""
    together = threading.Barrier(6)

    def start(number: int) -> str:
        with open_store(store.url, patience_s=30) as own:
            assert own.find_run("equal") is None
            together.wait(60)
            return own.create_run(f"r{number}", "sweep", {}, "equal", first=True).id

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(start, range(6)))
    assert {row.id for row in store.runs()} == ids
    assert len(ids) == 1
    store.create_run("fresh", "sweep", {}, "equal")
    assert len(store.runs()) == 2


def test_pages_of_a_large_write_are_given_back_where_a_process_holds_them(store: Store) -> None:
    said: list[str] = []
    with store.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            raw: Any = connection.connection.driver_connection
            raw.set_trace_callback(said.append)
        release_pages(connection)
        held_here = connection.dialect.name == "sqlite"
        assert ("PRAGMA shrink_memory" in said) == held_here
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1, "the connection goes on"
