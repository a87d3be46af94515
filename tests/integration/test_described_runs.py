"""A run's name, tags and note: written, read on every surface, and part of no result."""

from __future__ import annotations

import json

import pytest

from hero_ray.cli import main
from hero_ray.core.errors import InputError, StoreError
from hero_ray.store import Store, runs, schema
from hero_ray.store.described import NAME_MAX, describe
from tests import stored as stores


@pytest.fixture(autouse=True)
def _begun(store: Store) -> None:
    stores.begin(store, cells=[stores.cell()])


def test_what_is_given_is_set_and_the_rest_stays(store: Store) -> None:
    before = store.run("run1")
    assert (before.name, list(before.tags), before.note, before.described_at) == ("", [], "", None)
    stamp = store.read(runs.version)
    store.transaction(
        describe, "run1", "  Baseline,\n second try ", [" paper", "paper", "", "gpu box"], "why:\n new weights \n"
    )
    said = store.run("run1")
    assert (said.name, list(said.tags), said.note) == (
        "Baseline, second try",
        ["paper", "gpu box"],
        "why:\n new weights",
    )
    assert store.read(runs.version) != stamp, "pages that are open must notice"
    store.transaction(describe, "run1", note="")
    said = store.run("run1")
    assert (said.name, list(said.tags), said.note) == ("Baseline, second try", ["paper", "gpu box"], "")
    assert (said.config, said.status, said.created_at) == (before.config, before.status, before.created_at)


def test_a_run_is_found_by_its_name_where_only_one_has_it(store: Store) -> None:
    store.transaction(describe, "run1", name="monday")
    assert store.run("monday").id == "run1"
    with pytest.raises(StoreError, match="'mon' is not in the database; `hero-ray status --all` lists the runs"):
        store.run("mon")
    stores.begin(store, "run2", cells=[stores.cell()])
    store.transaction(describe, "run2", name="monday")
    with pytest.raises(StoreError, match="'monday' fits 2 runs"):
        store.run("monday")
    stores.begin(store, "mondays")
    assert store.run("monday").id == "mondays", "ids come first"


def test_the_latest_run_is_one_that_asks_something(store: Store) -> None:
    """After `hero-ray profile`, whose runs hold speeds alone, reports were empty."""
    stores.begin(store, "speeds", cells=[stores.cell()], samples=0)
    assert store.run("latest").id == "run1"
    stores.begin(store, "run2", cells=[stores.cell()])
    assert store.run("latest").id == "run2"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "x" * (NAME_MAX + 1)}, "a name of 81 characters; at most 80"),
        ({"tags": ["a,b"]}, "tag 'a,b' holds a comma"),
        ({"tags": [str(i) for i in range(13)]}, "13 tags; a run takes at most 12"),
        ({"name": "fine", "note": "x" * 4001}, "a note of 4,001 characters"),
    ],
    ids=["name", "comma", "tags", "note"],
)
def test_what_is_too_long_is_refused_whole(store: Store, given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        store.transaction(describe, "run1", **given)
    assert store.run("run1").name == ""


def test_no_such_run(store: Store) -> None:
    with pytest.raises(StoreError, match="run 'nobody' is not in the database"):
        store.transaction(describe, "nobody", "name")


@pytest.mark.slow
def test_the_revision_comes_and_goes(store: Store) -> None:
    store.transaction(describe, "run1", "name", ["tag"])
    schema.downgrade(store.engine, "0006")
    schema.upgrade(store.engine)
    assert (store.run("run1").name, list(store.run("run1").tags)) == ("", [])
    assert schema.drift(store.engine) == []


def test_the_verb_writes_and_the_list_of_runs_says_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            main([*arguments, "--db", store.url])
        return capsys.readouterr().out

    assert said("status", "--all").splitlines()[0].endswith("demo")
    written = json.loads(said("describe", "run", "--name", "Baseline", "--tags", "paper, gpu"))
    assert written == {"run_id": "run1", "sweep": "demo", "name": "Baseline", "tags": ["paper", "gpu"], "note": ""}
    assert json.loads(said("describe", "run1"))["tags"] == ["paper", "gpu"], "without options it only says"
    assert said("status", "--all").splitlines()[0].endswith("demo  Baseline · #paper · #gpu")
    assert json.loads(said("describe", "run1", "--tags", ""))["tags"] == []
