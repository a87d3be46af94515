"""Two databases become one: runs side by side, cells and questions met by their ids, on both kinds of database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_store_maintenance import HERO, RANDOM, everything, fill

from hero_ray.cli import main
from hero_ray.core.errors import StoreError
from hero_ray.store import MetricRow, Store, maintenance, open_store
from hero_ray.store.described import describe
from hero_ray.store.merging import merge


@pytest.fixture
def ours(store: Store) -> Store:
    fill(store, "ours", range(4))
    return store


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "theirs.db")) as opened:
        fill(opened, "theirs", range(2, 8))
        fill(opened, "busy", range(2), status="running")
        opened.add_alert("nightly-missed", "night was missed")
        yield opened


def test_equal_cells_and_questions_are_one(ours: Store, theirs: Store) -> None:
    done = merge(theirs, ours)
    assert (done.runs, done.known, done.unfinished) == (("theirs",), (), ("busy",))
    assert (done.shared_cells, done.predictions) == (2, 12)
    sizes = maintenance.sizes(ours)
    assert (sizes["runs"], sizes["cells"], sizes["samples"], sizes["images"]) == (2, 2, 8, 8)
    assert (sizes["predictions"], sizes["profiles"], sizes["alerts"], sizes["leases"]) == (20, 2, 3, 0)
    assert ours.cell_scores("theirs", HERO.id) == theirs.cell_scores("theirs", HERO.id)
    assert ours.metrics("theirs") == theirs.metrics("theirs")
    assert ours.points(["theirs"]) == theirs.points(["theirs"])
    common = {row.sample_id for row in ours.cell_scores("ours", HERO.id)}
    assert len(common & {row.sample_id for row in ours.cell_scores("theirs", HERO.id)}) == 2
    assert maintenance.broken(ours) == []


def test_a_second_time_changes_nothing(ours: Store, theirs: Store) -> None:
    merge(theirs, ours)
    before, sizes = everything(ours), maintenance.sizes(ours)
    again = merge(theirs, ours)
    assert (again.runs, again.known, again.predictions) == ((), ("theirs",), 0)
    assert (everything(ours), maintenance.sizes(ours)) == (before, sizes)


def test_what_a_run_is_called_comes_along_and_makes_no_other_run_of_it(ours: Store, theirs: Store) -> None:
    theirs.transaction(describe, "theirs", "Baseline", ["paper"])
    merge(theirs, ours)
    assert (ours.run("theirs").name, list(ours.run("theirs").tags)) == ("Baseline", ["paper"])
    ours.transaction(describe, "theirs", "Ours by now")
    assert merge(theirs, ours).known == ("theirs",)
    assert ours.run("theirs").name == "Ours by now"


def test_another_run_of_the_same_id_is_refused_or_renamed(ours: Store, theirs: Store) -> None:
    fill(theirs, "ours", range(3))
    before, sizes = everything(ours), maintenance.sizes(ours)
    with pytest.raises(StoreError, match=r"run ours is in both databases and differs; .*--prefix"):
        merge(theirs, ours)
    assert (everything(ours), maintenance.sizes(ours)) == (before, sizes)
    assert set(merge(theirs, ours, "b-").runs) == {"b-ours", "b-theirs"}
    assert set(merge(theirs, ours, "b-").known) == {"ours", "theirs"}
    assert len(ours.cell_scores("b-ours", RANDOM.id)) == 3
    assert len(ours.cell_scores("ours", RANDOM.id)) == 4


def test_figures_that_were_made_anew_are_a_difference(ours: Store, theirs: Store) -> None:
    merge(theirs, ours)
    theirs.write_metrics("theirs", HERO.id, [MetricRow("accuracy", 1.0, 6), MetricRow("f1", 1.0, 6)])
    with pytest.raises(StoreError, match="differs"):
        merge(theirs, ours)


def test_a_failure_leaves_nothing(ours: Store, theirs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before, sizes = everything(ours), maintenance.sizes(ours)

    def broken(*arguments: object) -> None:
        raise StoreError("the line was cut")

    monkeypatch.setattr("hero_ray.store.merging._alerts", broken)
    with pytest.raises(StoreError, match="line was cut"):
        merge(theirs, ours)
    assert (everything(ours), maintenance.sizes(ours)) == (before, sizes)


def test_from_postgresql_to_sqlite(ours: Store, tmp_path: Path) -> None:
    with open_store(str(tmp_path / "fresh.db")) as fresh:
        assert merge(ours, fresh).runs == ("ours",)
        assert everything(fresh) == everything(ours)


def test_the_verb(theirs: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tmp_path / "ours.db"
    file = tmp_path / "theirs.db"
    for expected in ({"runs": ["theirs"], "known": []}, {"runs": [], "known": ["theirs"]}):
        with pytest.raises(SystemExit) as stopped:
            main(["db", "merge", str(file), "--db", str(ours)])
        assert stopped.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "busy is unfinished and was left out"
        assert json.loads(lines[-1]).items() >= expected.items()
    for arguments, said in (
        (["nowhere.db"], "does not exist"),
        ([f"sqlite:///{tmp_path}/../{tmp_path.name}/ours.db"], "is the database to merge into"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["db", "merge", *arguments, "--db", str(ours)])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
