"""From which answer length on, and at which budget, does a method pay?

A method spends time before the LLM (capturing, scoring, selecting) to save time inside it. With o its overhead, p the
prefill it saves and s what it saves per decode step, an answer of t tokens gains p - o + (t - 1) s milliseconds.

Method and unpruned model are timed in turns, so the i-th runs of both belong together. What is gained has an interval
from these pairs; where it holds 0 the answer is "within noise", not a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hero_ray.profiling.certificate import require_comparable
from hero_ray.stats.intervals import t_quantile

LONGEST = 2**14
"""Longest answer, in tokens, that is looked at for where a method pays."""


@dataclass(frozen=True)
class BreakEven:
    """A method at one budget against the unpruned model, in milliseconds per request batch.

    Attributes:
        overhead_ms: encode and select beyond the unpruned model's.
        prefill_saved_ms, step_saved_ms: LLM time saved once, and per decode step.
        pays_from: shortest answer, in tokens, that is faster than unpruned; None if there is none.
        pays_until: longest such answer where the method loses time per step; None if there is no end.
        pairs: mean and covariance of what each pair of runs says of p - o and of s; None in records without runs.
    """

    overhead_ms: float
    prefill_saved_ms: float
    step_saved_ms: float
    pays_from: int | None
    pays_until: int | None
    pairs: Mapping[str, float] | None = None

    def interval(self, new_tokens: int, level: float = 0.95) -> tuple[float, float] | None:
        """Bounds of `saved_ms` from the pairs (Student's t); None without them."""
        if self.pairs is None or self.pairs["n"] < 2:
            return None
        low, high = self._bounds(np.array([new_tokens]), level)
        return float(low[0]), float(high[0])

    def _bounds(self, lengths: NDArray[np.int64], level: float = 0.95) -> tuple[Any, Any]:
        found, steps = self.pairs or {}, lengths - 1
        centre = found["first"] + steps * found["step"]
        variance = found["var_first"] + 2 * steps * found["covariance"] + steps**2 * found["var_step"]
        half = t_quantile((1 + level) / 2, found["n"] - 1) * np.sqrt(np.maximum(0.0, variance) / found["n"])
        return centre - half, centre + half

    @property
    def shown(self) -> tuple[int | None, int | None]:
        """First and last answer length whose interval shows that it gains time; no last one where there is no end.

        The lower bound is concave in the length, so there are no gaps between them.
        """
        if self.interval(1) is None:
            return None, None
        lengths = np.arange(1, LONGEST + 1)
        gains = lengths[self._bounds(lengths)[0] > 0]
        if not gains.size:
            return None, None
        return int(gains[0]), None if gains[-1] == LONGEST else int(gains[-1])

    def verdict(self, lengths: Sequence[int]) -> str:
        """`pays`, `costs` or `within noise` over some answer lengths, where all agree; else `depends`."""
        words = set()
        for length in lengths:
            bounds = self.interval(length)
            words.add("unknown" if bounds is None else _word(*bounds))
        return words.pop() if len(words) == 1 else "depends"

    def saved_ms(self, new_tokens: int) -> float:
        """Time won on an answer of `new_tokens` tokens; negative means lost."""
        return self.prefill_saved_ms - self.overhead_ms + (new_tokens - 1) * self.step_saved_ms


def break_even(full: Mapping[str, Any], method: Mapping[str, Any]) -> BreakEven:
    """Compare two profile records of one certificate, by their medians.

    Raises:
        NotComparableError: the records were measured under different conditions.
    """
    require_comparable([full["certificate"], method["certificate"]])
    overhead = method["encode_ms"] + method["select_ms"] - full["encode_ms"] - full["select_ms"]
    prefill = full["prefill_ms"] - method["prefill_ms"]
    step = full["tpot_ms_p50"] - method["tpot_ms_p50"]
    pays_from, pays_until = _range(prefill - overhead, step)
    return BreakEven(overhead, prefill, step, pays_from, pays_until, _pairs(full, method))


def _word(low: float, high: float) -> str:
    return "pays" if low > 0 else "costs" if high < 0 else "within noise"


def _pairs(full: Mapping[str, Any], method: Mapping[str, Any]) -> dict[str, float] | None:
    """Mean and covariance over pairs of runs of (gain of the first token, gain per decode step)."""
    base, mine = (record.get("details", {}).get("runs_ms") for record in (full, method))
    if not base or not mine or len(base["encode"]) != len(mine["encode"]) or len(base["encode"]) < 2:
        return None
    gain = {stage: np.subtract(base[stage], mine[stage]) for stage in ("encode", "select", "prefill", "decode")}
    first = gain["encode"] + gain["select"] + gain["prefill"]
    step = gain["decode"] / (full["new_tokens"] - 1)
    covariance = np.cov(first, step)
    return {
        "n": int(first.size),
        "first": float(first.mean()),
        "step": float(step.mean()),
        "var_first": float(covariance[0, 0]),
        "var_step": float(covariance[1, 1]),
        "covariance": float(covariance[0, 1]),
    }


def _range(first: float, step: float) -> tuple[int | None, int | None]:
    """Answer lengths t >= 1 with first + (t - 1) * step > 0."""
    if first > 0:
        if step >= 0:
            return 1, None
        return 1, math.ceil(first / -step)
    if step <= 0:
        return None, None
    return math.floor(-first / step) + 2, None


def largest_paying_budget(
    full: Mapping[str, Any], records: Sequence[Mapping[str, Any]], new_tokens: int
) -> float | None:
    """Highest retention ratio among a method's records that is shown to gain time on answers of `new_tokens` tokens."""
    paying = []
    for record in records:
        found = break_even(full, record)
        bounds = found.interval(new_tokens)
        if (found.saved_ms(new_tokens) if bounds is None else bounds[0]) > 0:
            paying.append(record["retention_ratio"])
    return max(paying, default=None)
