"""A login of PostgreSQL that may read the results and nothing else, for whoever only shows them."""

from __future__ import annotations

from sqlalchemy import Connection, text

from hero_ray.core.errors import StoreError
from hero_ray.store.store import Store

PASSWORD = "HERO_RAY_READER_PASSWORD"


def allow_reading(store: Store, role: str, password: str) -> None:
    """Make the role if it is missing, give it this password, and let it read every table, those to come included.

    Raises:
        StoreError: not PostgreSQL, or this database's own user may not make roles.
    """
    if store.engine.dialect.name != "postgresql":
        raise StoreError("a login that may only read is PostgreSQL's; a SQLite file is protected by its permissions")
    store.transaction(_allow, role, password)


def _allow(connection: Connection, role: str, password: str) -> None:
    known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first()
    database = connection.execute(text("SELECT current_database()")).scalar_one()
    _run(connection, f"{'ALTER' if known else 'CREATE'} ROLE %I WITH LOGIN PASSWORD %L", role, password)
    _run(connection, "ALTER ROLE %I SET default_transaction_read_only = on", role)
    _run(connection, "GRANT CONNECT ON DATABASE %I TO %I", database, role)
    _run(connection, "GRANT USAGE ON SCHEMA public TO %I", role)
    _run(connection, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO %I", role)
    _run(connection, "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO %I", role)


def _run(connection: Connection, statement: str, *names: str) -> None:
    """Statements like these take no parameters: the server itself quotes names (%I) and texts (%L)."""
    places = ", ".join(f"CAST(:n{place} AS text)" for place in range(len(names)))
    given = {f"n{place}": name for place, name in enumerate(names)}
    quoted = connection.execute(text(f"SELECT format('{statement}', {places})"), given).scalar_one()
    connection.exec_driver_sql(quoted.replace("%", "%%"))
