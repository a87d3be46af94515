"""Database addresses: what is refused, and that refusing leaves nothing behind."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from hero_ray.core.errors import StoreError
from hero_ray.store import default_url, open_store, schema
from hero_ray.store.engine import absolute_url, dump_json, parse_url
from hero_ray.store.schema import HEAD, scripts


def test_the_default_is_the_environment_then_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERO_RAY_DB", "postgresql://host/name")
    assert default_url() == "postgresql://host/name"
    monkeypatch.delenv("HERO_RAY_DB")
    assert default_url() == "sqlite:///hero_ray.db"


def test_a_job_writes_to_the_database_it_was_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERO_RAY_DB", "postgresql://u:secret-one@host/hero?sslpassword=secret-two")
    monkeypatch.setenv("HERO_RAY_DB_NAME", "hero")
    assert default_url().endswith("/hero?sslpassword=secret-two")
    monkeypatch.setenv("HERO_RAY_DB_NAME", "other")
    with pytest.raises(StoreError, match=r"wanted in the database 'other'.*every node") as caught:
        default_url()
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("HERO_RAY_DB")
    with pytest.raises(StoreError, match=r"sqlite:///hero_ray\.db"):
        default_url()


@pytest.mark.parametrize(
    ("text", "driver"),
    [("results.db", "sqlite"), ("sqlite://", "sqlite"), ("postgresql://u:secret@h/d", "postgresql+psycopg")],
)
def test_addresses_are_read(text: str, driver: str) -> None:
    assert parse_url(text).drivername == driver


@pytest.mark.parametrize("text", ["mysql://host/db", "://", "oracle://x"])
def test_other_databases_are_refused(text: str) -> None:
    with pytest.raises(StoreError, match="expected sqlite"):
        parse_url(text)


def test_a_read_only_folder_is_refused_and_left_empty(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StoreError, match="read-only"):
            open_store(f"sqlite:///{tmp_path / 'x.db'}")
        assert list(tmp_path.iterdir()) == []
    finally:
        tmp_path.chmod(0o755)


def test_a_read_only_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_store(str(path)).close()
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(StoreError, match="read-only"):
        open_store(str(path))
    assert path.read_bytes() == before
    with open_store(str(path), read_only=True) as reader:
        assert reader.runs() == []


def test_a_missing_folder_and_a_folder_as_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist; create it"):
        open_store(str(tmp_path / "no" / "x.db"))
    with pytest.raises(StoreError, match="is a folder"):
        open_store(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, not a database, and they are longer than a header" * 4)
    with pytest.raises(StoreError, match="not a database"):
        open_store(str(path))


def test_passwords_stay_out_of_messages() -> None:
    with pytest.raises(StoreError) as caught:
        open_store("postgresql://user:sesame@127.0.0.1:1/none", patience_s=0)
    assert "sesame" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_the_known_revision_is_the_newest_script() -> None:
    revisions = sorted(path.name.split("_")[0] for path in (scripts() / "versions").glob("*.py"))
    assert revisions[-1] == HEAD


def test_json_takes_what_scorers_return() -> None:
    numpy = pytest.importorskip("numpy")
    assert dump_json({"a": numpy.float64(0.5), "b": (1, 2), "c": {"x"}}) == '{"a":0.5,"b":[1,2],"c":["x"]}'
    assert dump_json({"n": "a\x00b", "literal": "\\u0000"}) == '{"n":"a\\ufffdb","literal":"\\\\u0000"}'


def test_migrations_cannot_cascade_and_everything_else_is_guarded(tmp_path: Path) -> None:
    """SQLite recreates a table to change it; with foreign keys on, that would delete all rows pointing to it."""
    with open_store(str(tmp_path / "x.db")) as store:
        with schema._migrating(store.engine) as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 0
        with store.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


@pytest.mark.parametrize("name", ["odd name ?x.db", "a?mode=ro", "?", "100%3F.db", "with#hash.db"])
def test_a_path_is_the_whole_name_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also for a copy of the store in a worker, and as the absolute path that jobs are told."""
    monkeypatch.chdir(tmp_path)
    with open_store(name) as store:
        store.create_run("r", "sweep", {}, "hash")
        again = pickle.loads(pickle.dumps(store))
    with open_store(absolute_url(name), read_only=True) as same:
        assert [row.id for row in again.runs()] == [row.id for row in same.runs()] == ["r"]
    again.close()
    assert {path.name.removesuffix("-wal").removesuffix("-shm") for path in tmp_path.iterdir()} == {name}


def test_a_sqlite_address_takes_no_options() -> None:
    with pytest.raises(StoreError, match=r"no options after a \?"):
        parse_url("sqlite:///results.db?mode=ro")
