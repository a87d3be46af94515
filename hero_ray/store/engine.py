"""Engines for both databases: pragmas, read-only connections, and what counts as worth a second try."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from hero_ray.core.errors import MissingExtraError, StoreError
from hero_ray.core.secret import secret_of
from hero_ray.core.text import clean

T = TypeVar("T")

DEFAULT_URL = "sqlite:///hero_ray.db"
BUSY_TIMEOUT_MS = 30_000
READ_BUSY_TIMEOUT_MS = 3_000
"""A read-only visitor is told that the file is locked rather than kept waiting."""
# A lost connection, a restarting server, a locked file, a deadlock or a serialisation failure: all pass by themselves.
_TRANSIENT_SQLSTATES = ("08", "40", "53300", "55P03", "57P01", "57P02", "57P03")
_TRANSIENT_SQLITE = ("locked", "busy")
_LOST_CONNECTION = ("connection", "server closed", "could not connect", "terminating", "eof detected")


NAME_VARIABLE = "HERO_RAY_DB_NAME"
_FORMS = "sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME"
_ESCAPES = "In a user's name or a password write @ as %40, : as %3A, / as %2F and % as %25"


def default_url() -> str:
    """`HERO_RAY_DB` (`core.secret`) if it is set, else a file in the working directory.

    Raises:
        StoreError: `HERO_RAY_DB_NAME` asks for a database of another name. Whoever submits a job to a cluster can say
            so which database it is for without telling the password; the URL is in the nodes' own environment.
    """
    url = secret_of("HERO_RAY_DB") or DEFAULT_URL
    wanted = os.environ.get(NAME_VARIABLE)
    if wanted and parse_url(url).database != wanted:
        raise StoreError(
            f"results are wanted in the database {wanted!r}, but HERO_RAY_DB here is {shown(parse_url(url))}; "
            "set HERO_RAY_DB on every node of the cluster"
        )
    return url


def parse_url(text: str) -> URL:
    """A database URL; a bare path means a SQLite file, `postgresql://` with any driver means psycopg 3.

    Raises:
        StoreError: neither SQLite nor PostgreSQL, or a password that is not escaped. Shows nothing of the URL, since
            whatever part was misread may be the password's.
    """
    if "://" not in text:
        return URL.create("sqlite", database=_path(text))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise StoreError(f"the database URL cannot be read; expected {_FORMS}. {_ESCAPES}") from None
    kind = url.drivername.partition("+")[0].lower()
    if kind not in ("sqlite", "postgresql", "postgres"):
        raise StoreError(f"database {kind!r} is not supported; expected {_FORMS}")
    if kind == "sqlite":
        if "?" in text:
            raise StoreError("a SQLite address takes no options after a ?; give the path of the file alone")
        return url.set(drivername="sqlite")
    if "@" in f"{url.host}{url.database}":
        raise StoreError(f"the database URL has more than one @. {_ESCAPES}")
    return url.set(drivername="postgresql+psycopg")


def _path(text: str) -> str:
    """A file's path as given; an address with a slip in it is none, and messages would show the password it holds."""
    slip = "@" in text and text.lower().lstrip().startswith("postgres")
    if slip or re.search(r"\bpassword\s*=", text, re.IGNORECASE):
        raise StoreError(f"the database is neither a path nor a URL; expected {_FORMS}. {_ESCAPES}")
    return text


def absolute_url(url: str) -> str:
    """A SQLite URL or path made absolute: workers have other working directories."""
    prefix = "sqlite:///"
    if "://" not in url:
        return str(Path(_path(url)).resolve()) if url != ":memory:" else url
    if url.startswith(prefix) and not url.startswith(prefix + "/") and url != prefix + ":memory:":
        return prefix + str(Path(url.removeprefix(prefix)).resolve())
    return url


def address(url: URL) -> str:
    """What `parse_url` reads as this very URL, password and all; in a URL a ? in a file's name would end the name."""
    path = str(url.database or "")
    return path if "?" in path and url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=False)


