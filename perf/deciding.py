"""A sweep that stops asking what is decided, against the full sweep: wall time, answers and decisions, side by side.

    python -m perf.deciding [--models hero-tiny,hero-tiny-internvl] [--pictures 1000] [--margin 3]

Both sweeps of a model run in fresh processes with a Ray of their own, one after the other, without the timing pass.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hero_ray.store import Store, open_store
from perf.report import keep, report

TASKS = ("synth-words",)


def sweep(folder: Path, model: str, pictures: int, *more: str) -> tuple[float, Store]:
    """Wall time of one sweep in seconds, and its results."""
    source = {"num_images": pictures}
    document = {"name": "deciding", "tasks": [{"name": name, "source": source} for name in TASKS], "models": [model]}
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps(document | METHODS))
    database = f"sqlite:///{folder / 'results.db'}"
    command = [sys.executable, "-m", "hero_ray.sweep", "sweep.json", "--no-profile", "--db", database, *more]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, open_store(database, read_only=True)


METHODS: dict[str, Any] = {"methods": ["fastervlm", "hired", "hero"], "budgets": ["40%", "20%", "10%"]}


def compared(model: str, pictures: int, margin: float, folder: Path) -> dict[str, Any]:
    """One model: the full sweep, then the one until decided."""
    whole_s, whole = sweep(folder / f"{model}-all", model, pictures)
    decided_s, decided = sweep(
        folder / f"{model}-decided", model, pictures, "--until", "decided", "--margin", f"{margin:g}"
    )
    run = decided.run("latest")
    cells = decided.cells(run.id)
    reasons: dict[str, int] = {}
    for cell in cells:
        word = (cell.stop_reason or "open").split()[0]
        reasons[word] = reasons.get(word, 0) + 1
    return {
        "model": model,
        "pictures": pictures,
        "margin": margin,
        "cells": len(cells),
        "all_s": round(whole_s, 1),
        "decided_s": round(decided_s, 1),
        "faster": round(whole_s / decided_s, 2),
        "answers": whole.totals(whole.run("latest").id)[0],
        "asked": decided.totals(run.id)[0],
        "decided": reasons,
        "contradicted": contradicted(whole, decided, margin),
    }


def contradicted(whole: Store, decided: Store, margin: float) -> int:
    """Cells called within or below the margin whose figure on all pictures is a point or more on the other side."""
    run, other = whole.run("latest").id, decided.run("latest").id
    means = {cell: rows[0].value for cell, rows in whole.metrics(run).items()}
    cells = {cell.id: cell for cell in whole.cells(run)}
    full = {cell.benchmark: means[cell.id] for cell in cells.values() if cell.method == "full"}
    wrong = 0
    for cell, stopped in decided.stopped(other).items():
        loss = 100 * (full[cells[cell].benchmark] - means[cell])
        wrong += stopped.reason.startswith("within") and loss > margin + 1
        wrong += stopped.reason.startswith("over") and loss < margin - 1
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="hero-tiny,hero-tiny-internvl")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--margin", type=float, default=3.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [compared(model, options.pictures, options.margin, Path(folder)) for model in options.models.split(",")]
    figures = {f"{row['model']}: times faster": row["faster"] for row in rows} | {"rows": rows}
    keep(Path(__file__).parent / "results" / "deciding.json", "deciding", figures)
    report("deciding", figures)


if __name__ == "__main__":
    main()
