"""Alembic environment: migrates the connection it is handed, or the database that HERO_RAY_DB names."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine

from hero_ray.store import default_url
from hero_ray.store.base import Base


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


handed = context.config.attributes.get("connection")
if context.is_offline_mode():
    context.configure(url=default_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif handed is not None:
    migrate(handed)
else:
    with create_engine(default_url()).connect() as opened:
        migrate(opened)
