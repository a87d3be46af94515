"""The database that commit c684a8b wrote (tests/fixtures/c684a8b), unpacked for tests of either kind of database."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path

from sqlalchemy import MetaData, create_engine, insert, select

FIXTURE = Path(__file__).parent / "fixtures" / "c684a8b"
REVISION = "0002"
"""Schema of the database as it was written."""


def unpack(folder: Path) -> Path:
    """The database as `hero_ray.db` in a user's folder, with the sweep files it was made from beside it."""
    for file in (*FIXTURE.glob("*.yaml"), *FIXTURE.glob("*.jsonl")):
        shutil.copy(file, folder)
    database = folder / "hero_ray.db"
    database.write_bytes(lzma.decompress((FIXTURE / "results.db.xz").read_bytes()))
    return database


def fill_postgresql(database: Path, url: str) -> None:
    """The same rows in an empty PostgreSQL database, in the schema of their time."""
    from hero_ray.store import schema

    target = create_engine(url)
    schema.upgrade(target, REVISION)
    source = create_engine(f"sqlite:///{database}")
    there, here = MetaData(), MetaData()
    there.reflect(source)
    here.reflect(target)
    with source.connect() as out, target.begin() as into:
        for table in here.sorted_tables:
            rows = [dict(row) for row in out.execute(select(there.tables[table.name])).mappings()]
            if rows and table.name != "alembic_version":
                into.execute(insert(table), rows)
        into.exec_driver_sql("SELECT setval(pg_get_serial_sequence('alerts', 'id'), (SELECT max(id) FROM alerts))")
    source.dispose()
    target.dispose()
