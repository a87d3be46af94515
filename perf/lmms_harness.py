"""lmms-eval itself beside a sweep: its `llava_hf` on the exported checkpoint, CPU, batch 1, local task files.

    python -m perf.lmms_harness --python ENV/bin/python [--images 16] [--cells 16]

ENV is an environment with lmms-eval (`pip install lmms-eval==0.7.3 decord`), kept apart for all that it brings.
It knows no pruning: what can be compared is the unpruned cell of each benchmark, the same pictures and questions in the
same words, one thread on both sides. Answers must agree sample by sample. Of lmms-eval the whole process is timed, and
what it reports for `generate()` alone; ours is everything from the picture's bytes to text.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import parquet

from hero_ray import models
from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.plan import Settings
from hero_ray.models.registry import EMBEDDED_WEIGHTS
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.opening import open_task
from perf.report import keep, report
from perf.sweep_vs_loop import evaluated, plan_for, say

MODEL = "hero-tiny"
TASK = """\
task: {name}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {folder}/{name}.parquet
test_split: test
output_type: generate_until
doc_to_visual: !function documents.visual
doc_to_text: !function documents.text
doc_to_target: answer
generation_kwargs:
  max_new_tokens: {max_new_tokens}
  temperature: 0
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
DOCUMENTS = """\
import io

from PIL import Image


def visual(document):
    return [Image.open(io.BytesIO(document["image"])).convert("RGB")]


def text(document):
    return document["prompt"]
"""


def write_task(benchmark: Benchmark, family: str, folder: Path) -> list[str]:
    """A task file and its documents; keys of the samples in their order."""
    rows, keys = [], []
    for sample in benchmark.samples():
        png = io.BytesIO()
        benchmark.load_image(sample.image_ref).save(png, "PNG")
        prompt = benchmark.prompt(sample, family)
        keys.append(sample.key)
        rows.append({"prompt": prompt, "answer": json.dumps(sample.references), "image": png.getvalue()})
    parquet.write_table(pa.Table.from_pylist(rows), folder / f"{benchmark.name}.parquet")
    fields = {"name": benchmark.name, "folder": folder, "max_new_tokens": benchmark.max_new_tokens}
    (folder / f"{benchmark.name}.yaml").write_text(TASK.format(**fields))
    (folder / "documents.py").write_text(DOCUMENTS)
    return keys


def run_task(python: str, name: str, folder: Path) -> tuple[float, float, dict[int, str]]:
    """(seconds of the whole process, seconds in `generate()`, answers by document).

    Raises:
        SystemExit: lmms-eval failed or left no answers; its last words are the message.
    """
    out = folder / f"{name}-out"
    options = {
        "--model": "llava_hf",
        "--model_args": f"pretrained={EMBEDDED_WEIGHTS / MODEL},device=cpu,device_map=cpu,dtype=float32",
        "--include_path": str(folder),
        "--tasks": name,
        "--batch_size": "1",
        "--output_path": str(out),
    }
    words = [word for pair in options.items() for word in pair]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    alone = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [python, "-m", "lmms_eval", *words, "--log_samples"]
    started = time.perf_counter()
    done = subprocess.run(command, env=os.environ | offline | alone, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    samples, results = list(out.rglob("*_samples_*.jsonl")), list(out.rglob("*_results.json"))
    if done.returncode or not samples or not results:
        raise SystemExit(f"lmms-eval ended with {done.returncode}, without answers:\n{done.stderr[-3000:]}")
    lines = [json.loads(line) for line in samples[0].read_text().splitlines()]
    generating = json.loads(results[0].read_text())["throughput"]["total_elapsed_time"]
    return seconds, generating, {line["doc_id"]: "".join(line["filtered_resps"]).strip() for line in lines}


def compare(python: str, plan: Plan) -> dict[str, Any]:
    """Both ways over the unpruned cells, and the sweep over all of them."""
    adapter = models.load(MODEL)
    evaluated(replace(plan, units=plan.units[:1]), adapter, Settings())  # what only the first picture pays
    sweep_s, ours, _ = evaluated(plan, adapter, Settings())
    full = replace(plan, cells=tuple(cell for cell in plan.cells if cell.method == "full"))
    full_s, _, _ = evaluated(full, adapter, Settings())
    process_s = generate_s = 0.0
    different = count = 0
    with tempfile.TemporaryDirectory() as scratch:
        for cell, task in zip(full.cells, plan.tasks, strict=True):
            benchmark = open_task(task)
            keys = write_task(benchmark, adapter.info.family, Path(scratch))
            say(f"{benchmark.name}: lmms-eval on {len(keys)} questions")
            process, generating, theirs = run_task(python, benchmark.name, Path(scratch))
            different += sum(theirs.get(i) != ours[cell.id][key] for i, key in enumerate(keys))
            process_s, generate_s, count = process_s + process, generate_s + generating, count + len(keys)
    answers = sum(len(row) for row in ours.values())
    lmms_ms, sweep_ms = 1e3 * generate_s / count, 1e3 * sweep_s / answers
    return {
        "answers_compared": count,
        "different_answers": different,
        "lmms_process_s_per_cell": process_s / len(full.cells),
        "lmms_generate_ms_per_answer": lmms_ms,
        "sweep_cells": len(plan.cells),
        "sweep_ms_per_answer": sweep_ms,
        "sweep_full_cells_alone_ms_per_answer": 1e3 * full_s / count,
        "generate_over_sweep": lmms_ms / sweep_ms,
        "process_over_sweep": 1e3 * process_s / count / sweep_ms,
    }


def version(python: str) -> str:
    """lmms-eval's version there.

    Raises:
        SystemExit: it is not installed there.
    """
    code = "from importlib.metadata import version; print(version('lmms-eval'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python} has no lmms-eval. Make an environment for it: pip install lmms-eval==0.7.3 decord")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="interpreter of an environment with lmms-eval")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--cells", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = {"lmms_eval": version(options.python)}
    figures |= compare(options.python, plan_for(MODEL, options.images, options.cells))
    keep(Path("perf/results/lmms_harness.json"), "lmms_harness", figures)
    report("lmms_harness", figures)


if __name__ == "__main__":
    main()
