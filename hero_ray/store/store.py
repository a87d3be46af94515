"""`Store`: one results database, as the rest of the program sees it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from hero_ray.core.errors import StoreError
from hero_ray.core.text import clean_text
from hero_ray.core.types import Prediction
from hero_ray.store import answers, bulk, figures, leases, schema, score_arrays, writes
from hero_ray.store import runs as asked_runs
from hero_ray.store import samples as asked_samples
from hero_ray.store.engine import (
    address,
    check_sqlite_path,
    default_url,
    dump_json,
    explain,
    make_engine,
    parse_url,
    retrying,
    shown,
)
from hero_ray.store.records import ImageRecord, RunRow
from hero_ray.store.tables import Alert, Profile

P = ParamSpec("P")
T = TypeVar("T")

READ_PATIENCE_S = 10.0
"""A page that only reads should say soon that its database is away."""


def _asked(query: Callable[Concatenate[Connection, P], T]) -> Callable[Concatenate[Store, P], T]:
    """A query as a method of the store."""

    @wraps(query)
    def method(store: Store, /, *args: P.args, **named: P.kwargs) -> T:
        return store.read(query, *args, **named)

    return method


def _told(change: Callable[Concatenate[Connection, P], T]) -> Callable[Concatenate[Store, P], T]:
    """A change as a method of the store, in a transaction of its own."""

    @wraps(change)
    def method(store: Store, /, *args: P.args, **named: P.kwargs) -> T:
        return store.transaction(change, *args, **named)

    return method


class Store:
    """A results database. Cheap to make and to pickle: the connection opens on first use, in the process that uses it.

    Args:
        url: `sqlite:///PATH`, `postgresql://...` or a path.
        read_only: every connection refuses to write.
        patience_s: how long a write keeps trying while the database is locked or away.
    """

    def __init__(self, url: str, read_only: bool = False, patience_s: float = 120.0) -> None:
        self._url = parse_url(url)
        self.url = address(self._url)
        self.shown_url = shown(self._url)
        self.read_only = read_only
        self.patience_s = min(patience_s, READ_PATIENCE_S) if read_only else patience_s
        self.migrated = False  # whether opening it made or changed its tables
        self._engine: Engine | None = None
        self._pid = 0
        self._numbers: tuple[str, Mapping[str, int]] = ("", {})

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

    def read(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
        """What a query of this room answers, asked again while failures are transient.

        Raises:
            StoreError: a lasting failure, or patience ran out.
        """

        def attempt() -> T:
            with self.engine.connect() as connection:
                return query(connection, *args, **named)

        return retrying(attempt, self._url, self.patience_s)

    def transaction(self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
        """Run `change(connection, ...)` in one transaction, again while failures are transient.

        Raises:
            StoreError: opened read-only, a lasting failure, or patience ran out; nothing was written.
        """
        if self.read_only:
            raise StoreError(f"database {self.shown_url} was opened read-only")

        def attempt() -> T:
            with self.engine.connect().execution_options(immediate=True) as connection, connection.begin():
                return change(connection, *args, **named)

        return retrying(attempt, self._url, self.patience_s)

    def add_rows(self, change: Callable[Concatenate[Connection, bool, P], T], *args: P.args, **named: P.kwargs) -> T:
        """`transaction` for rows that are nearly always new: only if some are not, once more with a look at each."""
        try:
            return self.transaction(change, False, *args, **named)
        except bulk.SeenBefore:
            return self.transaction(change, True, *args, **named)

    runs = _asked(asked_runs.runs)
    find_run = _asked(asked_runs.find_run)
    cancel_requested = _asked(asked_runs.cancel_requested)
    set_status = _told(writes.set_status)
    add_environment = _told(writes.add_environment)
    request_cancel = _told(writes.request_cancel)
    acquire_lease = _told(leases.acquire_lease)
    heartbeat = _told(leases.heartbeat)
    release = _told(leases.release)

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
        first: bool = False,
    ) -> RunRow:
        """Register a run as `pending`; one of the same id, or `first` of an equal configuration, stays as it is."""
        row = {
            "id": run_id,
            "sweep_name": clean_text(sweep_name),
            "config": dict(config),
            "config_hash": config_hash,
            "status": "pending",
            "trigger": trigger,
            "created_at": created_at or writes.now(),
            "git_commit": git_commit,
            "environment": dict(environment or {}),
        }
        return self.run(self.transaction(leases.add_run, row, first))

    def run(self, run_id: str) -> RunRow:
        """One run by id, unambiguous prefix or given name; "latest" is the newest that asks something."""
        if run_id != "latest":
            return self.read(asked_runs.run, run_id)
        if (newest := self.read(asked_runs.newest)) is None:
            raise StoreError(f"database {self.shown_url} holds no runs yet; run `hero-ray sweep` first")
        return newest

    add_cells = _told(writes.add_cells)
    add_samples = _told(asked_samples.add_samples)
    begin_unit = _told(writes.begin_unit)
    settle_unit = _told(writes.settle_unit)
    hand_back = _told(writes.hand_back)
    stop_cell = _told(writes.stop_cell)
    write_metrics = _told(writes.write_metrics)
    done = _asked(answers.done)
    done_counts = _asked(answers.done_counts)
    begun_units = _asked(answers.begun_units)
    done_cells = _asked(answers.done_cells)
    stopped = _asked(asked_runs.stopped)
    counts = _asked(asked_runs.counts)
    picture_sums = _asked(answers.picture_sums)
    note_saved = _told(writes.note_saved)

    def write_unit(
        self,
        run_id: str,
        predictions: Sequence[Prediction],
        images: Iterable[ImageRecord] = (),
        main_metrics: Mapping[str, str] | None = None,
        unit: tuple[str, int] | None = None,
    ) -> None:
        """Commit everything one unit produced, or nothing of it; writing it twice changes nothing.

        A committed answer is never replaced, a failure is (and counts its attempts).

        Args:
            main_metrics: benchmark -> the metric kept in `predictions.score`; the first number scored without one.
            unit: id and number of questions of the unit of which this is all that was missing.
        """
        samples = list({id(p.sample): p.sample for p in predictions}.values())
        batch, pictures = bulk.Batch.of(run_id, predictions, samples, main_metrics or {}), list(images)
        settled = all(p.error_type is None or p.error_type in answers.PERMANENT for p in predictions)

        def change(connection: Connection, careful: bool) -> None:
            numbers = asked_samples.add_samples(connection, samples, pictures)
            bulk.write(connection, batch, self._cell_numbers(connection, batch), numbers, careful)
            if unit is not None and settled:
                writes.settle_unit(connection, run_id, *unit)

        self.add_rows(change)

    def _cell_numbers(self, connection: Connection, batch: bulk.Batch) -> Mapping[str, int]:
        """Numbers of the cells of a run; they never change, so they are asked for again only when some are new."""
        if self._numbers[0] != batch.run_id or not batch.cells <= self._numbers[1].keys():
            self._numbers = batch.run_id, bulk.cell_numbers(connection, batch.run_id)
        return self._numbers[1]

    def summarise(self, run_id: str, cell_ids: Iterable[str] | None = None) -> None:
        """Refresh counts, state and mean costs of some cells, or of all in a run."""
        named = list(cell_ids) if cell_ids is not None else [cell.id for cell in self.cells(run_id)]
        self.transaction(writes.summarise, run_id, named)

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
        row: dict[str, Any] = {"run_id": run_id, "cell_id": cell_id, "kind": kind, "severity": severity}
        row |= {"message": clean_text(message), "details": dict(details or {}), "created_at": writes.now()}
        self.transaction(lambda c: c.execute(writes.table(Alert).insert().values(row)))

    cells = _asked(asked_runs.cells)
    cell_scores = _asked(answers.cell_scores)
    scores = _asked(score_arrays.scores)
    metrics = _asked(figures.metrics)
    points = _asked(figures.points)
    totals = _asked(asked_runs.totals)
    failures = _asked(answers.failures)


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
