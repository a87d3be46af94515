"""No pruning: every real patch token enters the LLM in the stock order.

The unpruned model itself, the reference of every comparison. Ignores the budget by definition.

Differs: none.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.methods.base import Method


@dataclass(frozen=True)
class Full(Method):
    """The unpruned model."""

    name = "full"
    paper = "baseline"

    @property
    def fixed_budget(self) -> bool:
        return False

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        note = "" if budget.is_full else "the unpruned model ignores the budget"
        return Selection(keep=encoded.layout.valid.clone(), note=note) if note else keep_all(encoded.layout)
