"""Bring a database to the schema this code expects, or say clearly why it is not there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

from hero_ray.core.errors import StoreError
from hero_ray.core.shipped import folder

HEAD = "0009"
"""Newest revision under `db/versions`; a test holds the two together."""


_one_at_a_time = threading.Lock()  # Alembic keeps its context in module globals


def scripts() -> Path:
    """Folder of the Alembic environment.

    Raises:
        StoreError: it is missing.
    """
    found = folder("db")
    if not (found / "env.py").is_file():
        raise StoreError(f"the migration scripts are missing; expected them in {found}; install hero-ray again")
    return found


def current(connection: Connection) -> str | None:
    """Revision a database is at; None if it holds none of our tables yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _config(connection: Connection):  # type: ignore[no-untyped-def]
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(scripts()))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _migrating(engine: Engine) -> Iterator[Connection]:
    """A connection in one transaction that no other process migrates beside.

    SQLite changes a table by copying and dropping it; with foreign keys enforced, dropping would delete every row that
    points to it, and they can only be switched outside a transaction.
    """
    with _one_at_a_time, engine.connect().execution_options(immediate=True) as connection:
        raw = connection.connection.driver_connection if engine.dialect.name == "sqlite" else None
        if raw is not None:
            raw.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                if raw is None:
                    connection.execute(text("SELECT pg_advisory_xact_lock(4735001)"))
                yield connection
        finally:
            if raw is not None:
                raw.execute("PRAGMA foreign_keys=ON")


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Create or migrate every table, all or nothing. Several processes may call it at once: they take turns."""
    from alembic import command

    with _migrating(engine) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str = "base") -> None:
    """Undo migrations down to `revision`; the data of dropped tables is gone."""
    from alembic import command

    with _migrating(engine) as connection:
        command.downgrade(_config(connection), revision)


def drift(engine: Engine) -> list[str]:
    """Differences between the tables in the database and those in code; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from hero_ray.store.base import VIEW, Base

    def is_table(thing: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
        return kind != "table" or not thing.info.get(VIEW)

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": is_table})
        return [str(difference) for difference in compare_metadata(context, Base.metadata)]


def require(connection: Connection, shown: str) -> None:
    """Check that the database is at the revision this code reads.

    Raises:
        StoreError: no tables, an older schema, or one newer than this code.
    """
    found = current(connection)
    if found == HEAD:
        return
    if found is None:
        raise StoreError(f"database {shown} holds no hero_ray tables; a sweep makes them once it is planned")
    if found > HEAD:
        raise StoreError(
            f"database {shown} has schema {found}, newer than this version knows ({HEAD}); update hero-ray"
        )
    raise StoreError(f"database {shown} has schema {found}, expected {HEAD}; run `hero-ray db upgrade`")
