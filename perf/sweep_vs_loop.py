"""A sweep as one object, against what harnesses do: a process per cell over stock `generate()`, batch 1.

    python -m perf.sweep_vs_loop [--models hero-tiny,hero-tiny-internvl] [--images 16] [--cells 16] [--out FILE]

Every way answers the same samples with the same prompts in the same cells on one core and one thread:

- process per cell: a fresh process for every cell, stock `generate()`, one question at a time;
- warm loop: the same calls in one process that has loaded the model once;
- encode once: the sweep's evaluator, one answer at a time, nothing shared but the encoded picture;
- batched: the same with answers of one picture decoded together;
- sweep: the same with prefix and picture computed once per selection, as a sweep runs it.

Start-up (imports, loading, the first picture) is reported apart and counted against a process per cell, which pays its
own in every process. Each step of this ladder is measured, so the gains of loading once, encoding once, batching and
prefix sharing are differences of measured times. Answers of all five ways must agree sample by sample.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from hero_ray import models
from hero_ray.core.config import build
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.pipeline.facts import Plan, make_plan
from perf import stock
from perf.report import keep, report

TASKS = ("synth-exist", "synth-digits")
METHODS = ("fastervlm", "hired", "hero")
BUDGETS = (0.4, 0.2, 0.1)

Answers = dict[str, dict[str, str]]
"""Cell id -> sample key -> text."""


def plan_for(model: str, images: int, cells: int) -> Plan:
    """Cells in equal numbers over two benchmarks: full, then methods at falling budgets."""
    tasks = [{"name": name, "source": {"num_images": images, "questions_per_image": 4}} for name in TASKS]
    config = build(
        {
            "models": [model],
            "tasks": tasks,
            "methods": ["full", "spatial", *METHODS],
            "budgets": list(BUDGETS),
            "straw_men": False,
            "profile": {"enabled": False},
        }
    )
    plan = make_plan(config)
    per_task = max(1, cells // len(TASKS))
    kept = [cell for name in TASKS for cell in [c for c in plan.cells if c.benchmark == name][:per_task]]
    return Plan(**{**vars(plan), "cells": tuple(kept)})


def process_per_cell(plan: Plan, model: str, folder: Path) -> tuple[float, Answers]:
    """Seconds and answers of one process after another."""
    found: Answers = {}
    started = time.perf_counter()
    for number, cell in enumerate(plan.cells, 1):
        found |= _in_process(model, [cell], plan, folder)
        say(f"process {number} of {len(plan.cells)}: {time.perf_counter() - started:.1f} s so far")
    return time.perf_counter() - started, found


def _in_process(model: str, cells: list[Any], plan: Plan, folder: Path) -> Answers:
    source, target = folder / "cells.json", folder / "answers.json"
    tasks = [task.model_dump() for task in plan.tasks]
    source.write_text(json.dumps({"cells": [asdict(cell) for cell in cells], "tasks": tasks, "limit": 10**9}))
    alone = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    subprocess.run([sys.executable, "-m", "perf.stock", model, str(source), str(target)], check=True, env=alone)
    return dict(json.loads(target.read_text()))


def warm_loop(plan: Plan, model: str) -> tuple[float, Answers]:
    """Seconds and answers in this process, the model loaded before the clock starts."""
    models.load(model)
    started = time.perf_counter()
    found = stock.run_cells(model, plan.cells, plan.tasks, 10**9)
    return time.perf_counter() - started, found


class Unshared:
    """An adapter that computes prefix and picture anew for every question."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def generate(self, requests: Any, **options: Any) -> Any:
        return self._adapter.generate(requests, share_prefix=False, **options)


