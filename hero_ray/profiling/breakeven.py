"""From which answer length on, and at which budget, does a method pay?

A method spends time before the LLM (capturing, scoring, selecting) to save time inside it. With o its overhead, p the
prefill it saves and s what it saves per decode step, an answer of t tokens gains p - o + (t - 1) s milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hero_ray.profiling.certificate import require_comparable


@dataclass(frozen=True)
class BreakEven:
    """A method at one budget against the unpruned model, in milliseconds per request batch.

    Attributes:
        overhead_ms: encode and select beyond the unpruned model's.
        prefill_saved_ms, step_saved_ms: LLM time saved once, and per decode step.
        pays_from: shortest answer, in tokens, that is faster than unpruned; None if there is none.
        pays_until: longest such answer where the method loses time per step; None if there is no end.
    """

    overhead_ms: float
    prefill_saved_ms: float
    step_saved_ms: float
    pays_from: int | None
    pays_until: int | None

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
    return BreakEven(overhead, prefill, step, pays_from, pays_until)


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
    """Highest retention ratio among a method's records that gains time on answers of `new_tokens` tokens."""
    paying = [record["retention_ratio"] for record in records if break_even(full, record).saved_ms(new_tokens) > 0]
    return max(paying, default=None)
