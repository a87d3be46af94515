"""Rows in Parquet files outside the database: the same table, counters and failures as rows stored at once."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hero_ray.core.errors import RowFileError
from hero_ray.core.types import Prediction
from hero_ray.pipeline import row_files as files
from hero_ray.pipeline import row_loading
from hero_ray.pipeline.row_files import RowWriter
from hero_ray.store import Store, counters, maintenance, merging, open_store, row_files, sample_id, schema
from tests import stored as data
from tests.row_file_data import CELLS, QUESTIONS, UNITS, begin, everything, writer, written

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _begun(store: Store) -> None:
    begin(store)


def missing(done: dict[str, set[str]], unit: str) -> list[tuple[int, int]]:
    return [
        (i, j) for i, s in enumerate(UNITS[unit]) for j, c in enumerate(CELLS) if c.id not in done.get(sample_id(s), ())
    ]


def made(unit: str, owed: Sequence[tuple[int, int]], draw: random.Random) -> list[Prediction]:
    kinds: tuple[Callable[..., Prediction], ...] = (data.answer, data.answer, data.failure)
    found = [draw.choice(kinds)(CELLS[j], UNITS[unit][i]) for i, j in owed]
    return found + found[:1]  # a sample named twice is one sample


@pytest.mark.parametrize("seed", range(3))
def test_any_writes_and_loads_end_as_rows_stored_at_once(store: Store, folder: Path, tmp_path: Path, seed: int) -> None:
    draw, own = random.Random(seed), writer(store, folder)
    with open_store(f"sqlite:///{tmp_path / 'beside.db'}") as beside:
        begin(beside)
        for _ in range(20):
            unit = draw.choice(list(UNITS))
            ids = [sample_id(sample) for sample in UNITS[unit]]
            done = own.done(unit, ids)
            assert done == beside.done_cells("run1", ids)
            if owed := missing(done, unit):
                attempts = [each.begin_unit("run1", unit) for each in (store, beside)]
                found, questions = made(unit, owed, draw), len(UNITS[unit])
                own.write(unit, attempts[0], found, (), questions)
                beside.write_unit("run1", found, unit=(unit, questions))
            if draw.random() < 0.2:
                row_loading.load(store, "run1")
            assert store.totals("run1") == beside.totals("run1")
            assert store.counts("run1") == beside.counts("run1")
            assert store.begun_units("run1") == beside.begun_units("run1")
            assert store.read(counters.recount) == []
        files.finish(store, "run1", folder)
        assert everything(store) == everything(beside)
        assert (store.read(counters.recount), maintenance.broken(store)) == ([], [])
    assert not list(folder.iterdir())
    assert maintenance.sizes(store)["row_files"] == 0


def test_a_file_is_written_whole_and_loaded_once(store: Store, folder: Path) -> None:
    paths = written(store, folder)
    assert len(paths) == len(UNITS)
    assert store.read(row_files.outside, "run1") == (len(UNITS), QUESTIONS * len(CELLS))
    assert (maintenance.sizes(store)["predictions"], store.totals("run1")) == (0, (QUESTIONS * len(CELLS), 0))
    assert row_loading.load(store, "run1") == row_loading.Loaded(len(UNITS), QUESTIONS * len(CELLS))
    assert len(everything(store)) == QUESTIONS * len(CELLS)
    assert row_loading.load(store, "run1") == row_loading.Loaded()
    assert not list(folder.rglob("*.parquet"))
    assert not list(folder.rglob("*.part"))


def test_loads_at_the_same_time_bring_each_row_in_once(store: Store, folder: Path) -> None:
    written(store, folder)
    found: list[row_loading.Loaded] = []

    def bring() -> None:
        with open_store(store.url, patience_s=60) as own:
            found.append(row_loading.load(own, "run1"))

    threads = [threading.Thread(target=bring) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum((one for one in found), row_loading.Loaded()) == row_loading.Loaded(len(UNITS), QUESTIONS * len(CELLS))
    assert store.read(counters.recount) == []


def test_a_load_stopped_before_files_are_removed_is_repeated(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(store, folder)

    class Stopped(BaseException):
        pass

    def stop(*_: object, **__: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", stop)
        with pytest.raises(Stopped):
            row_loading.load(store, "run1")
    before = everything(store)
    assert before
    files.finish(store, "run1", folder)
    assert everything(store)[: len(before)] == before
    assert len(everything(store)) == QUESTIONS * len(CELLS)
    assert (store.read(counters.recount), list(folder.iterdir())) == ([], [])


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "gone": lambda path, other: path.unlink(),
    "cut short": lambda path, other: path.write_bytes(path.read_bytes()[:-100]),
    "a bit flipped": lambda path, other: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "another unit's": lambda path, other: shutil.copy(other, path),
    "empty": lambda path, other: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named_and_its_unit_owed_again(
    store: Store, folder: Path, damage: Callable[[Path, Path], object]
) -> None:
    paths = written(store, folder)
    damage(paths[0], paths[1])
    with pytest.raises(RowFileError, match=f"1 row files could not be loaded .*{paths[0].name}.*same command again"):
        files.finish(store, "run1", folder)
    left = QUESTIONS * len(CELLS) - 4 * len(CELLS)
    assert (len(everything(store)), store.totals("run1")) == (left, (left, 0))
    assert store.read(counters.recount) == []
    (lost,) = (unit for unit, settled in store.begun_units("run1").items() if not settled)
    own = writer(store, folder)
    assert len(missing(own.done(lost, [sample_id(s) for s in UNITS[lost]]), lost)) == 4 * len(CELLS)
    assert store.begin_unit("run1", lost) == 1, "a beginning whose file was lost does not count"
    own.write(lost, 1, [data.answer(c, s) for c in CELLS for s in UNITS[lost]], (), 4)
    files.finish(store, "run1", folder)
    assert len(everything(store)) == QUESTIONS * len(CELLS)
    assert store.read(counters.recount) == []


def test_a_folder_that_is_not_here_changes_nothing(store: Store, folder: Path) -> None:
    written(store, folder)
    folder.rename(folder.with_name("elsewhere"))
    for act in (row_loading.load, lambda store, run: files.begin(store, run, None, print)):
        with pytest.raises(RowFileError, match="is not here; mount it"):
            act(store, "run1")
    assert store.read(row_files.outside, "run1")[0] == len(UNITS)
    assert row_loading.load(store, "run1", folder=folder.with_name("elsewhere")).files == len(UNITS)
    assert store.read(counters.recount) == []
    with pytest.raises(RowFileError, match="a folder that every node sees"):
        RowWriter(store, "run1", folder, {})


def test_a_unit_that_two_workers_answer_counts_once(store: Store, folder: Path) -> None:
    """The first was given up for dead and writes all the same."""
    first, second, unit = writer(store, folder), writer(store, folder), "unit0"
    for attempt in (1, 2):
        assert store.begin_unit("run1", unit) == attempt
    half = [data.answer(c, s) for c in CELLS for s in UNITS[unit][:2]]
    second.write(unit, 2, [*half, data.failure(CELLS[0], UNITS[unit][2])], (), 4)
    first.write(unit, 1, [data.answer(c, s, 0.5) for c in CELLS for s in UNITS[unit]], (), 4)
    assert store.totals("run1") == (4 * len(CELLS), 0)
    assert store.read(counters.recount) == []
    files.finish(store, "run1", folder)
    assert store.totals("run1") == (4 * len(CELLS), 0)
    scores = {row.score for row in store.cell_scores("run1", CELLS[0].id)}
    assert scores == {1.0, 0.5}, "what is committed stays, and the failure gave way"
    assert store.read(counters.recount) == []


def test_runs_with_rows_outside_are_not_merged_and_lose_no_question(store: Store, folder: Path, tmp_path: Path) -> None:
    written(store, folder)
    store.set_status("run1", "cancelled")
    store.create_run("run2", "demo", {}, "hash2")
    store.set_status("run2", "complete")
    maintenance.prune(store, ["run2"])
    with open_store(f"sqlite:///{tmp_path / 'other.db'}") as other:
        done = merging.merge(store, other)
        assert (done.runs, done.unfinished) == ((), ("run1",))
        files.finish(store, "run1", folder)
        assert merging.merge(store, other).predictions == QUESTIONS * len(CELLS)


def test_a_schema_with_files_waiting_is_not_taken_down(store: Store, folder: Path) -> None:
    written(store, folder)
    with pytest.raises(ValueError, match="6 row files are not loaded"):
        schema.downgrade(store.engine, "0007")
    files.finish(store, "run1", folder)
    before = everything(store)
    schema.downgrade(store.engine, "0007")
    schema.upgrade(store.engine)
    assert (everything(store), schema.drift(store.engine)) == (before, [])
