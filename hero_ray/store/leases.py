"""Claims on runs: who works on one, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from hero_ray.core.errors import RunLockedError
from hero_ray.store.runs import find_run
from hero_ray.store.tables import Lease, Run
from hero_ray.store.writes import insert, insert_missing, now, table


def _moment(connection: Connection) -> datetime:
    """The database's own time: drivers' clocks differ, and one that is ahead must not take a claim that lives."""
    if connection.dialect.name == "postgresql":
        return connection.execute(select(func.clock_timestamp())).scalar_one()
    return now()


def acquire_lease(connection: Connection, run_id: str, holder: str, ttl_s: float = 60.0) -> None:
    """Claim a run in one atomic statement; an expired claim may be taken over.

    Raises:
        RunLockedError: someone else holds it.
    """
    leases = table(Lease)
    moment = _moment(connection)
    statement = insert(connection.dialect.name, Lease).values(
        run_id=run_id, holder=holder, acquired_at=moment, expires_at=moment + timedelta(seconds=ttl_s)
    )
    changed = {name: statement.excluded[name] for name in ("holder", "acquired_at", "expires_at")}
    statement = statement.on_conflict_do_update(
        index_elements=["run_id"], set_=changed, where=(leases.c.expires_at < moment) | (leases.c.holder == holder)
    )
    if connection.execute(statement.returning(leases.c.holder)).first() is None:
        held = connection.execute(select(leases.c.holder, leases.c.expires_at).where(leases.c.run_id == run_id)).one()
        raise RunLockedError(
            f"run {run_id} is held by {held.holder} until {held.expires_at:%H:%M:%S} UTC; "
            "wait for it to finish, or for its lease to expire if it died"
        )


def heartbeat(connection: Connection, run_id: str, holder: str, ttl_s: float = 60.0) -> None:
    """Extend a claim.

    Raises:
        RunLockedError: the claim was lost to someone else.
    """
    leases = table(Lease)
    mine = (leases.c.run_id == run_id) & (leases.c.holder == holder)
    statement = update(leases).where(mine).values(expires_at=_moment(connection) + timedelta(seconds=ttl_s))
    if connection.execute(statement).rowcount == 0:
        other = connection.execute(select(leases.c.holder).where(leases.c.run_id == run_id)).scalar()
        raise RunLockedError(f"the lease of {holder} on run {run_id} is gone; it is now held by {other or 'nobody'}")


def release(connection: Connection, run_id: str, holder: str) -> None:
    """Give a claim back; giving back one that is not held does nothing."""
    connection.execute(delete(Lease).where((Lease.run_id == run_id) & (Lease.holder == holder)))


def add_run(connection: Connection, row: Mapping[str, Any], first: bool) -> str:
    """Insert a run unless there is one of its id, or with `first` of its configuration; the id of the one there then.

    Two drivers that start together look before either has written: the second waits here for the first.
    """
    if not first:
        insert_missing(connection, Run, [row])
        return str(row["id"])
    if connection.dialect.name == "postgresql":  # SQLite lets one transaction write at a time
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(row["config_hash"]))))
    found = find_run(connection, row["config_hash"])
    if found is None:
        insert_missing(connection, Run, [row])
    return str(row["id"]) if found is None else found.id
