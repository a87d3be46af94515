"""VTW: all visual tokens are withdrawn after block K (arXiv 2405.05803).

Blocks up to K see the whole picture and keep it in their cache, so decoding attends to it there; later blocks never
hold it. Positions stay. Follows lzhxmu/VTW @a3d8cfc (`VTW.py`); newlines go with the picture.

Variants: `exact` puts K where the mean share over blocks is nearest R; `paper` fixes K (15 of 32), whatever R. `search`
(`hero-ray calibrate vtw`) finds K as the authors do: the first depth whose first-token distribution p stays within eta
of the full model's q, KL(p || q).
Differs: the code's span of 576 tokens is read at run time here. All or nothing, so R is met only in steps of 1 /
blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import LayerPruner, LayerState, Method, Survivors
from hero_ray.methods.kit import dropping


@dataclass(frozen=True)
class VTW(Method):
    """Withdrawal of the picture at one depth."""

    after_block: int = 15

    name = "vtw"
    stage = "in-llm"
    paper = "VTW, arXiv 2405.05803"
    variants = ("exact", "paper")
    positions = "keep"

    @property
    def fixed_budget(self) -> bool:
        return self.variant != "paper"

    def check(self) -> None:
        self.require(1 <= self.after_block <= 31, "after_block", "a block 1 to 31 of a 32-deep LLM")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, "the whole picture is withdrawn inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return _Withdrawal(lambda depth: self.depth(budget.ratio, depth))

    def depth(self, ratio: float, num_layers: int) -> int:
        """Blocks that see the picture."""
        if self.variant == "paper":
            return dropping.after_block(self.after_block, num_layers)
        return max(1, min(num_layers - 1, math.floor(ratio * num_layers + 0.5)))


class _Withdrawal(LayerPruner):
    def __init__(self, depth: Callable[[int], int]) -> None:
        self._depth = depth

    def before(self, state: LayerState) -> Survivors | None:
        if state.layer != self._depth(state.num_layers) + 1:
            return None
        return Survivors(state.valid & ~state.visual)


def divergence(withdrawn: Tensor, full: Tensor) -> float:
    """KL(withdrawn || full) of two log distributions of the first answer token, [vocab] each, in nats.

    The authors' direction: the model without the picture is the target, the full one the input.
    """
    return float(torch.nn.functional.kl_div(full, withdrawn, reduction="sum", log_target=True))


def search(mean_divergence: Callable[[int], float], num_layers: int, eta: float = 0.003, first: int = 5) -> int | None:
    """The authors' search for K.

    Args:
        mean_divergence: depth -> mean `divergence`, the picture withdrawn after that many blocks.
        eta: what passes; .003 for LLaVA-1.5-7B, .0005 for 13B, .0001 for v1.6-vicuna-7b.

    Returns:
        The first depth that passes, or None.
    """
    return next((depth for depth in range(first, num_layers) if mean_divergence(depth) <= eta), None)
