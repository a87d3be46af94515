"""The statements by which a unit's rows come in, for each database; `bulk` says when."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from socket import gethostname
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

CUT = {
    "budget_nominal": "int4",
    "n_selected": "int4",
    "n_visual_llm": "int4",
    "equivalent_tokens": "float8",
    "visual_per_layer": "jsonb",
    "encode_flops": "float8",
    "keep_mask": "bytea",
    "geometry": "jsonb",
}
"""What a cut holds, by PostgreSQL's names of types."""
_CUTS = {"number": "int8", **CUT}
_OUTCOMES = {
    "cell": "int4",
    "sample": "int8",
    "cut": "int8",
    "text": "text",
    "score": "float8",
    "scores": "jsonb",
    "n_text": "int4",
    "flops": "float8",
    "kv_bytes": "int8",
    "error_type": "text",
    "error_message": "text",
    "attempts": "int4",
}
_NAMES = ", ".join(_OUTCOMES)
_UPSERT = (
    "ON CONFLICT (cell, sample) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _OUTCOMES if name not in ("cell", "sample", "attempts"))
    + ", attempts = outcomes.attempts + 1 WHERE outcomes.error_type IS NOT NULL"
)
"""A committed answer stays as it is, a failure gives way to a later outcome and counts its attempts."""


def _insert(name: str, columns: Sequence[str], rest: str) -> str:
    return f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) {rest}"


_MOVED = (
    "ON CONFLICT (cell, shard) DO UPDATE SET stored = cell_totals.stored + excluded.stored, "
    "failed = cell_totals.failed + excluded.failed"
)
SQLITE_CUTS = _insert("cuts", [*_CUTS], "")
SQLITE_FRESH = _insert("outcomes", [*_OUTCOMES], "ON CONFLICT DO NOTHING")
SQLITE_UPSERT = _insert("outcomes", [*_OUTCOMES], _UPSERT)
_SQLITE_TOTALS = f"INSERT INTO cell_totals (cell, shard, stored, failed) VALUES (?, 0, ?, ?) {_MOVED}"
_TOTALS = text(
    "INSERT INTO cell_totals (cell, shard, stored, failed) SELECT cell, :shard, n, bad FROM "
    "unnest(CAST(:cells AS int[]), CAST(:stored AS int[]), CAST(:failed AS int[])) AS moved(cell, n, bad) "
    f"ORDER BY cell {_MOVED}"
)

BLOCK = 2**16
"""Cuts that come in at once, at most: 64 questions times the methods and budgets of a sweep that read them."""
SHARDS = 16
"""Rows over which PostgreSQL spreads a cell's counters: writers of one row would wait for each other's commit."""


def _staging(name: str, columns: dict[str, str]) -> str:
    kinds = ", ".join(f"{column} {_carried(kind)}" for column, kind in columns.items())
    return f"CREATE TEMP TABLE IF NOT EXISTS {name} ({kinds}) ON COMMIT DELETE ROWS"


def _carried(kind: str) -> str:
    return "text" if kind == "jsonb" else kind


def _cast(columns: dict[str, str]) -> str:
    return ", ".join(f"{name}::jsonb" if kind == "jsonb" else name for name, kind in columns.items())


_MERGE_CUTS = f"INSERT INTO cuts ({', '.join(_CUTS)}) SELECT {_cast(_CUTS)} FROM arriving_cuts ORDER BY number"
_TAKE = f"INSERT INTO outcomes ({_NAMES}) SELECT {_cast(_OUTCOMES)} FROM arriving ORDER BY cell, sample {_UPSERT}"
# A row that an INSERT ... ON CONFLICT returns was there before if it has a locking transaction (xmax): its own.
_MERGE = text(
    f"WITH written AS ({_TAKE} RETURNING cell, (xmax = 0)::int AS fresh, (error_type IS NOT NULL)::int AS failed) "
    "INSERT INTO cell_totals (cell, shard, stored, failed) "
    f"SELECT cell, :shard, sum(fresh), sum(failed - 1 + fresh) FROM written GROUP BY cell ORDER BY cell {_MOVED}"
)


