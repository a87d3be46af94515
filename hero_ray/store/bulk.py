"""Predictions on their way into the database: one bulk insert a unit, and the counts moved with it.

SQLite takes all rows of a unit by one prepared statement, PostgreSQL by a binary COPY into a table of the connection's
own and one merge. Either way the counters of the unit's cells move in the same transaction, so that progress costs the
same at the first and at the last answer; `hero-ray db check` recounts them.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping, Sequence
from socket import gethostname
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select, text

from hero_ray.core.text import clean_text
from hero_ray.core.types import Prediction
from hero_ray.store.engine import dump_json
from hero_ray.store.tables import CellTotal, PredictionTable
from hero_ray.store.writes import finite, insert, table

TYPES = {
    "run_id": "text",
    "cell_id": "text",
    "sample_id": "text",
    "text": "text",
    "score": "float8",
    "scores": "jsonb",
    "n_text": "int4",
    "budget_nominal": "int4",
    "n_selected": "int4",
    "n_visual_llm": "int4",
    "equivalent_tokens": "float8",
    "visual_per_layer": "jsonb",
    "flops": "float8",
    "encode_flops": "float8",
    "kv_bytes": "int8",
    "keep_mask": "bytea",
    "geometry": "jsonb",
    "error_type": "text",
    "error_message": "text",
}
"""What a unit brings of each prediction, in the order of a `Row`, by PostgreSQL's names of types."""
_FAILURE = list(TYPES).index("error_type")
KEYS = ("run_id", "cell_id", "sample_id")
_NAMES = ", ".join(TYPES)
_UPSERT = (
    f"ON CONFLICT ({', '.join(KEYS)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in TYPES if name not in KEYS)
    + ", attempts = predictions.attempts + 1 WHERE predictions.error_type IS NOT NULL"
)
"""A committed answer stays as it is, a failure gives way to a later outcome and counts its attempts."""
_SQLITE = f"INSERT INTO predictions ({_NAMES}) VALUES ({', '.join('?' * len(TYPES))}) "

SHARDS = 16
"""Rows over which PostgreSQL spreads a cell's counters: writers of one row would wait for each other's commit."""
_STAGED = {name: "text" if kind == "jsonb" else kind for name, kind in TYPES.items()}
_STAGING = (
    f"CREATE TEMP TABLE IF NOT EXISTS arriving ({', '.join(f'{name} {kind}' for name, kind in _STAGED.items())}) "
    "ON COMMIT DELETE ROWS"
)
_CAST = ", ".join(f"{name}::jsonb" if kind == "jsonb" else name for name, kind in TYPES.items())
# A row that an INSERT ... ON CONFLICT returns was there before if it has a deleting transaction (xmax), its own.
_MERGE = text(
    f"WITH written AS (INSERT INTO predictions ({_NAMES}) SELECT {_CAST} FROM arriving ORDER BY cell_id, sample_id "
    f"{_UPSERT} RETURNING run_id, cell_id, xmax = 0 AS fresh, error_type IS NOT NULL AS failed) "
    "INSERT INTO cell_totals (run_id, cell_id, shard, stored, failed) "
    "SELECT run_id, cell_id, :shard, sum(fresh::int), sum(failed::int - (NOT fresh)::int) FROM written "
    "GROUP BY run_id, cell_id ORDER BY cell_id "
    "ON CONFLICT (run_id, cell_id, shard) DO UPDATE SET "
    "stored = cell_totals.stored + excluded.stored, failed = cell_totals.failed + excluded.failed"
)

Row = tuple[Any, ...]
State = dict[str, tuple[int, int]]
"""Cell id -> rows there, and failures among them."""


def main_score(scores: Mapping[str, Any], metric: str | None) -> float | None:
    """A sample's figure for charts and paired tests.

    `metric` names it; without, or where the scorer has no such key, the first number among `scores` is taken. A
    composite entry counts by its own "score".
    """
    ordered = (scores[metric],) if metric is not None and metric in scores else scores.values()
    for value in ordered:
        value = value.get("score") if isinstance(value, Mapping) else value
        if value is not None and not isinstance(value, str) and hasattr(value, "__float__"):
            return float(value)
    return None


def prediction_row(
    run_id: str, prediction: Prediction, sample: str, metric: str | None, known: dict[str, str] | None = None
) -> Row:
    """A prediction in the order of `TYPES`; a score that is not finite makes it a named failure.

    Args:
        known: JSON texts of scores of this unit, by their repr: most answers of a unit score one of a few things.
    """
    error_type, message = prediction.error_type, prediction.error_message
    score = None if error_type else main_score(prediction.scores, metric)
    if score is not None and not math.isfinite(score):
        score, error_type, message = None, "NonFiniteScoreError", f"the benchmark scored this answer {score}"
    tokens = prediction.tokens
    return (
        run_id,
        prediction.cell_id,
        sample,
        clean_text(prediction.text),
        score,
        None if error_type else _scores(prediction.scores, {} if known is None else known),
        tokens and tokens.n_text,
        tokens and tokens.budget_nominal,
        tokens and tokens.n_selected,
        tokens and tokens.n_visual_llm,
        tokens and tokens.equivalent_tokens,
        _layers(prediction),
        prediction.flops,
        prediction.encode_flops,
        prediction.kv_bytes,
        prediction.keep_mask,
        dump_json(list(prediction.geometry)) if prediction.geometry else None,
        error_type,
        clean_text(message)[:2000] if message else None,
    )


