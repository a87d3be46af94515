"""Replay the planner's and scheduler's rules on 1 to 512 simulated replicas.

    python -m perf.simulate_cluster [--units 20000] [--unit-s 4.0] [--deaths-per-hour 0.05] [--rows-per-unit 400]
    python -m perf.simulate_cluster --rows parquet

The rules are the real ones: units longest first, blocks of `pipeline.execute.block_sizes`, a fixed pool, a dead
replica's block given again with its committed units skipped, one SQL transaction per unit. What is simulated is time:
unit seconds are drawn around the mean with the spread measured on real units, replicas take `--startup-s` to load,
die at a constant rate and come back, and the database commits one transaction at a time at `--sql-rows-per-s`
(2,900 rows/s: PostgreSQL with four writers on two cores; a real server does more). With `--rows parquet` it takes
`--sql-units-per-s` instead, whatever rows they have, and one process loads `--load-rows-per-s` once the replicas have
gone (`python -m perf.row_files` measures both).
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from hero_ray.pipeline.execute import block_sizes
from perf.report import report

REPLICAS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SQL_UNITS_PER_S, LOAD_ROWS_PER_S = 167.0, 19_300.0
SPREAD = 0.35
"""Standard deviation of log unit time; one picture's questions vary this much in the embedded benchmarks."""


@dataclass(frozen=True)
class Cluster:
    """Assumptions of one simulation."""

    replicas: int
    startup_s: float
    deaths_per_hour: float
    commit_s: float


@dataclass
class Trace:
    """What one simulation found. Efficiency is useful unit time over replica time, start-up counted."""

    makespan_s: float = 0.0
    useful_s: float = 0.0
    lost_s: float = 0.0
    deaths: int = 0
    sql_busy_s: float = 0.0
    waits_s: float = 0.0
    recomputed: int = 0
    finish: list[float] = field(default_factory=list)


def unit_times(count: int, mean_s: float, seed: int) -> np.ndarray:
    """Log-normal unit times with the given mean, longest first as the planner orders them."""
    rng = np.random.default_rng(seed)
    times = rng.lognormal(math.log(mean_s) - SPREAD**2 / 2, SPREAD, count)
    return np.sort(times)[::-1]


def simulate(times: np.ndarray, cluster: Cluster, seed: int = 0) -> Trace:
    """One sweep on one cluster."""
    rng = np.random.default_rng(seed)
    starts = accumulate(block_sizes(len(times), cluster.replicas), initial=0)
    blocks = deque(deque(times[start:stop].tolist()) for start, stop in pairwise(starts))
    trace = Trace(useful_s=float(times.sum()))
    database_free = 0.0
    death_rate = cluster.deaths_per_hour / 3600
    next_death = [rng.exponential(1 / death_rate) if death_rate else math.inf for _ in range(cluster.replicas)]
    ready = [(cluster.startup_s * rng.uniform(0.9, 1.3), replica) for replica in range(cluster.replicas)]
    heapq.heapify(ready)
    holding: dict[int, deque[float]] = {}
    while ready:
        now, replica = heapq.heappop(ready)
        block = holding.get(replica)
        if not block:
            if not blocks:
                trace.finish.append(now)
                continue
            block = holding[replica] = blocks.popleft()
        done = now + block[0]
        if next_death[replica] < done:
            trace.deaths += 1
            trace.recomputed += 1
            trace.lost_s += max(0.0, next_death[replica] - now)
            blocks.append(holding.pop(replica))
            back = next_death[replica] + cluster.startup_s
            next_death[replica] = back + rng.exponential(1 / death_rate)
            heapq.heappush(ready, (back, replica))
            continue
        block.popleft()
        begin = max(done, database_free)
        trace.waits_s += begin - done
        database_free = begin + cluster.commit_s
        trace.sql_busy_s += cluster.commit_s
        heapq.heappush(ready, (database_free, replica))
    trace.makespan_s = max(trace.finish)
    return trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=20_000, help="pictures with all their questions and cells")
    parser.add_argument("--unit-s", type=float, default=4.0, help="mean seconds of a unit on one replica")
    parser.add_argument("--startup-s", type=float, default=60.0, help="seconds until a replica has loaded its model")
    parser.add_argument("--deaths-per-hour", type=float, default=0.05, help="of one replica")
    parser.add_argument("--rows-per-unit", type=int, default=400, help="predictions a unit commits")
    parser.add_argument("--sql-rows-per-s", type=float, default=2900.0)
    parser.add_argument("--rows", choices=("database", "parquet"), default="database", help="where workers put them")
    parser.add_argument("--sql-units-per-s", type=float, default=SQL_UNITS_PER_S)
    parser.add_argument("--load-rows-per-s", type=float, default=LOAD_ROWS_PER_S)
    arguments = parser.parse_args()
    times = unit_times(arguments.units, arguments.unit_s, seed=0)
    print(
        f"{'replicas':>8} {'hours':>8} {'efficiency':>10} {'lost':>7} {'deaths':>6} {'rows/s':>8} {'database busy':>13}"
    )
    rows, outside, all_rows = [], arguments.rows == "parquet", arguments.units * arguments.rows_per_unit
    commit_s = 1 / arguments.sql_units_per_s if outside else arguments.rows_per_unit / arguments.sql_rows_per_s
    for replicas in REPLICAS:
        cluster = Cluster(replicas, arguments.startup_s, arguments.deaths_per_hour, commit_s)
        trace = simulate(times, cluster)
        row = {
            "replicas": replicas,
            "makespan_h": trace.makespan_s / 3600,
            "efficiency": trace.useful_s / (replicas * trace.makespan_s),
            "lost_share": trace.lost_s / trace.useful_s,
            "deaths": trace.deaths,
            "recomputed_units": trace.recomputed,
            "rows_per_s": all_rows / trace.makespan_s,
            "database_busy": trace.sql_busy_s / trace.makespan_s,
        }
        rows.append(row)
        print(
            f"{replicas:>8} {row['makespan_h']:>8.3f} {row['efficiency']:>10.1%} {row['lost_share']:>7.3%} "
            f"{trace.deaths:>6} {row['rows_per_s']:>8.0f} {row['database_busy']:>13.1%}"
        )
    figures = {"units": arguments.units, "unit_s": arguments.unit_s, "rows": rows}
    report("simulate_cluster", figures | ({"load_h": all_rows / arguments.load_rows_per_s / 3600} if outside else {}))


if __name__ == "__main__":
    main()
