"""Results of studies: written once, read newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from hero_ray.store.tables import StudyTable
from hero_ray.store.writes import finite, now, table


def add(
    connection: Connection,
    study_id: str,
    name: str,
    model: str,
    request: Mapping[str, Any],
    result: Mapping[str, Any],
    git_commit: str | None,
) -> None:
    """Keep one execution of a study."""
    row = {
        "id": study_id,
        "name": name,
        "model": model,
        "request": finite(dict(request)),
        "result": finite(dict(result)),
        "git_commit": git_commit,
        "created_at": now(),
    }
    connection.execute(table(StudyTable).insert(), row)


def found(connection: Connection, name: str | None = None) -> list[dict[str, Any]]:
    """Executions, newest first; of one study if it is named."""
    studies = table(StudyTable)
    statement = select(studies).order_by(studies.c.created_at.desc(), studies.c.id)
    if name is not None:
        statement = statement.where(studies.c.name == name)
    return [dict(row._mapping) for row in connection.execute(statement)]


def newest(connection: Connection) -> list[dict[str, Any]]:
    """The newest execution of every study on every model, in the order of their names."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found(connection):
        latest.setdefault((row["name"], row["model"]), row)
    return [latest[key] for key in sorted(latest)]
