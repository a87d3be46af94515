"""Numbers that papers printed, as they lie in the database. Nothing here writes.

Functions over an open connection: ask them by `store.read(printed.NAME, ...)`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from hero_ray.store.tables import (
    Published,
    PublishedAblation,
    PublishedEfficiency,
)
from hero_ray.store.writes import table


def published(connection: Connection, plot_only: bool = True) -> list[dict[str, Any]]:
    """Main results printed in papers; `plot_only` leaves out text that contradicts a table."""
    statement = select(table(Published)).order_by(Published.line)
    if plot_only:
        statement = statement.where(Published.plot)
    return [dict(row._mapping) for row in connection.execute(statement)]


def published_efficiency(connection: Connection) -> list[dict[str, Any]]:
    """Cost figures printed in papers, with ours recomputed beside them."""
    statement = select(table(PublishedEfficiency)).order_by(PublishedEfficiency.line)
    return [dict(row._mapping) for row in connection.execute(statement)]


def published_ablations(connection: Connection, plot_only: bool = True) -> list[dict[str, Any]]:
    """Ablation figures printed in papers."""
    statement = select(table(PublishedAblation)).order_by(PublishedAblation.line)
    if plot_only:
        statement = statement.where(PublishedAblation.plot)
    return [dict(row._mapping) for row in connection.execute(statement)]