def shown(url: URL) -> str:
    """The URL without its password, for messages and summaries."""
    hidden = {key: "***" for key in url.query if "password" in key.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def holds_secret(url: URL) -> bool:
    """Whether the URL has a password in it."""
    return url.password is not None or any("password" in key.lower() for key in url.query)


def sqlite_path(url: URL) -> Path | None:
    """The file behind a SQLite URL; None for a database in memory and for PostgreSQL."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def check_sqlite_path(url: URL, read_only: bool, must_exist: bool) -> None:
    """Refuse a path that cannot serve before anything is created at it.

    Permission bits are honoured even for root, who could write a file that somebody marked read-only on purpose.

    Raises:
        StoreError: the folder or file is missing or not writable.
    """
    path = sqlite_path(url)
    if path is None:
        return
    if path.is_dir():
        raise StoreError(f"database {path} is a folder; expected the path of a file")
    if path.exists():
        blocked = not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK)
        if blocked and not read_only:
            raise StoreError(f"database {path} is read-only; make it writable or give another --db")
        return
    if must_exist:
        raise StoreError(f"database {path} does not exist; run a sweep first or give another --db")
    folder = path.parent
    if not folder.is_dir():
        raise StoreError(f"database folder {folder} does not exist; create it or give another --db")
    if not folder.stat().st_mode & 0o222 or not os.access(folder, os.W_OK):
        raise StoreError(f"database folder {folder} is read-only; make it writable or give another --db")


def _plain(value: Any) -> Any:
    """numpy scalars, mappings and sets, which json does not know."""
    for method in ("tolist", "items"):
        if hasattr(value, method):
            result = getattr(value, method)()
            return dict(result) if method == "items" else result
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored as JSON")


_encoder = json.JSONEncoder(default=_plain, allow_nan=False, separators=(",", ":"))


def dump_json(value: Any) -> str:
    """JSON that both databases take."""
    text = _encoder.encode(value)
    if "\\u0000" in text or "\\ud" in text:
        text = json.dumps(clean(json.loads(text)), separators=(",", ":"))
    return text


def make_engine(url: URL, read_only: bool = False) -> Engine:
    """An engine with this project's settings; make it in the process that uses it."""
    try:
        return _sqlite(url, read_only) if url.get_backend_name() == "sqlite" else _postgresql(url, read_only)
    except NoSuchModuleError as problem:
        raise StoreError(str(problem)) from None
    except ImportError:
        raise MissingExtraError("psycopg", "postgres") from None


def release_pages(connection: Connection) -> None:
    """Give back what SQLite caches of its file, up to 64 MiB a connection: for whoever has written much and goes on."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA shrink_memory")


def _sqlite(url: URL, read_only: bool) -> Engine:
    path = sqlite_path(url)
    busy_ms = READ_BUSY_TIMEOUT_MS if read_only else BUSY_TIMEOUT_MS
    options: dict[str, Any] = {"json_serializer": dump_json}
    if path is None:
        options |= {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    else:
        target = _read_only_target(path) if read_only else str(path)
        options["creator"] = lambda: sqlite3.connect(
            target, uri=read_only, timeout=busy_ms / 1000, check_same_thread=False
        )
    engine = create_engine(url, **options)

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, record: object) -> None:
        # The driver's own transaction handling begins late and skips DDL; `begin` below takes over.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={busy_ms}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-65536")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        elif path is not None:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            # A unit touches one index page per cell; a longer log writes each of them back once, not once per unit.
            cursor.execute("PRAGMA wal_autocheckpoint=4000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes the lock at once: upgrading a read transaction later can fail without any waiting.
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _read_only_target(path: Path) -> str:
    uri = path.resolve().as_uri()
    # A WAL database needs its -shm file even to be read; where none can be made, the file is not being written either.
    lonely = not path.with_name(path.name + "-wal").exists() and not os.access(path.parent, os.W_OK)
    return f"{uri}?mode=ro&immutable=1" if lonely else f"{uri}?mode=ro"


def _postgresql(url: URL, read_only: bool) -> Engine:
    options: dict[str, Any] = {"connect_timeout": 10, "application_name": "hero_ray"}
    if read_only:
        options["options"] = "-c default_transaction_read_only=on"
    if not holds_secret(url) and (
        password := secret_of("PGPASSWORD")
    ):  # the library itself looks into the environment alone
        options["password"] = password
    # Not asked before each use whether it lives: a lost connection is found by the first statement and tried again.
    return create_engine(url, connect_args=options, json_serializer=dump_json, pool_size=2)


def is_transient(problem: BaseException) -> bool:
    """Whether trying again may help: locks, deadlocks, lost or refused connections."""
    if not isinstance(problem, DBAPIError):
        return False
    if problem.connection_invalidated:
        return True
    message = str(problem.orig).lower()
    state = getattr(problem.orig, "sqlstate", None)
    if state:
        return str(state).startswith(_TRANSIENT_SQLSTATES)
    if isinstance(problem.orig, sqlite3.OperationalError):
        return any(word in message for word in _TRANSIENT_SQLITE)
    if "does not exist" in message or "authentication failed" in message:
        return False
    return any(word in message for word in _LOST_CONNECTION)


def explain(problem: SQLAlchemyError | OSError | TypeError | ValueError, url: URL) -> StoreError:
    """One clear line for a database failure, without SQL and without the password."""
    orig = getattr(problem, "orig", None) or problem
    first = (str(orig).strip().splitlines() or [type(orig).__name__])[0]
    if url.password:
        first = first.replace(str(url.password), "***")
    hint = "; run `hero-ray db upgrade`" if "no such table" in first or "does not exist" in first else ""
    return StoreError(f"database {shown(url)}: {first}{hint}")


def retrying(action: Callable[[], T], url: URL, patience_s: float) -> T:
    """Run `action` until it works, at most about `patience_s` seconds while failures look transient.

    Raises:
        StoreError: a lasting failure, or patience ran out.
    """
    deadline = time.monotonic() + patience_s
    pause = 0.05
    while True:
        try:
            return action()
        except (SQLAlchemyError, OSError, TypeError, ValueError) as problem:
            if not is_transient(problem) or time.monotonic() >= deadline:
                raise explain(problem, url) from problem
        # Jitter: several workers that lost the same server should not return in step.
        time.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, deadline - time.monotonic())))
        pause = min(pause * 2, 5.0)
