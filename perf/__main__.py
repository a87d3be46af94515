"""Run benchmarks one after the other: `python -m perf [NAME ...]`, all of them without a name.

Each runs in a process of its own with its defaults; what its last line says goes to perf/results/NAME.json. Half an
hour on two quiet cores. Busy machines give wrong figures: run nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from perf.report import keep

ALL: dict[str, tuple[str, ...]] = {
    "decisions": (),
    "overhead": (),
    "planning": (),
    "replicas": (),
    "selection": (),
    "prefix_reuse": (),
    "prefix_in_place": (),
    "sweep_vs_loop": (),
    "serve": (),
    "random_kills": (),  # on SQLite; `--db postgresql` by itself
    "simulate_cluster": (),
    "store": ("--rows", "1000000"),
}
"""Benchmarks and their options; `gpu_tables` (needs CUDA) and `lmms_harness` (another environment) run apart."""

RESULTS = Path(__file__).parent / "results"


def run(name: str) -> bool:
    """One benchmark; its last line is kept, unless it kept its figures itself. Returns whether it succeeded."""
    print(f"\n== {name}", flush=True)
    began, started, last = time.time(), time.perf_counter(), ""
    command = [sys.executable, "-u", "-m", f"perf.{name}", *ALL[name]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = line
            print(line, end="", flush=True)
    print(f"{time.perf_counter() - started:.0f} s", flush=True)
    try:
        figures = json.loads(last)
    except ValueError:
        return False
    if any(path.stat().st_mtime >= began for path in RESULTS.glob(f"{name}*.json")):
        return process.returncode == 0
    keep(RESULTS / f"{name}.json", name, figures)
    return process.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ALL))
    names = parser.parse_args().names or list(ALL)
    if unknown := [name for name in names if name not in ALL]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}")
    failed = [name for name in names if not run(name)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
