"""A sweep as one object, against what harnesses do: a process per cell over stock `generate()`, batch 1.

    python -m perf.sweep_vs_loop [--models hero-tiny,hero-tiny-internvl] [--questions 16] [--cells 16]

Three ways over identical samples, prompts and cells, each on one core and one thread:

- process per cell: a fresh process for every cell, stock `generate()`, one question at a time;
- warm loop: the same calls in one process that has loaded the model once;
- sweep: the sweep's evaluator in one process (encode once, shared prefixes, batched decode), start-up reported apart.

Answers must agree sample by sample. The gain is then taken apart: loading, encoding once, and prefix sharing with
batching.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hero_ray import models
from hero_ray.config import build
from hero_ray.evaluate import Evaluator, Settings
from hero_ray.pipeline.facts import Plan, make_plan
from perf import stock
from perf.report import report

TASKS = ("synth-exist", "synth-digits")
METHODS = ("fastervlm", "hired", "hero")
BUDGETS = (0.4, 0.2, 0.1)


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


def process_per_cell(plan: Plan, model: str, folder: Path) -> tuple[float, dict[str, dict[str, str]]]:
    """Seconds and answers of one process after another."""
    found: dict[str, dict[str, str]] = {}
    started = time.perf_counter()
    for cell in plan.cells:
        found |= _in_process(model, [cell], plan, folder)
    return time.perf_counter() - started, found


def _in_process(model: str, cells: list[Any], plan: Plan, folder: Path) -> dict[str, dict[str, str]]:
    source, target = folder / "cells.json", folder / "answers.json"
    tasks = [task.model_dump() for task in plan.tasks]
    source.write_text(json.dumps({"cells": [asdict(cell) for cell in cells], "tasks": tasks, "limit": 10**9}))
    subprocess.run([sys.executable, "-m", "perf.stock", model, str(source), str(target)], check=True)
    return dict(json.loads(target.read_text()))


def warm_loop(plan: Plan, model: str) -> tuple[float, dict[str, dict[str, str]]]:
    """Seconds and answers in this process, the model loaded before the clock starts."""
    models.load(model)
    started = time.perf_counter()
    found = stock.run_cells(model, plan.cells, plan.tasks, 10**9)
    return time.perf_counter() - started, found


def sweep(plan: Plan, model: str) -> tuple[float, float, dict[str, dict[str, str]], dict[str, int]]:
    """(seconds to load, seconds to answer, answers, counters) of the sweep's evaluator on one thread."""
    started = time.perf_counter()
    adapter = models.load(model)
    loaded = time.perf_counter()
    evaluator = Evaluator(adapter, plan.cells, plan.benchmarks, Settings())
    found: dict[str, dict[str, str]] = {}
    for unit in plan.units:
        for prediction in evaluator.evaluate(unit):
            assert prediction.error_type is None, prediction.error_message
            found.setdefault(prediction.cell_id, {})[prediction.sample.key] = prediction.text
    done = time.perf_counter()
    return loaded - started, done - loaded, found, dict(vars(evaluator.counters))


def encode_seconds(plan: Plan, model: str) -> float:
    """Seconds of one encode, averaged over the plan's pictures."""
    adapter = models.load(model)
    evaluator = Evaluator(adapter, plan.cells, plan.benchmarks, Settings())
    started = time.perf_counter()
    for unit in plan.units:
        first = unit.samples[0]
        adapter.encode(adapter.prepare(plan.benchmarks[first.benchmark].load_image(first.image_ref)), evaluator.needs)
    return (time.perf_counter() - started) / len(plan.units)


def compare(model: str, images: int, cells: int) -> dict[str, Any]:
    """All three ways on one model."""
    plan = plan_for(model, images, cells)
    load_s, sweep_s, ours, counters = sweep(plan, model)
    warm_s, warm = warm_loop(plan, model)
    with tempfile.TemporaryDirectory() as scratch:
        cold_s, cold = process_per_cell(plan, model, Path(scratch))
    answers = sum(len(row) for row in ours.values())
    different = sum(ours[cell][key] != text for cell, row in warm.items() for key, text in row.items())
    different += sum(ours[cell][key] != text for cell, row in cold.items() for key, text in row.items())
    encode_s = encode_seconds(plan, model)
    saved_encodes = (answers - counters["encodes"]) * encode_s
    return {
        "model": model,
        "cells": len(plan.cells),
        "pictures": len(plan.units),
        "answers": answers,
        "different_answers": different,
        "process_per_cell_s": cold_s,
        "warm_loop_s": warm_s,
        "sweep_s": sweep_s,
        "sweep_load_s": load_s,
        "ms_per_answer_process": 1e3 * cold_s / answers,
        "ms_per_answer_warm": 1e3 * warm_s / answers,
        "ms_per_answer_sweep": 1e3 * sweep_s / answers,
        "speedup_over_process_per_cell": cold_s / (sweep_s + load_s),
        "speedup_over_warm_loop": warm_s / sweep_s,
        "gain_loading_s": cold_s - warm_s,
        "gain_encode_once_s": saved_encodes,
        "gain_prefix_and_batching_s": warm_s - sweep_s - saved_encodes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="hero-tiny,hero-tiny-internvl")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--cells", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [compare(model, arguments.images, arguments.cells) for model in arguments.models.split(",")]
    for row in rows:
        print("\n".join(f"{k:<32} {v:.4g}" if isinstance(v, float) else f"{k:<32} {v}" for k, v in row.items()), "\n")
    report("sweep_vs_loop", {"rows": rows})


if __name__ == "__main__":
    main()
