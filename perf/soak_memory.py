"""How the memory of the soak's programs moves: by what a process does, each process fitted over its own life."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import psutil

KINDS = (
    (r"ModelReplica", "model replica"),
    (r"ServeReplica.*Ingress|Ingress", "API ingress"),
    (r"ray::Proxy", "HTTP proxy (Ray Serve)"),
    (r"ray::ServeController", "controller (Ray Serve)"),
    (r"gcs_server", "control store (Ray)"),
    (r"raylet/raylet|(^|/)raylet ", "raylet (Ray)"),
    (r"dashboard/agent|runtime_env/agent", "agents (Ray)"),
    (r"dashboard", "dashboard and Jobs API (Ray)"),
    (r"JobSupervisor", "job supervisor (Ray)"),
    (r"hero_ray\.sweep", "driver of a sweep"),
    (r"UnitWorker|MapWorker|Stopwatch", "worker of a sweep"),
    (r"ray::", "other workers (Ray)"),
    (r"hero_ray serve", "hero-ray serve"),
)
"""What the command line tells of a process of the service; the first that fits."""
DASHBOARD = "hero-ray dashboard"
EVERY_S = 5.0
WARM_UP_S = 120.0
"""Of every process: code is loaded and pools are filled in the beginning of its life, not of the program's."""
LEAST_SAMPLES = 12
Sample = tuple[float, dict[int, tuple[str, float]]]
"""When (seconds), and {process id: (kind, MiB that are its own)}."""


class Watched(Protocol):
    """Programs whose processes can be listed."""

    def processes(self) -> Mapping[str, Mapping[int, psutil.Process]]:
        """By program: `service`, `dashboard`."""
        ...


def kind(command: str) -> str:
    """What a process of the service does."""
    return next((name for pattern, name in KINDS if re.search(pattern, command)), "other")


async def watch(programs: Watched, until: float, samples: list[Sample]) -> None:
    """Memory of every process, each five seconds; shared pages, such as Ray's object store, are left out."""

    def look() -> dict[int, tuple[str, float]]:
        found = {}
        for program, processes in programs.processes().items():
            for pid, process in processes.items():
                with suppress(psutil.Error):
                    memory, command = process.memory_info(), " ".join(process.cmdline())
                    name = kind(command) if program == "service" else DASHBOARD
                    found[pid] = (name, (memory.rss - memory.shared) / 2**20)
        return found

    while time.monotonic() < until:
        samples.append((time.monotonic(), await asyncio.to_thread(look)))
        await asyncio.sleep(EVERY_S)


def lives(samples: Sequence[Sample]) -> dict[int, tuple[str, np.ndarray]]:
    """{process id: (kind, [minutes, MiB] x times)}; a worker is what it was last known as, for it begins nameless."""
    series: dict[int, list[tuple[float, float]]] = defaultdict(list)
    names: dict[int, str] = {}
    for when, found in samples:
        for pid, (name, mib) in found.items():
            series[pid].append((when / 60, mib))
            names[pid] = name
    return {pid: (names[pid], np.array(series[pid])) for pid in series}


def growth(samples: Sequence[Sample], warm_up_s: float = WARM_UP_S) -> dict[str, dict[str, float]]:
    """What the processes of each kind grow by once they are warm, and how many there were.

    Of every process the time after its own warm-up counts. One slope is fitted to all of a kind, each with a level of
    its own (least squares with fixed effects), so that a process which is replaced by a young one is no shrinking.

    Returns:
        Per kind: `lived` and `at_end` (processes), `mib_at_end` (of all together), `minutes` (of warm processes
        together), `mib_per_minute` (of one process; NaN if none was warm for a minute), `longest_from_mib` and
        `longest_to_mib` (means of the first and last fifth of the warm time of the one that lived longest).
    """
    figures: dict[str, dict[str, float]] = {}
    warm: dict[str, list[np.ndarray]] = defaultdict(list)
    for name, points in lives(samples).values():
        row = figures.setdefault(name, {"lived": 0, "at_end": 0, "mib_at_end": 0.0})
        row["lived"] += 1
        late = points[points[:, 0] >= points[0, 0] + warm_up_s / 60]
        if len(late) >= LEAST_SAMPLES:
            warm[name].append(late)
    for name, mib in samples[-1][1].values():
        figures[name]["at_end"] += 1
        figures[name]["mib_at_end"] += mib
    return {name: row | _slope(warm[name]) for name, row in sorted(figures.items())}


def _slope(warm: Sequence[np.ndarray]) -> dict[str, float]:
    if not warm:
        return {"minutes": 0.0, "mib_per_minute": float("nan")}
    centred = np.concatenate([points - points.mean(0) for points in warm])
    longest = max(warm, key=lambda points: points[-1, 0] - points[0, 0])
    fifth = max(1, len(longest) // 5)
    return {
        "minutes": float(sum(points[-1, 0] - points[0, 0] for points in warm)),
        "mib_per_minute": float((centred[:, 0] * centred[:, 1]).sum() / (centred[:, 0] ** 2).sum()),
        "longest_from_mib": float(longest[:fifth, 1].mean()),
        "longest_to_mib": float(longest[-fifth:, 1].mean()),
    }


def table(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The figures as lines for people."""
    lines = [f"{'':30} {'lived':>5} {'at end':>6} {'MiB':>8} {'warm min':>8} {'MiB/min':>8}   longest-lived, MiB"]
    for name, row in figures.items():
        moved = f"{row['longest_from_mib']:.0f} to {row['longest_to_mib']:.0f}" if "longest_to_mib" in row else "-"
        lines.append(
            f"{name:30} {row['lived']:5.0f} {row['at_end']:6.0f} {row['mib_at_end']:8.0f} {row['minutes']:8.1f} "
            f"{row['mib_per_minute']:8.2f}   {moved}"
        )
    return lines
