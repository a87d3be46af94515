"""Counters move with the answers of a unit and say what is stored, whatever is written twice, and units settle."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from hero_ray.cli import main
from hero_ray.core.errors import StoreError
from hero_ray.pipeline.model_turns import pending_units
from hero_ray.pipeline.orders import unit_key
from hero_ray.store import (
    CellCount,
    Store,
    answers,
    bulk,
    counters,
    maintenance,
    merge,
    open_store,
    runs,
    sample_id,
    schema,
)
from hero_ray.store.tables import PredictionTable
from tests import stored as data
from tests.integration.sweeps import small_plan

CELLS = [data.cell("hero"), data.cell("random"), data.cell("full")]
SAMPLES = [data.sample(i, image=i // 2) for i in range(6)]


def counted(store: Store) -> tuple[int, int]:
    """Answers and failures by counting rows."""
    query = text("select count(*) - count(error_type), count(error_type) from predictions")
    with store.engine.connect() as connection:
        return tuple(connection.execute(query).one())  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(3))
def test_counters_say_what_is_stored_after_any_writes(store: Store, seed: int) -> None:
    draw = random.Random(seed)
    data.begin(store, cells=CELLS, samples=len(SAMPLES))
    for _ in range(25):
        some = [(c, s) for c in CELLS for s in SAMPLES if draw.random() < 0.3]
        made = [data.answer(c, s, draw.random()) if draw.random() < 0.6 else data.failure(c, s) for c, s in some]
        made += made[:1]  # a sample named twice is one sample
        store.write_unit("run1", made)
        assert store.totals("run1") == counted(store)
        assert store.read(counters.recount) == []
        progress = store.read(runs.progress, "run1", live=True)
        assert (progress.done, progress.failed) == counted(store)
    assert sum(c.done for c in store.counts("run1").values()) == counted(store)[0]


def test_writers_of_the_same_cells_lose_no_count(store: Store) -> None:
    data.begin(store, cells=CELLS, samples=40)

    def write(first: int) -> None:
        with open_store(store.url, patience_s=60) as own:
            for i in range(first, first + 10):  # each overlaps with the next
                own.write_unit("run1", [data.answer(c, data.sample(i)) for c in CELLS])

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 5, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts("run1") == {c.id: CellCount(40, 20, 0) for c in CELLS}
    assert store.read(counters.recount) == []


def test_a_wrong_counter_is_found_and_set_right(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    data.begin(store, cells=CELLS)
    store.write_unit("run1", [data.answer(CELLS[0], SAMPLES[0]), data.failure(CELLS[1], SAMPLES[0])])
    for change, cell in (("update cell_totals set stored = 7", CELLS[0]), ("delete from cell_totals", CELLS[1])):
        statement = text(f"{change} where cell in (select number from cell_numbers where cell_id = :id)")
        store.transaction(lambda c, s=statement, cell=cell: c.execute(s, {"id": cell.id}))
    with pytest.raises(SystemExit) as end:
        main(["db", "check", "--db", store.url])
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert f"cell {CELLS[0].id}: counters say 7 rows, 0 of them failed; there are 1 and 0" in said
    assert f"cell {CELLS[1].id}: counters say 0 rows, 0 of them failed; there are 1 and 1" in said
    with pytest.raises(SystemExit) as end:
        main(["db", "check", "--recount", "--db", store.url])
    assert not end.value.code
    assert "2 cells had wrong counters" in capsys.readouterr().out
    assert store.totals("run1") == (1, 1)


def test_a_unit_settles_with_its_last_answer(store: Store) -> None:
    data.begin(store, cells=CELLS)
    unit = ("u1", 1)
    store.begin_unit("run1", "u1")
    store.write_unit("run1", [data.answer(CELLS[0], SAMPLES[0]), data.failure(CELLS[1], SAMPLES[0])], unit=unit)
    assert store.begun_units("run1") == {"u1": 0}  # that failure may pass
    store.write_unit("run1", [data.failure(CELLS[1], SAMPLES[0], "ImageError")], unit=unit)
    assert store.begun_units("run1") == {"u1": 1}
    maintenance.prune(store, ["run1"], answers_only=True)
    assert store.begun_units("run1") == {"u1": 0}
    assert store.counts("run1")[CELLS[0].id] == CellCount(4, 0, 0)


def test_only_units_that_were_begun_and_not_settled_are_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(num_images=4)
    store.create_run("run1", "sweep", {}, plan.hash)
    store.add_cells("run1", plan.cells, plan.expected)
    done, half, old, fresh = plan.units

    def write(unit, cells, key, whole=False):  # type: ignore[no-untyped-def]
        store.begin_unit("run1", key)
        made = [
            data.Prediction(c.id, s, "x", {"a": 1.0}) for s in unit.samples for c in cells if c.benchmark == s.benchmark
        ]
        store.write_unit("run1", made, unit=(key, len(unit.samples)) if whole else None)

    write(done, plan.cells, unit_key(done, "sleeping"), whole=True)
    write(half, plan.cells[:1], unit_key(half, "sleeping"))
    write(old, plan.cells, old.id)  # by a version that settled nothing
    asked = []
    counts = answers.done_counts
    monkeypatch.setattr(Store, "done_counts", lambda self, *a: asked.extend(a[2]) or self.read(counts, *a))
    assert pending_units(plan, store, "run1", "sleeping") == [half, fresh]
    assert len(asked) == len(half.samples) + len(old.samples)
    assert pending_units(plan, store, "run1", "another") == []


def test_answers_go_through_both_schemas_and_come_back(store: Store) -> None:
    data.begin(store, cells=CELLS)
    made = [
        replace(data.answer(c, s, 0.5), geometry=(1, 2, 3, 4), encode_flops=2e9) for c in CELLS for s in SAMPLES[:3]
    ]
    deep = replace(made[0].tokens, visual_per_layer=(22, 10))
    store.write_unit("run1", [replace(made[0], tokens=deep), *made[1:], data.failure(CELLS[0], SAMPLES[3])])
    columns = list(PredictionTable.__table__.c.keys())
    query = text(f"select {', '.join(columns)} from predictions order by cell_id, sample_id")

    def rows() -> list[tuple[object, ...]]:
        with store.engine.connect() as connection:
            found = connection.execute(query).all()
        return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in found]

    before, sizes = rows(), maintenance.sizes(store)
    assert len(before) == 10
    assert (sizes["predictions"], sizes["cuts"]) == (10, 2)
    schema.downgrade(store.engine, "0004")
    assert rows() == before
    schema.upgrade(store.engine)
    assert rows() == before
    assert (maintenance.sizes(store)["cuts"], maintenance.broken(store)) == (2, [])


def test_cuts_go_with_the_last_answer_that_has_them(store: Store) -> None:
    for run in ("run1", "run2"):
        data.begin(store, run, cells=CELLS)
        store.write_unit(run, [data.answer(c, SAMPLES[0]) for c in CELLS])
        store.set_status(run, "complete")
    assert maintenance.sizes(store)["cuts"] == 2  # one a unit
    maintenance.prune(store, ["run1"])
    assert maintenance.sizes(store)["cuts"] == 1
    maintenance.prune(store, ["run2"], answers_only=True)
    assert maintenance.sizes(store)["cuts"] == 0


def test_new_rows_go_straight_into_their_tables_and_others_by_way_of_a_look(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On either database a unit costs a look at what is there only where something is; JSON arrives as it was."""
    data.begin(store, cells=CELLS)
    looked = []
    for room, name in ((merge, "arrive"), (bulk, "_stored")):
        ask = getattr(room, name)
        monkeypatch.setattr(room, name, lambda *a, ask=ask, **k: looked.append(ask) or ask(*a, **k))
    scores = {"accuracy": 0.5, "note": 'a "quoted" ☃', "parts": [1, None, {"score": 2.0}]}
    made = [replace(data.answer(c, s), scores=scores) for c in CELLS for s in SAMPLES[:2]]
    store.write_unit("run1", [*made, data.failure(CELLS[0], SAMPLES[2])])
    assert looked == []
    assert [row.scores for c in CELLS for row in store.cell_scores("run1", c.id)] == [scores] * len(made)
    store.write_unit("run1", [data.answer(CELLS[0], SAMPLES[2]), data.answer(CELLS[0], SAMPLES[3]), *made])
    assert looked
    assert store.totals("run1") == (8, 0) == counted(store)
    assert store.read(counters.recount) == []