def _scores(scores: Mapping[str, Any], known: dict[str, str]) -> str:
    key = repr(scores)
    if key not in known:
        known[key] = dump_json(finite(dict(scores)))
    return known[key]


def _layers(prediction: Prediction) -> str | None:
    """Tokens alive per block, kept only where they differ between blocks: they repeat `n_visual_llm` otherwise."""
    layers = prediction.tokens.visual_per_layer if prediction.tokens else ()
    return dump_json(list(layers)) if len(set(layers)) > 1 else None


def write_predictions(connection: Connection, rows: Sequence[Row]) -> None:
    """Upsert on (run, cell, sample), and move the counters of the cells by what that changed."""
    if not rows:
        return
    once: dict[tuple[str, str], Row] = {}
    for row in rows:
        if (key := (row[1], row[2])) not in once or once[key][_FAILURE] is not None:
            once[key] = row
    ordered = [once[key] for key in sorted(once)]  # in one order, so that two writers of the same cannot deadlock
    if connection.dialect.name == "sqlite":
        _write_sqlite(connection, ordered)
    else:
        _write_postgresql(connection, ordered)


def _write_sqlite(connection: Connection, rows: list[Row]) -> None:
    with connection.begin_nested() as attempt:
        found = connection.exec_driver_sql(_SQLITE + "ON CONFLICT DO NOTHING", rows)
        if found.rowcount < len(rows):  # a unit begun before
            attempt.rollback()
    if found.rowcount == len(rows):
        before, after = {}, _counted(rows)
    else:
        before = _stored(connection, rows)
        connection.exec_driver_sql(_SQLITE + _UPSERT, rows)
        after = _stored(connection, rows)
    moved = [
        {"run_id": rows[0][0], "cell_id": cell, "shard": 0, "stored": n - old, "failed": failed - bad}
        for cell, (n, failed) in after.items()
        for old, bad in [before.get(cell, (0, 0))]
    ]
    statement = insert(connection, CellTotal)
    held = table(CellTotal).c
    changed = {name: held[name] + statement.excluded[name] for name in ("stored", "failed")}
    connection.execute(statement.on_conflict_do_update(index_elements=[*KEYS[:2], "shard"], set_=changed), moved)


def _counted(rows: list[Row]) -> State:
    found: State = {}
    for row in rows:
        n, failed = found.get(row[1], (0, 0))
        found[row[1]] = n + 1, failed + (row[_FAILURE] is not None)
    return found


def _stored(connection: Connection, rows: list[Row]) -> State:
    """What is there of the cells and samples of a unit."""
    p = table(PredictionTable).c
    statement = (
        select(p.cell_id, func.count(), func.count(p.error_type))
        .where(p.run_id == rows[0][0], p.sample_id.in_(bindparam("samples", expanding=True)))
        .group_by(p.cell_id)
    )
    found = connection.execute(statement, {"samples": sorted({row[2] for row in rows})})
    mine = {row[1] for row in rows}
    return {cell: (n, failed) for cell, n, failed in found if cell in mine}


def _write_postgresql(connection: Connection, rows: list[Row]) -> None:
    connection.exec_driver_sql(_STAGING)
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy(f"COPY arriving ({_NAMES}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(list(_STAGED.values()))
        for row in rows:
            copy.write_row(row)
    writer = zlib.crc32(f"{gethostname()}:{os.getpid()}".encode()) % SHARDS
    connection.execute(_MERGE, {"shard": writer})


def recount(connection: Connection) -> list[tuple[str, str, int, int, int, int]]:
    """(run, cell, stored, failed, stored as counted, failed as counted) of every cell whose counters are wrong."""
    p, t = table(PredictionTable).c, table(CellTotal).c
    real = {
        (run, cell): (int(n), int(failed))
        for run, cell, n, failed in connection.execute(
            select(p.run_id, p.cell_id, func.count(), func.count(case((p.error_type.is_not(None), 1)))).group_by(
                p.run_id, p.cell_id
            )
        )
    }
    kept = {
        (run, cell): (int(n), int(failed))
        for run, cell, n, failed in connection.execute(
            select(t.run_id, t.cell_id, func.sum(t.stored), func.sum(t.failed)).group_by(t.run_id, t.cell_id)
        )
    }
    nothing = (0, 0)
    return [
        (*key, *kept.get(key, nothing), *real.get(key, nothing))
        for key in sorted(real.keys() | kept.keys())
        if real.get(key, nothing) != kept.get(key, nothing)
    ]
