"""Efficiency of the actor pool on sleep-based work, with one unit ten times as long as the others.

    python -m perf.replicas [--units 64] [--work-ms 50] [--replicas 1,2,4,8]

Efficiency is the work's own seconds over replicas x steady seconds (first unit begun to last unit done). The long unit
bounds what any scheduler can reach; the bound is printed beside it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from hero_ray.pipeline import cluster
from hero_ray.pipeline.execute import execute
from perf.overhead import job, open_run, sleeping_plan
from perf.report import report

STRAGGLER = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--work-ms", type=float, default=50.0, help="per answer; four answers a unit")
    parser.add_argument("--replicas", default="1,2,4,8")
    arguments = parser.parse_args()
    plan = sleeping_plan(arguments.units)
    longest = plan.units[len(plan.units) // 2].image_key
    answers = len(plan.samples)
    extra = next(len(unit.samples) for unit in plan.units if unit.image_key == longest) * (STRAGGLER - 1)
    work_s = (answers + extra) * arguments.work_ms / 1000
    longest_s = extra / (STRAGGLER - 1) * STRAGGLER * arguments.work_ms / 1000
    rows = []
    with tempfile.TemporaryDirectory() as scratch, cluster.connected(None):
        for replicas in map(int, arguments.replicas.split(",")):
            store = open_run(plan, Path(scratch), f"r{replicas}")
            work = job(plan, store, f"r{replicas}", arguments.work_ms, slow_on=longest, slow=STRAGGLER)
            pool = cluster.Pool(replicas, num_cpus=0.1, num_gpus=0.0, threads=1)
            outcomes = list(execute(plan.units, work, pool, 600))
            assert sum(outcome.answered for outcome in outcomes) == answers
            steady = max(o.finished_at for o in outcomes) - min(o.started_at for o in outcomes)
            bound = work_s / (replicas * max(work_s / replicas, longest_s))
            row = {"replicas": replicas, "steady_s": steady, "efficiency": work_s / (replicas * steady), "bound": bound}
            rows.append(row)
            print(f"{replicas} replicas: {steady:.2f} s, efficiency {row['efficiency']:.1%} (bound {bound:.1%})")
    report("replicas", {"units": arguments.units, "work_s": work_s, "longest_unit_s": longest_s, "rows": rows})


if __name__ == "__main__":
    main()