def evaluated(plan: Plan, adapter: Any, settings: Settings) -> tuple[float, Answers, dict[str, int]]:
    """(seconds, answers, counters) of the sweep's evaluator."""
    evaluator = Evaluator(adapter, plan.cells, plan.benchmarks, settings)
    found: Answers = {}
    started = time.perf_counter()
    for unit in plan.units:
        for prediction in evaluator.evaluate(unit):
            assert prediction.error_type is None, prediction.error_message
            found.setdefault(prediction.cell_id, {})[prediction.sample.key] = prediction.text
    return time.perf_counter() - started, found, dict(vars(evaluator.counters))


def differing(ours: Answers, others: Answers) -> int:
    """Answers of `others` that ours do not equal; a missing one counts."""
    assert set(ours) == set(others), "cells differ"
    return sum(ours[cell].get(key) != text for cell, row in others.items() for key, text in row.items())


def compare(model: str, images: int, cells: int, start_s: float) -> dict[str, Any]:
    """All ways on one model; `start_s` is what a process takes before it can load a model."""
    plan = plan_for(model, images, cells)
    say(f"{model}: {len(plan.cells)} cells, {len(plan.units)} pictures; sweep")
    started = time.perf_counter()
    adapter = models.load(model)
    evaluated(replace(plan, units=plan.units[:1]), adapter, Settings())  # what only the first picture pays is start-up
    load_s = start_s + time.perf_counter() - started
    sweep_s, ours, counters = evaluated(plan, adapter, Settings())
    answers = sum(len(row) for row in ours.values())
    say(f"{answers} answers in {sweep_s:.1f} s; batched without prefix sharing")
    batched_s, batched, _ = evaluated(plan, Unshared(adapter), Settings())
    say(f"{batched_s:.1f} s; one answer at a time")
    single_s, single, _ = evaluated(plan, Unshared(adapter), Settings(batch_size=1))
    say(f"{single_s:.1f} s; warm loop over stock generate()")
    warm_s, warm = warm_loop(plan, model)
    say(f"{warm_s:.1f} s; a process per cell")
    with tempfile.TemporaryDirectory() as scratch:
        cold_s, cold = process_per_cell(plan, model, Path(scratch))
    return {
        "model": model,
        "cells": len(plan.cells),
        "pictures": len(plan.units),
        "questions": len(plan.samples),
        "answers": answers,
        "encodes": counters["encodes"],
        "different_answers": sum(differing(ours, others) for others in (batched, single, warm, cold)),
        "process_per_cell_s": cold_s,
        "warm_loop_s": warm_s,
        "encode_once_s": single_s,
        "batched_s": batched_s,
        "sweep_s": sweep_s,
        "sweep_load_s": load_s,
        "ms_per_answer_process": 1e3 * cold_s / answers,
        "ms_per_answer_warm": 1e3 * warm_s / answers,
        "ms_per_answer_sweep": 1e3 * sweep_s / answers,
        "speedup_over_process_per_cell": cold_s / (sweep_s + load_s),
        "speedup_over_warm_loop": warm_s / sweep_s,
        "gain_loading_once_s": cold_s - warm_s - load_s,
        "gain_encoding_once_s": warm_s - single_s,
        "gain_batching_s": single_s - batched_s,
        "gain_prefix_sharing_s": batched_s - sweep_s,
    }


def say(text: str) -> None:
    """A line of progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="hero-tiny,hero-tiny-internvl")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("perf/results/sweep_vs_loop.json"))
    arguments = parser.parse_args()
    start_s = time.time() - psutil.Process().create_time()  # interpreter and imports: the other side pays them per cell
    torch.set_num_threads(1)
    rows = []
    for model in arguments.models.split(","):
        rows.append(compare(model, arguments.images, arguments.cells, start_s))
        keep(arguments.out, "sweep_vs_loop", {"rows": rows})  # a model measured is not lost to the next one's trouble
    for row in rows:
        print("\n".join(f"{k:<32} {v:.4g}" if isinstance(v, float) else f"{k:<32} {v}" for k, v in row.items()), "\n")
    report("sweep_vs_loop", {"rows": rows})


if __name__ == "__main__":
    main()
