"""Peak memory of a sweep's driver: once the plan is made, and once answers come in.

    python -m perf.driver_memory [--pictures 20000] [--questions 10] [--units 200]

The model sleeps for no time at all; the sweep is stopped as Ctrl-C would after so many units. Only the tree on
`PYTHONPATH` differs when an older build is measured by this file.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from hero_ray.pipeline.run import run
from hero_ray.store import Store, open_store
from perf.overhead import LOADER, sleeping_plan
from perf.report import report

BUDGETS = [round(0.04 * (i + 1), 2) for i in range(24)]
"""With `full` 25 cells."""


def peak_mb() -> float:
    """Largest resident size of this process so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def stop_after(url: str, answers: int, patience_s: float) -> None:
    """Interrupt this process once so many answers are stored."""
    with open_store(url, read_only=True) as store:
        limit = time.monotonic() + patience_s
        while time.monotonic() < limit:
            time.sleep(0.5)
            if (rows := store.runs()) and sum(store.totals(rows[0].id)) >= answers:
                break
    os.kill(os.getpid(), signal.SIGINT)


def measure(pictures: int, questions: int, units: int) -> dict[str, Any]:
    """Megabytes."""
    bare, started = peak_mb(), time.process_time()
    task = {"name": "synth-exist", "source": {"num_images": pictures, "questions_per_image": questions}}
    plan = sleeping_plan(
        pictures,
        tasks=[task],
        methods=["full", "hero"],
        budgets=BUDGETS,
        model_args={"work_ms": 0},
        profile={"enabled": False},
        replicas=1,
    )
    figures = {"questions": len(plan.samples), "cells": len(plan.cells), "bare_mb": bare, "planned_mb": peak_mb()}
    figures["plan_processor_s"] = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        store: Store = open_store(f"sqlite:///{folder}/results.db")
        answers = units * questions * len(plan.cells)
        threading.Thread(target=stop_after, args=(store.url, answers, 400.0), daemon=True).start()
        try:
            run(plan, store, loader=LOADER)
        except KeyboardInterrupt:
            figures["stored"] = sum(store.totals(store.runs()[0].id))
        return figures | {"driver_mb": peak_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--units", type=int, default=200)
    arguments = parser.parse_args()
    report("driver_memory", measure(arguments.pictures, arguments.questions, arguments.units))


if __name__ == "__main__":
    main()
