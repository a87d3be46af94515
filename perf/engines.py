"""vLLM beside our own blocks on one core: processor time of the same answers, the sides in turns.

    .venv-vllm/bin/python -m perf.engines [--rounds 3] [--then CHECKOUT]

A random Llama of 42 million parameters in fp32, one thread, 8 new tokens behind 20 text tokens, a picture and 25 text
tokens. Every side of every round is a process of its own; what is counted is its processor time between the first
request and the last answer, start and weights apart. Tokens must be equal. `--then` also times our blocks as they were
in another checkout. Needs an interpreter that has vLLM (`make setup-vllm`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hero_ray.core.engines import vllm_version
from perf.report import keep

ROOT = Path(__file__).resolve().parents[1]


def side(name: str, checkout: Path) -> dict[str, Any]:
    """One process of one side."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", str(ROOT / "perf" / "engines_side.py"), name, folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--then", type=Path, help="a checkout whose runner is timed too")
    asked = parser.parse_args()
    sides = {"vllm": ("vllm", ROOT), "ours": ("ours", ROOT)}
    if asked.then:
        sides["then"] = ("ours", asked.then)
    rounds = [{name: side(*how) for name, how in sides.items()} for _ in range(asked.rounds)]
    found: dict[str, Any] = {"vllm_version": vllm_version(), "rounds": asked.rounds, "workloads": {}}
    for work in rounds[0]["ours"]:
        alike = all(one[name][work]["tokens"] == one["vllm"][work]["tokens"] for one in rounds for name in sides)
        lines: dict[str, Any] = {"equal_tokens": alike}
        for name in sides:
            lines[f"{name}_s"] = [round(one[name][work]["seconds"], 2) for one in rounds]
        for name in sides.keys() - {"vllm"}:
            ratios = [one["vllm"][work]["seconds"] / one[name][work]["seconds"] for one in rounds]
            lines[f"vllm_over_{name}"] = [round(ratio, 2) for ratio in sorted(ratios)]
        found["workloads"][work] = lines
        print(work, json.dumps(lines), flush=True)
    keep(ROOT / "perf" / "results" / "engines.json", "engines", found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
