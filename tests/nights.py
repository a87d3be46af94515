"""Simulated nights for the guard's tests: a panel of cells whose answers flicker and whose timings wobble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hero_ray.nightly.records import CellNight, Night, Speed, Suspicion

METHODS = ("full", "random", "hired", "hero")
RATIOS = (0.4, 0.2)
BENCHMARKS = ("synth-digits", "synth-exist", "synth-words")


@dataclass(frozen=True)
class Panel:
    """Draws nights of the same program on the same machine.

    Attributes:
        questions, per_picture: samples per cell, and how many share a picture.
        flicker: share of samples whose answer differs between nights for no reason.
        noise: spread of a timing between nights (relative); `shared` of it moves all timings of a night together.
        failing: chance of a sample to fail for no reason.
    """

    seed: int = 0
    questions: int = 600
    per_picture: int = 4
    flicker: float = 0.01
    noise: float = 0.02
    shared: float = 0.02
    failing: float = 0.0

    def labels(self) -> list[str]:
        return [f"{m} {r:g} {b}" for m in METHODS for r in RATIOS for b in BENCHMARKS if m != "full" or r == 0.4]

    def base(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        return {
            label: np.where(
                rng.random(self.questions) < self.flicker,
                rng.uniform(0.1, 0.9, self.questions),
                (rng.random(self.questions) < rng.uniform(0.5, 0.9)).astype(float),
            )
            for label in self.labels()
        }

    def night(self, rng: np.random.Generator, base: Mapping[str, np.ndarray], run_id: str = "tonight") -> Night:
        n = self.questions
        ids = np.arange(n)
        pictures = np.arange(n) // self.per_picture
        cells = {}
        for label, chance in base.items():
            ok = rng.random(n) >= self.failing
            scores = (rng.random(n) < chance).astype(float)[ok]
            cells[label] = CellNight(label, label, ids[ok], pictures[ok], scores, n, int((~ok).sum()), {})
        common = rng.normal(0, self.shared)
        speeds = {}
        for method in METHODS:
            for ratio in RATIOS:
                wobble = np.exp(common + rng.normal(0, self.noise, 2))
                figures = {"ttft_ms_p50": 100 * ratio * wobble[0], "tpot_ms_p50": 5 * wobble[1]}
                figures["peak_memory_bytes"] = 1e9 * ratio
                label = f"{method} {ratio:g}"
                speeds[label] = Speed(label, (label,), "certificate", figures, {"torch": "2.13.0"})
        environment = {"packages": {"torch": "2.13.0"}, "driver": None}
        return Night(run_id, cells, speeds, "abc", environment, {"models": ["hero-tiny"]})

    def history(self, rng: np.random.Generator, base: Mapping[str, np.ndarray], nights: int = 14) -> list[Night]:
        return [self.night(rng, base, f"night-{number:02d}") for number in range(nights, 0, -1)]


def lower(night: Night, label: str, points: float) -> Night:
    """The night with `points` of 100 fewer right answers in one cell, spread over its pictures."""
    cell = night.cells[label]
    right = np.flatnonzero(cell.scores == 1)
    lost = right[np.linspace(0, len(right) - 1, round(points / 100 * len(cell.scores))).astype(int)]
    scores = cell.scores.copy()
    scores[lost] = 0.0
    return replace(night, cells={**night.cells, label: replace(cell, scores=scores)})


def slower(night: Night, label: str, factor: float) -> Night:
    """The night with one (method, budget) slower by `factor` in every time."""
    speed = night.speeds[label]
    figures = {name: value * (factor if name.endswith("_p50") else 1.0) for name, value in speed.figures.items()}
    return replace(night, speeds={**night.speeds, label: replace(speed, figures=figures)})


def only(night: Night, findings: Sequence[Suspicion]) -> Night:
    """What a repetition of some findings' cells brings: those cells of `night` and nothing else."""
    labels = {finding.label for finding in findings}
    return replace(
        night,
        run_id="again",
        cells={label: cell for label, cell in night.cells.items() if label in labels},
        speeds={label: speed for label, speed in night.speeds.items() if label in labels},
    )