def test_no_answer_is_looked_for_in_a_unit_that_nobody_began(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data.begin(store, cells=CELLS)
    ids = [sample_id(one) for one in SAMPLES]
    store.begin_unit("run1", "begun")
    store.write_unit("run1", [data.answer(CELLS[0], SAMPLES[0])])
    mine = {ids[0]: {CELLS[0].id}}
    assert store.done_cells("run1", ids) == store.done_cells("run1", ids, ["fresh", "begun"]) == mine
    assert store.done_cells("run1", ids, ["fresh", "fresh@model"]) == {}


def test_answers_of_a_run_that_is_gone_are_refused(store: Store) -> None:
    """A worker that was given up for dead knows the numbers of its cells still; their counters refuse it."""
    data.begin(store, cells=CELLS)
    store.write_unit("run1", [data.answer(c, SAMPLES[0]) for c in CELLS])
    store.set_status("run1", "complete")
    with open_store(store.url) as other:
        maintenance.prune(other, ["run1"])
    with pytest.raises(StoreError, match=r"(?i)foreign key"):
        store.write_unit("run1", [data.answer(c, SAMPLES[1]) for c in CELLS])
    assert maintenance.sizes(store)["predictions"] == 0
    assert maintenance.broken(store) == []


def test_an_answer_of_no_cell_is_damage(store: Store) -> None:
    data.begin(store, cells=CELLS)
    store.write_unit("run1", [data.answer(c, SAMPLES[0]) for c in CELLS])
    store.transaction(
        lambda c: c.execute(text("update outcomes set cell = 77 where cell = (select max(cell) from outcomes)"))
    )
    assert "1 answers belong to no cell of any run" in maintenance.broken(store)
    assert maintenance.recount(store) == 1
    assert maintenance.broken(store) == ["1 answers belong to no cell of any run"]


def test_a_connection_lost_during_a_copy_is_opened_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(postgres_url, patience_s=30) as store, open_store(postgres_url) as other:
        data.begin(store, cells=CELLS)
        store.write_unit("run1", [data.answer(c, SAMPLES[0]) for c in CELLS])
        with store.engine.connect() as connection:
            backend = connection.execute(text("select pg_backend_pid()")).scalar_one()
        copy, killed = merge._copy, []

        def cut_off(connection: Connection, name: str, kinds: list[str], rows: list[tuple[object, ...]]) -> None:
            if not killed:
                killed.append(backend)
                kill = text("select pg_terminate_backend(:pid, 10000)")
                assert other.transaction(lambda c: c.execute(kill, {"pid": backend}).scalar_one())
            copy(connection, name, kinds, rows)

        monkeypatch.setattr(merge, "_copy", cut_off)
        store.write_unit("run1", [data.answer(c, SAMPLES[1]) for c in CELLS])
        assert killed
        assert store.totals("run1") == (2 * len(CELLS), 0) == counted(store)
