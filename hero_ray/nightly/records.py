"""What one night leaves behind, as the comparison takes it. Arrays only; `history` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_SPEED_NIGHTS = 5

SPEEDS = ("ttft_ms_p50", "tpot_ms_p50", "peak_memory_bytes")
"""Profile figures that are compared; more is worse in each."""


@dataclass(frozen=True)
class CellNight:
    """One cell in one night.

    Attributes:
        label: identity of the cell across nights: model, method, budget, benchmark, seed. Unlike the cell's id it
            stays the same when weights, data or code change.
        ids, clusters, scores: answered samples, their pictures, their main scores: [samples] each.
        spec: what the cell's id is a hash of; where two nights differ in it, that is what changed.
        scale: what a score is out of, for messages in points.
    """

    label: str
    cell_id: str
    ids: NDArray[Any]
    clusters: NDArray[Any]
    scores: NDArray[np.float64]
    n_expected: int
    n_failed: int
    spec: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0

    @property
    def n_done(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Speed:
    """Figures of one timed (model, method, budget); comparable only where certificates are equal."""

    label: str
    cell_ids: tuple[str, ...]
    certificate: str
    figures: Mapping[str, float]
    conditions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Night:
    """One execution of the panel, or a repetition of some of its cells."""

    run_id: str
    cells: Mapping[str, CellNight]
    speeds: Mapping[str, Speed]
    git_commit: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GuardSettings:
    """How hard the guard looks.

    Attributes:
        window: good nights that tonight is compared with.
        suspicion: share of change-free nights whose answers, and again whose timings, may have a cell repeated.
        confirmation: chance of a repetition without change to confirm. Both together keep false alarms below 5 % of
            nights; `tests/simulations/test_nightly_simulations.py` measures it.
        alone: the level for findings that could not be repeated.
        min_drop: smallest alarming loss of accuracy, in points of 100.
        min_slowdown: smallest alarming relative growth of a time or of memory.
    """

    window: int = 14
    suspicion: float = 0.10
    confirmation: float = 0.05
    alone: float = 0.025
    min_drop: float = 0.5
    min_slowdown: float = 0.07


@dataclass(frozen=True)
class Suspicion:
    """One thing that got worse.

    Attributes:
        kind: `quality`, `failures`, `missing`, or `speed`.
        label: the cell, or the timed (model, method, budget).
        figure: which figure: a score, a count, or one of `SPEEDS`.
        before, after: mean over the good nights, and tonight.
        low, high: 95 % interval of the change, in the unit of `change`.
        change: points for quality, per cent for speed, count otherwise.
        p: probability of a change like this if nothing changed, before the correction for many cells.
        p_adjusted: the same after it.
        noticeable: points below which a drop could not have been noticed here; None where no drop could have been.
    """

    kind: str
    label: str
    figure: str
    before: float
    after: float
    change: float
    low: float | None = None
    high: float | None = None
    p: float = 0.0
    p_adjusted: float = 0.0
    cell_ids: tuple[str, ...] = ()
    note: str = ""
    noticeable: float | None = None


@dataclass(frozen=True)
class NightVerdict:
    """What the guard concluded of a night.

    Attributes:
        state: `ok`, `regression`, `first` (nothing to compare with) or `failed` (the run itself did not complete).
        alarms: findings that a repetition of their cells confirmed (or that needed none).
        silenced: findings that the repetition did not confirm.
        notes: what could not be compared, and changes that are no alarm.
        changed: (what, before, after) between the last good night and tonight.
        looks: the quality of every cell that was compared, whether or not it alarmed.
    """

    run_id: str
    night: str
    state: str
    alarms: tuple[Suspicion, ...] = ()
    silenced: tuple[Suspicion, ...] = ()
    notes: tuple[str, ...] = ()
    changed: tuple[tuple[str, str, str], ...] = ()
    compared_with: Sequence[str] = ()
    n_cells: int = 0
    looks: tuple[Suspicion, ...] = ()
