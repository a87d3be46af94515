"""What a sweep printed at its end, beside a hash of the figures it was made from."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, select

from hero_ray.store.tables import CellTable, EndingTable, MetricTable, Profile, Run, RunCell
from hero_ray.store.writes import replace_rows, table


def figures_hash(connection: Connection, run_id: str) -> str:
    """Hash of a run, its cells with their states and mean costs, its metrics and its speeds.

    Whatever changes answers of a closed cell closes it again, which its `summarised_at` tells.
    """
    found = hashlib.sha256()
    cells, used = table(CellTable), select(table(RunCell).c.cell_id).where(table(RunCell).c.run_id == run_id)
    own = (select(table(model)).where(table(model).c.run_id == run_id) for model in (RunCell, MetricTable, Profile))
    for statement in (
        select(table(Run)).where(table(Run).c.id == run_id),
        select(cells).where(cells.c.id.in_(used)),
        *own,
    ):
        found.update("\n".join(sorted(repr(tuple(row)) for row in connection.execute(statement))).encode())
    return found.hexdigest()


def kept(connection: Connection, run_id: str, made_from: str | None = None) -> dict[str, Any] | None:
    """What was printed of exactly these figures, or of whatever figures there were last; None if nothing was."""
    e = table(EndingTable).c
    mine = (e.run_id == run_id) if made_from is None else (e.run_id == run_id) & (e.made_from == made_from)
    found: Any = connection.execute(select(e.shown).where(mine)).scalar()
    return found  # type: ignore[no-any-return]


def keep(connection: Connection, run_id: str, made_from: str, shown: dict[str, Any]) -> None:
    """Keep what was printed last."""
    replace_rows(connection, EndingTable, [{"run_id": run_id, "made_from": made_from, "shown": shown}])
