"""How long a large sweep takes to plan, and what its bookkeeping costs beside the work.

    python -m perf.planning [--cells 1000] [--questions 100000]

Plans cells and units from facts, then measures bookkeeping (packing a unit, finding what it still owes, counting its
attempt, committing its predictions) on real units against the time a unit's answers take at `--ms-per-answer`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from hero_ray.core.config import build
from hero_ray.core.plan import MethodFact, TaskFact, cells, units
from hero_ray.core.types import Prediction, Sample, TokenCount
from hero_ray.pipeline.orders import pack_unit, unpack_unit
from hero_ray.store import open_store
from hero_ray.store.records import sample_id
from perf.overhead import SLEEPING
from perf.report import report

QUESTIONS_PER_PICTURE = 5
UNITS_MEASURED = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--ms-per-answer", type=float, default=50.0, help="a 7B model on one GPU, batched")
    arguments = parser.parse_args()
    budgets = [round((i + 1) / arguments.cells, 9) for i in range(arguments.cells)]
    config = build({"tasks": ["synth-exist"], "methods": ["hero"], "budgets": budgets, "straw_men": False})
    method = MethodFact("hero", "exact", {"alpha": 0.5}, 1, seeded=False, budgeted=True)
    samples = [
        Sample("synth-exist", str(i), f"Is there a {i}?", ["yes"], f"picture-{i // QUESTIONS_PER_PICTURE}", i)
        for i in range(arguments.questions)
    ]
    started = time.perf_counter()
    task = TaskFact("synth-exist", "head", "data", 8)
    planned = cells(config, [SLEEPING], [(entry, method) for entry in config.all_methods], [task])
    grouped = units(samples)
    plan_s = time.perf_counter() - started

    tokens = TokenCount(64, 64, 80, 20, (80, 80))
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(f"sqlite:///{Path(scratch) / 'results.db'}")
        store.create_run("plan", "plan", {}, "plan")
        store.add_cells("plan", planned, {cell.id: len(samples) for cell in planned})
        started = time.perf_counter()
        predictions_s = 0.0
        for unit in grouped[:UNITS_MEASURED]:
            unit = unpack_unit(pack_unit(unit))
            store.done_cells("plan", [sample_id(sample) for sample in unit.samples], [unit.id])
            store.begin_unit("plan", unit.id)
            made = time.perf_counter()
            rows = [
                Prediction(cell.id, sample, "yes", {"exact_match": 1.0}, tokens, 1e9, 1000, b"\xff" * 40)
                for sample in unit.samples
                for cell in planned
            ]
            predictions_s += time.perf_counter() - made
            store.write_unit("plan", rows)
        unit_s = (time.perf_counter() - started - predictions_s) / UNITS_MEASURED
    work_s = QUESTIONS_PER_PICTURE * len(planned) * arguments.ms_per_answer / 1000
    report(
        "planning",
        {
            "cells": len(planned),
            "questions": len(samples),
            "units": len(grouped),
            "plan_s": plan_s,
            "bookkeeping_s_per_unit": unit_s,
            "answers_per_unit": QUESTIONS_PER_PICTURE * len(planned),
            "bookkeeping_percent": 100 * unit_s / work_s,
        },
    )


if __name__ == "__main__":
    main()
