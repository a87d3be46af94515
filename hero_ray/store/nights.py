"""What the nightly guard asks the database and leaves in it: nights, verdicts, alerts, live leases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from hero_ray.core.text import clean_text
from hero_ray.store.records import RunRow
from hero_ray.store.tables import Alert, Lease, Run
from hero_ray.store.writes import now, table

NIGHTLY = "nightly"
VERDICT = "nightly-verdict"
MISSED = "nightly-missed"
GOOD = ("ok", "first", "accepted")


def verdicts(connection: Connection, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Run id -> the last verdict on it, for runs whose id begins with `prefix`."""
    a = table(Alert).c
    statement = (
        select(a.run_id, a.details)
        .where(a.kind == VERDICT, a.run_id.startswith(prefix, autoescape=True))
        .order_by(a.created_at, a.id)
    )
    return {run_id: dict(details or {}) for run_id, details in connection.execute(statement)}


def night_runs(connection: Connection, sweep_name: str | None = None) -> list[RunRow]:
    """Nightly runs, newest first; of one panel if it is named."""
    statement = select(table(Run)).where(Run.trigger == NIGHTLY).order_by(Run.created_at.desc(), Run.id.desc())
    if sweep_name is not None:
        statement = statement.where(Run.sweep_name == sweep_name)
    return [RunRow(**row._mapping) for row in connection.execute(statement)]


def good_nights(connection: Connection, sweep_name: str, before: str, limit: int) -> list[RunRow]:
    """Complete nightly runs of a panel with a good verdict that were created before the run `before`, newest first."""
    judged = verdicts(connection)
    start = connection.execute(select(Run.created_at).where(Run.id == before)).scalar()
    good = [
        run
        for run in night_runs(connection, sweep_name)
        if run.status == "complete"
        and judged.get(run.id, {}).get("state") in GOOD
        and run.id != before
        and (start is None or run.created_at < start)
    ]
    return good[:limit]


def at_work(connection: Connection) -> dict[str, str]:
    """Nightly run id -> who works on it now, by a lease that has not run out."""
    leases = table(Lease).c
    statement = select(leases.run_id, leases.holder).join(Run, Run.id == leases.run_id)
    statement = statement.where(Run.trigger == NIGHTLY, leases.expires_at > now())
    return {row.run_id: row.holder for row in connection.execute(statement)}


def write_verdict(
    connection: Connection,
    run_id: str,
    details: Mapping[str, Any],
    alarms: Sequence[Mapping[str, Any]],
    said: str | None = None,
) -> None:
    """Keep a verdict with its alarms; the verdict itself needs nobody's attention, the alarms do."""
    verdict = {
        "run_id": run_id,
        "cell_id": None,
        "kind": VERDICT,
        "severity": "info",
        "message": f"nightly verdict: {said or details['state']}",
        "details": dict(details),
        "created_at": now(),
        "acknowledged_at": now(),
    }
    rows = [
        {**verdict, **alarm, "message": clean_text(str(alarm["message"])), "acknowledged_at": None} for alarm in alarms
    ]
    connection.execute(table(Alert).insert(), [verdict, *rows])


def acknowledge(connection: Connection, run_id: str) -> int:
    """Mark every open alert of a run as seen; returns how many there were."""
    alerts = table(Alert)
    statement = update(alerts).where(alerts.c.run_id == run_id, alerts.c.acknowledged_at.is_(None))
    return connection.execute(statement.values(acknowledged_at=now())).rowcount


def report_once(connection: Connection, night: str, message: str) -> bool:
    """Leave an alert about a night that nothing ran in; False if there is one already."""
    alerts = table(Alert)
    same = select(alerts.c.id).where(alerts.c.kind == MISSED, alerts.c.message == message)
    if connection.execute(same).first() is not None:
        return False
    row = {"kind": MISSED, "severity": "error", "message": message, "details": {"night": night}, "created_at": now()}
    connection.execute(alerts.insert().values(row))
    return True
