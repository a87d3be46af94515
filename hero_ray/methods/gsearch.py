"""G-Search and P-Sigmoid: a keep rate for every block (arXiv 2412.00556; our reading, no code published).

Before each block but the first the visual tokens are ranked by the last prompt token's attention in the block just run,
and floor(rate M) live on; cumulative, positions stay. `schedule` holds the rates that `search` found (`hero-ray
calibrate gsearch`): greedily from shallow to deep, per block the lowest rate that keeps the quality of a calibration
set. Without a schedule rates follow P-Sigmoid, 1 / (1 + exp(k (l - x0))), with x0 solved so that the mean share over
blocks is R.

Differs: everything beyond the abstract is our reading: ranking, bisection, tolerance, and k, which counts for 32 blocks
and grows with shallower ones so that the curve keeps its shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.errors import ParameterError
from hero_ray.methods.base import LayerPruner, Method
from hero_ray.methods.kit import dropping


@dataclass(frozen=True)
class GSearch(Method):
    """A keep rate per block."""

    schedule: tuple[float, ...] | None = None
    steepness: float = 0.3

    name = "gsearch"
    stage = "in-llm"
    text_aware = True
    reads = "the last prompt token's attention row in every block"
    paper = "G-Search, arXiv 2412.00556"
    positions = "keep"

    @property
    def fixed_budget(self) -> bool:
        return self.schedule is None

    def check(self) -> None:
        rates = self.schedule
        good = rates is None or (
            len(rates) > 1 and all(0.0 < rate <= 1.0 for rate in rates) and sorted(rates, reverse=True) == list(rates)
        )
        self.require(good, "schedule", "one falling keep rate in (0, 1] per block, or none")
        self.require(self.steepness > 0.0, "steepness", "a positive slope per block")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, "cut before every block inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return dropping.StagedPruner(
            self.name,
            lambda depth: self.stages(budget.ratio, depth),
            lambda state: dropping.last_token_score(state, self.name),
        )

    def stages(self, ratio: float, num_layers: int) -> Mapping[int, float]:
        """Share kept after each block, for a model of `num_layers` blocks.

        Raises:
            ParameterError: the schedule is for another depth.
        """
        if self.schedule is None:
            rates = fitted(ratio, self.steepness * dropping.REFERENCE_DEPTH / num_layers, num_layers)
        elif len(self.schedule) != num_layers:
            raise ParameterError(
                f"gsearch: schedule has {len(self.schedule)} rates, the LLM {num_layers} blocks; "
                "calibrate on this model"
            )
        else:
            rates = self.schedule
        return {block: rates[block] for block in range(1, num_layers)}


def sigmoid_rates(steepness: float, middle: float, num_layers: int) -> tuple[float, ...]:
    """P-Sigmoid's rate of every block, the first one at l = 0."""
    return tuple(1.0 / (1.0 + math.exp(min(700.0, steepness * (block - middle)))) for block in range(num_layers))


def fitted(ratio: float, steepness: float, num_layers: int) -> tuple[float, ...]:
    """P-Sigmoid with the middle solved so that the mean share is `ratio`; the first block always sees everything."""

    def mean(middle: float) -> float:
        return (1.0 + sum(sigmoid_rates(steepness, middle, num_layers)[1:])) / num_layers

    reach = 40.0 / steepness
    middle = dropping.bisect(mean, ratio, -reach, num_layers + reach)
    return (1.0, *sigmoid_rates(steepness, middle, num_layers)[1:])


def search(
    quality: Callable[[int, tuple[float, ...]], float],
    num_layers: int,
    grid: Sequence[float],
    eps: float = 0.005,
    first: int = 2,
) -> tuple[float, ...]:
    """The lowest keep rate of every block, shallow to deep, that leaves quality at 1 - eps or above.

    Args:
        quality: (block under test, rates of all blocks) -> quality as a share of the unpruned model's, assumed to
            rise with the rate; blocks behind the one under test stay at its rate.
        grid: rising rates to choose from; the last is 1.
        first: first block to prune; 2, since nothing has been scored before block 1.
    """
    found: list[float] = [1.0] * (first - 1)
    high = len(grid) - 1
    for block in range(first, num_layers + 1):
        low = 0
        while low < high:
            middle = (low + high) // 2
            trial = (*found, *[grid[middle]] * (num_layers - block + 1))
            if quality(block, trial) >= 1.0 - eps:
                high = middle
            else:
                low = middle + 1
        found.append(grid[high])
    return tuple(found)
