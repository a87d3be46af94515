"""PostgreSQL's answers in one table beside one partition a run: `python -m perf.partitions [--runs 100]`.

Both databases hold the same runs of 100 cells and 100 answers each. Every figure goes through the store's own
statements and the view; a partition is a range of cell numbers, so that (cell, sample) stays the key. Printed are
processor milliseconds of the server for a new unit of 300 rows, for reading one cell of one run and for taking the
oldest run's answers away with their space, milliseconds of planning, and the locks that one reader holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from sqlalchemy import text

from hero_ray.core.types import Cell, Prediction, Sample, TokenCount
from hero_ray.store import Store, open_store, sample_id
from perf.report import report
from perf.row_files import databases, server_s
from perf.store import postgresql

CELLS, SAMPLES, UNITS, READS = 100, 100, 60, 40
TOKENS = TokenCount(100, 100, 104, 40, (104,) * 32)
KEY = "PRIMARY KEY (cell, sample)"


def cells() -> list[Cell]:
    return [
        Cell(f"hero-{i:03d}", "hero-tiny", "hero", "exact", {}, (i + 1) / CELLS, "synth-color", "head")
        for i in range(CELLS)
    ]


def sample(number: int) -> Sample:
    return Sample("synth-color", f"q{number}", "What colour is it?", ["red"], f"picture-{number // 3}", None, "a")


def partitioned(store: Store) -> None:
    """Put a table of the same columns, partitioned by ranges of cells, in the place of `outcomes`."""

    def change(connection: Any) -> None:
        view = connection.exec_driver_sql("SELECT pg_get_viewdef('predictions'::regclass)").scalar_one()
        connection.exec_driver_sql("DROP VIEW predictions")
        connection.exec_driver_sql("ALTER TABLE outcomes RENAME TO plain")
        connection.exec_driver_sql(
            f"CREATE TABLE outcomes (LIKE plain INCLUDING DEFAULTS, {KEY}) PARTITION BY RANGE (cell)"
        )
        connection.exec_driver_sql("DROP TABLE plain")
        connection.exec_driver_sql(f"CREATE VIEW predictions AS {view}".replace("%", "%%"))

    store.transaction(change)


def begin(store: Store, run: str, parts: bool) -> None:
    """A run with its cells, and its partition."""
    store.create_run(run, run, {}, run)
    store.add_cells(run, cells(), {cell.id: SAMPLES for cell in cells()})
    if parts:
        bounds = text("SELECT min(number), max(number) + 1 FROM cell_numbers WHERE run_id = :run")

        def change(connection: Any) -> None:
            first, end = connection.execute(bounds, {"run": run}).one()
            connection.exec_driver_sql(
                f"CREATE TABLE part_{run} PARTITION OF outcomes FOR VALUES FROM ({first}) TO ({end})"
            )

        store.transaction(change)


def fill(store: Store, runs: int, parts: bool) -> None:
    store.add_samples([sample(i) for i in range(SAMPLES)])
    rows = text(
        "INSERT INTO outcomes SELECT n.number, s.number, NULL, 'red', 1.0, jsonb_build_object('accuracy', 1.0), 40, "
        "1e12, 100000000, NULL, NULL, 1 FROM cell_numbers n CROSS JOIN sample_numbers s WHERE n.run_id = :run"
    )
    for number in range(runs):
        begin(store, f"r{number:04d}", parts)
        store.transaction(lambda c, run=f"r{number:04d}": c.execute(rows, {"run": run}))
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def spent_ms(store: Store, action: Callable[[int], object], times: int) -> float:
    """The server's processor milliseconds for one call."""
    before = server_s(store)
    for i in range(times):
        action(i)
    return 1000 * (server_s(store) - before) / times


def write(store: Store, run: str, unit: int) -> None:
    rows = [
        Prediction(cell.id, sample(1000 + 3 * unit + i), "red", {"accuracy": 1.0}, TOKENS, 1e12, 10**8)
        for i in range(3)
        for cell in cells()
    ]
    store.write_unit(run, rows)


def planned(store: Store, run: str) -> tuple[float, int]:
    """(milliseconds of planning a read of one cell, locks that it holds)."""
    query = f"SELECT score FROM predictions WHERE run_id = '{run}' AND cell_id = 'hero-050'"
    with store.engine.connect() as connection:
        times = []
        for _ in range(7):
            lines = connection.exec_driver_sql(f"EXPLAIN (SUMMARY) {query}").scalars().all()
            times.append(next(float(line.split()[2]) for line in lines if line.startswith("Planning Time")))
        locks = connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()").scalar_one()
    return sorted(times)[len(times) // 2], int(locks)


def take_away(store: Store, run: str, parts: bool) -> None:
    numbers = f"SELECT number FROM cell_numbers WHERE run_id = '{run}'"
    statements = (
        [f"DROP TABLE part_{run}"] if parts else [f"DELETE FROM outcomes WHERE cell IN ({numbers})", "VACUUM outcomes"]
    )
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))


def measure(url: str, runs: int, parts: bool) -> dict[str, float]:
    """Every figure of one layout."""
    with open_store(url) as store:
        if parts:
            partitioned(store)
        fill(store, runs, parts)
        begin(store, "fresh", parts)
        middle = f"r{runs // 2:04d}"
        found = {"unit_server_ms": spent_ms(store, lambda i: write(store, "fresh", i), UNITS)}
        found["read_cell_server_ms"] = spent_ms(store, lambda i: store.scores(middle, cells()[i].id), READS)
        ids = [sample_id(sample(i)) for i in range(3)]
        found["done_cells_server_ms"] = spent_ms(store, lambda i: store.done_cells(middle, ids), READS)
        found["planning_ms"], found["locks"] = planned(store, middle)
        found["take_away_server_ms"] = spent_ms(store, lambda i: take_away(store, f"r{i:04d}", parts), 3)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"runs": arguments.runs}
    with postgresql() as url:
        if url is None:
            raise SystemExit("the PostgreSQL wheel is not installed")
        of = databases(url)
        for way, parts in (("rows", False), ("files", True)):
            found = measure(of.format(way), arguments.runs, parts)
            figures |= {f"{'partitions' if parts else 'one_table'}_{name}": value for name, value in found.items()}
    report("partitions", figures)


if __name__ == "__main__":
    main()
