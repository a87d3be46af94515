"""A smaller picture instead of pruning: the look with the most tokens that still fits the budget (straw man).

The picture is cut into fewer or smaller views, and the model then runs unpruned on it. Every pruning method should beat
this, since it costs less vision time as well.

Differs: not from a paper. Looks come in steps, so the count is at or below the budget, or the smallest look there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, ImagePlan
from hero_ray.methods.base import Method


@dataclass(frozen=True)
class Downsample(Method):
    """The picture resized to about the budget."""

    name = "downsample"
    stage = "image"
    paper = "baseline"
    straw_man = True

    def choose(self, options: tuple[ImagePlan, ...], budget: Budget) -> ImagePlan | None:
        if budget.is_full or not options:
            return None
        fitting = [plan for plan in options if plan.num_tokens <= budget.total]
        if not fitting:
            return min(options, key=lambda plan: plan.num_tokens)
        return max(fitting, key=lambda plan: plan.num_tokens)