def first_cut(connection: Connection, count: int) -> int:
    """The first of so many numbers in a row that no other cut has or gets."""
    if connection.dialect.name == "sqlite":  # one writer at a time
        return int(connection.exec_driver_sql("SELECT coalesce(max(number), 0) + 1 FROM cuts").scalar_one())
    if not count:
        return 0
    # A block of its own for every writer; numbers of blocks not filled stay free.
    block = int(connection.exec_driver_sql("SELECT nextval('cut_blocks')").scalar_one())
    return block * BLOCK


def move(connection: Connection, moved: Sequence[tuple[int, int, int]]) -> None:
    """Move counters: cell, rows more, failures more, in the order of cells (two writers cannot deadlock)."""
    if not moved:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_SQLITE_TOTALS, list(moved))
        return
    # As text: an array is parsed by the server in less time than the driver takes to pack it.
    cells, stored, failed = (f"{{{','.join(map(str, column))}}}" for column in zip(*moved, strict=True))
    connection.execute(_TOTALS, {"shard": _shard(), "cells": cells, "stored": stored, "failed": failed})


def _shard() -> int:
    return zlib.crc32(f"{gethostname()}:{os.getpid()}".encode()) % SHARDS


def add_new(connection: Connection, cuts: Sequence[tuple[Any, ...]], rows: Sequence[tuple[Any, ...]]) -> None:
    """Bring rows that are new into PostgreSQL: binary COPY straight into the tables.

    Raises:
        IntegrityError: some are there. Nothing may be committed.
    """
    for name, columns, some in (("cuts", _CUTS, cuts), ("outcomes", _OUTCOMES, rows)):
        if some:
            into = f"{name} ({', '.join(columns)})"
            _copy(connection, into, [_carried(kind) for kind in columns.values()], _marked(columns, some))


def _marked(columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
    """JSON as jsonb travels in binary: its text behind the number of the format, which is 1."""
    for at in (place for place, kind in enumerate(columns.values()) if kind == "jsonb"):
        rows = [(*row[:at], row[at] and "\x01" + row[at], *row[at + 1 :]) for row in rows]
    return rows


def arrive(
    connection: Connection, cuts: Sequence[tuple[Any, ...]], rows: Sequence[tuple[Any, ...]], counted: bool = False
) -> None:
    """Bring rows into PostgreSQL of which some may be there: COPY into tables of this connection's own, one merge.

    Args:
        counted: leave the counters as they are.
    """
    for name, columns, some in (("arriving_cuts", _CUTS, cuts), ("arriving", _OUTCOMES, rows)):
        connection.exec_driver_sql(_staging(name, columns))
        connection.exec_driver_sql(f"TRUNCATE {name}")  # a transaction may bring several batches
        _copy(connection, name, [_carried(kind) for kind in columns.values()], some)
    connection.exec_driver_sql(_MERGE_CUTS)
    if counted:
        connection.exec_driver_sql(_TAKE)
    else:
        connection.execute(_MERGE, {"shard": _shard()})


def _copy(connection: Connection, name: str, kinds: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """COPY goes past SQLAlchemy, so its failures are brought into the form in which all others come."""
    raw: Any = connection.connection.driver_connection
    driver: Any = connection.dialect.loaded_dbapi
    try:
        with raw.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(kinds)
            for row in rows:
                copy.write_row(row)
    except driver.Error as problem:
        lost = connection.dialect.is_disconnect(problem, raw, None)
        if lost:
            connection.invalidate(problem)
        kind = IntegrityError if isinstance(problem, driver.IntegrityError) else DBAPIError
        raise kind(f"COPY {name}", None, problem, connection_invalidated=lost) from problem
