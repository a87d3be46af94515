"""`Store`: one results database, as the rest of the program sees it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from hero_ray.core.errors import StoreError
from hero_ray.core.types import Cell, Prediction, Sample
from hero_ray.store import queries, schema, writes
from hero_ray.store.engine import (
    check_sqlite_path,
    clean_text,
    default_url,
    dump_json,
    explain,
    make_engine,
    parse_url,
    retrying,
    shown,
)
from hero_ray.store.records import CellCount, CellRow, ImageRecord, MetricRow, PointRow, RunRow, ScoreRow, sample_id
from hero_ray.store.tables import Alert, Lease, Profile, Run, RunCell

T = TypeVar("T")

READ_PATIENCE_S = 10.0
"""A page that only reads should say soon that its database is away."""


class Store:
    """A results database. Cheap to make and to pickle: the connection opens on first use, in the process that uses it.

    Args:
        url: `sqlite:///PATH`, `postgresql://...` or a path.
        read_only: every connection refuses to write.
        patience_s: how long a write keeps trying while the database is locked or away.
    """

    def __init__(self, url: str, read_only: bool = False, patience_s: float = 120.0) -> None:
        self._url = parse_url(url)
        self.url = self._url.render_as_string(hide_password=False)
        self.shown_url = shown(self._url)
        self.read_only = read_only
        self.patience_s = min(patience_s, READ_PATIENCE_S) if read_only else patience_s
        self.migrated = False  # whether opening it made or changed its tables
        self._engine: Engine | None = None
        self._pid = 0

    def __reduce__(self) -> tuple[type[Store], tuple[str, bool, float]]:
        return type(self), (self.url, self.read_only, self.patience_s)

    def __repr__(self) -> str:
        return f"Store({self.shown_url!r}{', read_only=True' if self.read_only else ''})"

    @property
    def engine(self) -> Engine:
        """This process's engine; a forked child gets its own and leaves the parent's connections alone."""
        if self._engine is not None and self._pid != os.getpid():
            self._engine.dispose(close=False)
            self._engine = None
        if self._engine is None:
            self._engine, self._pid = make_engine(self._url, self.read_only), os.getpid()
        return self._engine

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()
        self._engine = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for `queries`; database failures come out as one clear StoreError."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise explain(problem, self._url) from problem

    def _read(self, query: Callable[..., T], *args: Any) -> T:
        def attempt() -> T:
            with self.engine.connect() as connection:
                return query(connection, *args)

        return retrying(attempt, self._url, self.patience_s)

    def transaction(self, change: Callable[..., T], *args: Any) -> T:
        """Run `change(connection, *args)` in one transaction, again while failures are transient.

        Raises:
            StoreError: opened read-only, a lasting failure, or patience ran out; nothing was written.
        """
        if self.read_only:
            raise StoreError(f"database {self.shown_url} was opened read-only")

        def attempt() -> T:
            with self.engine.connect().execution_options(immediate=True) as connection, connection.begin():
                return change(connection, *args)

        return retrying(attempt, self._url, self.patience_s)

    # --- runs ---

    def create_run(
        self,
        run_id: str,
        sweep_name: str,
        config: Mapping[str, Any],
        config_hash: str,
        environment: Mapping[str, Any] | None = None,
        git_commit: str | None = None,
        trigger: str = "cli",
        created_at: datetime | None = None,
    ) -> RunRow:
        """Register a run as `pending`; one with the same id is left as it is."""
        row = {
            "id": run_id,
            "sweep_name": sweep_name,
            "config": dict(config),
            "config_hash": config_hash,
            "status": "pending",
            "trigger": trigger,
            "created_at": created_at or writes.now(),
            "git_commit": git_commit,
            "environment": dict(environment or {}),
        }
        self.transaction(writes.insert_missing, Run, [row])
        return self.run(run_id)

    def find_run(self, config_hash: str) -> RunRow | None:
        """The latest run of a configuration that nobody superseded."""
        return self._read(queries.find_run, config_hash)

    def run(self, run_id: str) -> RunRow:
        """One run by id or unambiguous prefix; "latest" is the newest."""
        if run_id == "latest":
            newest = self.runs(limit=1)
            if not newest:
                raise StoreError(f"database {self.shown_url} holds no runs yet; run `hero-ray sweep` first")
            return newest[0]
        return self._read(queries.run, run_id)

    def runs(self, limit: int | None = None) -> list[RunRow]:
        """Runs, newest first."""
        return self._read(queries.runs, limit)

    def set_status(self, run_id: str, status: str) -> None:
        """Change a run's state; "running" starts its clock, a terminal state stops it."""
        self.transaction(writes.set_status, run_id, status)

    def add_environment(self, run_id: str, key: str, facts: Mapping[str, Any]) -> None:
        """Add what is learned of a run's surroundings under way: `facts` join those under `key`."""
        self.transaction(writes.add_environment, run_id, key, facts)

    def request_cancel(self, run_id: str) -> None:
        """Ask whoever works on a run to stop after its current unit."""
        self.transaction(lambda c: c.execute(update(Run).where(Run.id == run_id).values(cancel_requested=True)))

    def cancel_requested(self, run_id: str) -> bool:
        return bool(self._read(lambda c: c.execute(select(Run.cancel_requested).where(Run.id == run_id)).scalar()))

    def acquire_lease(self, run_id: str, holder: str, ttl_s: float = 60.0) -> None:
        """Claim a run for `ttl_s` seconds.

        Raises:
            RunLockedError: someone else holds it; the message names them.
        """
        self.transaction(writes.acquire_lease, run_id, holder, ttl_s)

    def heartbeat(self, run_id: str, holder: str, ttl_s: float = 60.0) -> None:
        """Extend a claim; RunLockedError if it was lost."""
        self.transaction(writes.heartbeat, run_id, holder, ttl_s)

    def release(self, run_id: str, holder: str) -> None:
        """Give a claim back; giving back one that is not held does nothing."""
        mine = (Lease.run_id == run_id) & (Lease.holder == holder)
        self.transaction(lambda c: c.execute(delete(Lease).where(mine)))

    # --- work ---

    def add_cells(self, run_id: str, cells: Sequence[Cell], expected: Mapping[str, int]) -> None:
        """Register the cells of a run with the number of samples each should end with."""
        self.transaction(writes.add_cells, run_id, cells, expected)

    def add_samples(self, samples: Iterable[Sample], images: Iterable[ImageRecord] = ()) -> None:
        """Store questions and thumbnails that are not there yet."""
        self.transaction(writes.add_samples, list(samples), list(images))

    def begin_unit(self, run_id: str, unit_id: str) -> int:
        """Count one more beginning of a unit, committed before its work; returns how many there have been."""
        return self.transaction(writes.begin_unit, run_id, unit_id)

    def write_unit(
        self,
        run_id: str,
        predictions: Sequence[Prediction],
        images: Iterable[ImageRecord] = (),
        main_metrics: Mapping[str, str] | None = None,
    ) -> None:
        """Commit everything one unit produced, or nothing of it; writing it twice changes nothing.

        A committed answer is never replaced, a failure is (and counts its attempts).

        Args:
            main_metrics: benchmark -> the metric kept in `predictions.score`; the first number scored if not given.
        """
        main = main_metrics or {}
        samples = list({id(p.sample): p.sample for p in predictions}.values())
        names = {id(sample): sample_id(sample) for sample in samples}  # cells share samples: hash each once
        rows = [
            writes.prediction_row(run_id, p, names[id(p.sample)], main.get(p.sample.benchmark)) for p in predictions
        ]
        pictures = list(images)

        def change(connection: Connection) -> None:
            writes.add_samples(connection, samples, pictures)
            writes.write_predictions(connection, rows)

        self.transaction(change)

    def done(self, run_id: str, max_attempts: int = 3) -> set[tuple[str, str]]:
        """(cell id, sample id) of everything that need not be run again."""
        return self._read(queries.done, run_id, max_attempts)

    def done_counts(self, run_id: str, cell_ids: Sequence[str], max_attempts: int = 3) -> dict[str, int]:
        """Sample id -> in how many of `cell_ids` it need not be run again."""
        return self._read(queries.done_counts, run_id, list(cell_ids), max_attempts)

    def done_cells(self, run_id: str, sample_ids: Sequence[str], max_attempts: int = 3) -> dict[str, set[str]]:
        """Sample id -> cells in which it need not be run again."""
        return self._read(queries.done_cells, run_id, list(sample_ids), max_attempts)

    def stop_cell(self, run_id: str, cell_id: str, reason: str) -> None:
        """Mark a cell as decided early: it gets no more answers and says so in every table."""
        mine = (RunCell.run_id == run_id) & (RunCell.cell_id == cell_id)
        self.transaction(lambda c: c.execute(update(RunCell).where(mine).values(stop_reason=reason, status="stopped")))

    def stopped(self, run_id: str) -> dict[str, str]:
        """Cell id -> why it was stopped early."""
        return self._read(queries.stopped, run_id)

    def picture_means(self, run_id: str, cell_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        """Cell id -> picture -> mean main score of its questions."""
        return self._read(queries.picture_means, run_id, list(cell_ids))

    def counts(self, run_id: str) -> dict[str, CellCount]:
        """Live progress of every cell of a run."""
        return self._read(queries.counts, run_id)

    def write_metrics(self, run_id: str, cell_id: str, rows: Sequence[MetricRow | Mapping[str, Any]]) -> None:
        """Replace a cell's aggregated figures; also refreshes its counts, state and mean costs."""
        self.transaction(writes.write_metrics, run_id, cell_id, rows)

    def summarise(self, run_id: str, cell_ids: Iterable[str] | None = None) -> None:
        """Refresh counts, state and mean costs of some cells, or of all in a run."""
        for cell_id in cell_ids if cell_ids is not None else [cell.id for cell in self.cells(run_id)]:
            self.transaction(writes.summarise, run_id, cell_id)

    def write_profile(self, run_id: str, cell_id: str, figures: Mapping[str, Any]) -> None:
        """Store speed and memory of a cell; unknown figures are kept under `details`."""
        certificate = figures.get("certificate") or {}
        digest = hashlib.sha256(dump_json(certificate).encode()).hexdigest()[:16]
        named = figures.get("certificate_hash") or certificate.get("hash") or digest
        row = writes.profile_row(run_id, cell_id, figures, str(named))
        self.transaction(writes.replace_rows, Profile, [row])

    def add_alert(
        self,
        kind: str,
        message: str,
        severity: str = "warning",
        run_id: str | None = None,
        cell_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Leave a note that someone should look at something."""
        row = {
            "run_id": run_id,
            "cell_id": cell_id,
            "kind": kind,
            "severity": severity,
            "message": clean_text(message),
            "details": dict(details or {}),
            "created_at": writes.now(),
        }
        self.transaction(lambda c: c.execute(writes.table(Alert).insert().values(row)))

    # --- results ---

    def cells(self, run_id: str) -> list[CellRow]:
        """The cells of a run in their planned order."""
        return self._read(queries.cells, run_id)

    def cell_scores(self, run_id: str, cell_id: str, failed: bool = False) -> list[ScoreRow]:
        """A cell's answers with all that a scorer needs; failures only on request."""
        return self._read(queries.cell_scores, run_id, cell_id, failed)

    def scores(self, run_id: str, cell_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sample ids, picture hashes and main scores of a cell, as arrays."""
        return self._read(queries.scores, run_id, cell_id)

    def metrics(self, run_id: str) -> dict[str, list[MetricRow]]:
        """Aggregated figures by cell id."""
        return self._read(queries.metrics, run_id)

    def points(
        self,
        run_ids: Sequence[str],
        metric: str | None = None,
        benchmarks: Iterable[str] | None = None,
        categories: bool = False,
        batch_size: int | None = None,
    ) -> list[PointRow]:
        """Cells with a figure and their costs; see `queries.points`."""
        return self._read(queries.points, run_ids, metric, benchmarks, categories, batch_size)

    def totals(self, run_id: str) -> tuple[int, int]:
        """(answered, failed) samples of a run."""
        return self._read(queries.totals, run_id)

    def failures(self, run_id: str, limit: int = 100) -> list[dict[str, Any]]:
        """Failed samples with their error."""
        return self._read(queries.failures, run_id, limit)


def open_store(
    url: str | None = None, read_only: bool = False, upgrade: bool = True, patience_s: float = 120.0
) -> Store:
    """Open a results database and make sure that its schema fits; `url` defaults to `default_url()`.

    Args:
        upgrade: create or migrate the tables; otherwise an older schema is an error. Never done when `read_only`.

    Raises:
        StoreError: the path or server cannot be used, or the schema does not fit. Nothing was written.
    """
    store = Store(url or default_url(), read_only, patience_s)
    check_sqlite_path(store._url, read_only, must_exist=read_only or not upgrade)
    try:
        with store.engine.connect() as connection:
            fits = schema.current(connection) == schema.HEAD
            newer = (schema.current(connection) or "") > schema.HEAD
            if not fits and (read_only or not upgrade or newer):
                schema.require(connection, store.shown_url)
        if not fits:
            schema.upgrade(store.engine)
            store.migrated = True
    except (SQLAlchemyError, OSError) as problem:
        store.close()
        raise explain(problem, store._url) from problem
    return store
