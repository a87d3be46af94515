"""How every benchmark ends: a small table for people, one JSON line for scripts."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Where a figure was measured."""
    from hero_ray.pipeline.provenance import environment, git_commit

    facts = environment()
    return {
        "processor": facts["processor"],
        "cpus": os.cpu_count(),
        "gpus": facts["gpus"],
        "python": platform.python_version(),
        "packages": facts["packages"],
        "commit": git_commit(),
    }


def report(name: str, figures: Mapping[str, Any]) -> None:
    """Print figures as a two-column table, then `{"name", ..., "machine"}` as the last line."""
    width = max(map(len, figures), default=0)
    for key, value in figures.items():
        if not isinstance(value, dict | list):
            print(f"{key:<{width}}  {value:.4g}" if isinstance(value, float) else f"{key:<{width}}  {value}")
    print(json.dumps({"name": name, **figures, "machine": machine()}))


def keep(path: Path, name: str, figures: Mapping[str, Any]) -> None:
    """Leave the figures in a file, with the machine they were measured on and the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"name": name, "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **figures}
    path.write_text(json.dumps(record | {"machine": machine()}, indent=2) + "\n", encoding="utf-8")
