"""This build beside an older one, in one run: `python -m perf.beside --beside PATH_OF_AN_OLDER_CHECKOUT`.

Every part runs in a process of its own, the two builds in turns, three times; printed are medians of wall and processor
seconds (children included) and their ratio. Only the tree differs: both sides run the same scripts, from
`perf/beside_parts.py`, on the same Python. Run nothing beside it; the demo parts take ten minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from perf.report import report

HERE = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_name("beside_parts.py")
PARTS = ("ingest-sqlite", "ingest-postgresql", "engine-hero-tiny", "engine-hero-tiny-internvl", "demo", "again")


def spent() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(part: str, tree: Path, folder: Path, rows: int) -> dict[str, float]:
    """One run of one part in one tree.

    Raises:
        SystemExit: the part failed; its last line is shown.
    """
    folder.mkdir(exist_ok=True)
    if part in ("demo", "again"):  # `again` finds the database that `demo` left
        if part == "demo":
            for old in folder.glob("demo.db*"):
                old.unlink()
        command = [sys.executable, "-m", "hero_ray.sweep", "--db", str(folder / "demo.db")]
    else:
        command = [sys.executable, str(SCRIPT), part, str(folder), str(rows)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # whoever installs a package has it compiled once
    before, started = spent(), time.perf_counter()
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    found = {"wall_s": time.perf_counter() - started, "processor_s": spent() - before}
    if done.returncode:
        raise SystemExit(f"{part} in {tree}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    if part not in ("demo", "again"):
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


def compare(part: str, trees: dict[str, Path], scratch: Path, repeats: int, rows: int) -> dict[str, dict[str, float]]:
    """Medians of every figure of a part, by side."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in trees}
    for _ in range(repeats):
        for side, tree in trees.items():
            found[side].append(measure(part, tree, scratch / side, rows))
    names = next(iter(found.values()))[0]
    return {side: {name: median(one[name] for one in several) for name in names} for side, several in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, required=True, help="a checkout of the older build")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=300_000, help="predictions of the ingest parts, in 100 cells")
    arguments = parser.parse_args()
    trees = {"older": arguments.beside.resolve(), "this": HERE}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for part in arguments.parts.split(","):
            sides = compare(part, trees, Path(scratch), arguments.repeats, arguments.rows)
            for name in sides["this"]:
                older, this = sides["older"][name], sides["this"][name]
                rows.append({"part": part, "figure": name, "older": older, "this": this, "ratio": this / older})
                print(f"{part:<28} {name:<28} {older:>12.4g} {this:>12.4g} {this / older:>7.2f}x", flush=True)
    report("beside", {"repeats": arguments.repeats, "rows": rows})


if __name__ == "__main__":
    main()
