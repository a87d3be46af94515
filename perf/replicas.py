"""Efficiency of the actor pool on sleep-based work, with one unit ten times as long as the others.

    python -m perf.replicas [--units 256] [--work-ms 50] [--replicas 1,2,4,8]

Efficiency is the work's own seconds over replicas x seconds, from the moment two units a replica are done to the end of
the last one. Before that moment replicas start: eight of them share this machine's cores for it, as they would not on
eight GPUs; how long it takes is printed beside it, and so is what the long unit leaves to any scheduler (the bound).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from hero_ray.pipeline import cluster
from hero_ray.pipeline.execute import execute
from hero_ray.pipeline.orders import UnitOutcome
from perf.overhead import job, open_run, sleeping_plan
from perf.report import report

STRAGGLER = 10.0


def warm(outcomes: Sequence[UnitOutcome], replicas: int) -> float:
    """When two units a replica were done: imports, first encodes and first commits lie behind."""
    return sorted(outcome.finished_at for outcome in outcomes)[2 * replicas - 1]


def work_after(outcomes: Sequence[UnitOutcome], moment: float, work_s: Callable[[UnitOutcome], float]) -> float:
    """Seconds of pure work done after `moment`; a unit under way then counts by its share."""
    return sum(
        work_s(o) * min(1.0, max(0.0, o.finished_at - moment) / (o.finished_at - o.started_at)) for o in outcomes
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--work-ms", type=float, default=50.0, help="per answer; four answers a unit")
    parser.add_argument("--replicas", default="1,2,4,8")
    arguments = parser.parse_args()
    plan = sleeping_plan(arguments.units)
    longest = plan.units[len(plan.units) // 2].image_key
    answers = len(plan.samples)
    each_s = arguments.work_ms / 1000

    def own_work(outcome: UnitOutcome) -> float:
        return outcome.answered * each_s * (STRAGGLER if outcome.picture == longest else 1.0)

    longest_s = next(len(unit.samples) for unit in plan.units if unit.image_key == longest) * each_s * STRAGGLER
    total_s = answers * each_s + longest_s * (1 - 1 / STRAGGLER)
    rows = []
    with tempfile.TemporaryDirectory() as scratch, cluster.connected(None):
        for replicas in map(int, arguments.replicas.split(",")):
            store = open_run(plan, Path(scratch), f"r{replicas}")
            work = job(plan, store, f"r{replicas}", arguments.work_ms, slow_on=longest, slow=STRAGGLER)
            pool = cluster.Pool(replicas, num_cpus=0.1, num_gpus=0.0, threads=1)
            outcomes = list(execute(plan.units, work, pool, 600))
            assert sum(outcome.answered for outcome in outcomes) == answers
            begin, end = warm(outcomes, replicas), max(o.finished_at for o in outcomes)
            work_s = work_after(outcomes, begin, own_work)
            row = {
                "replicas": replicas,
                "starting_s": begin - min(o.started_at for o in outcomes),
                "steady_s": end - begin,
                "efficiency": work_s / (replicas * (end - begin)),
                "bound": min(1.0, total_s / (replicas * longest_s)),
            }
            rows.append(row)
            print(
                f"{replicas} replicas: {end - begin:.2f} s, efficiency {row['efficiency']:.1%} "
                f"(bound {row['bound']:.1%}); warm {row['starting_s']:.2f} s after the first unit began"
            )
    report("replicas", {"units": arguments.units, "work_s": total_s, "longest_unit_s": longest_s, "rows": rows})


if __name__ == "__main__":
    main()
