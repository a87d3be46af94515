"""HiPrune: anchors of a middle tower block with their neighbours, filled up from a deep one (arXiv 2508.00553).

Per view of T tokens: round(alpha T / 5) anchors, the tokens that get the most attention in block 9 (mean over heads and
over every query, CLS and patches), each with the tokens left, right, above and below it; the rest are registers, the
other tokens that get the most attention in the feature block. Text-free. Follows Danielement321/HiPrune @6e83a12
(`llava_arch.py`).

On Qwen-VL the middle block is 16 of 32 (`Qwen2_5_VL/` of the same commit); another `object_layer` is taken as said.
Differs: the budget is split evenly over views under their real token count, padding is never chosen, and newlines
follow the sweep's policy, where the code has none. As in the code neighbours are those of the flat index: the one left
of a row's first token is the last of the row above, and beyond either end the end itself. Where anchors and neighbours
outnumber T (alpha near 1 and a handful of tokens, an error in the code) the best by the middle block stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal
from hero_ray.methods.kit.scores import caps, captured, keep_top


@dataclass(frozen=True)
class HiPrune(Method):
    """Anchors, buffers and registers."""

    alpha: float = 0.1
    object_layer: int = 9

    name = "hiprune"
    paper = "HiPrune, arXiv 2508.00553"

    def check(self) -> None:
        self.require(0.0 <= self.alpha <= 1.0, "alpha", "a share in [0, 1]")
        self.require(1 <= self.object_layer <= 24, "object_layer", "a block of a 24-deep tower, counted from 1")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(received=frozenset({self._middle(vision), vision.feature_layer}))

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout, vision = encoded.layout, encoded.vision
        if budget.is_full:
            return keep_all(layout)
        # A sum over all queries: the mean's divisor changes no order.
        middle, deep = (
            captured(encoded.received, layer, self.name, "attention received in layer").sum(1)
            for layer in (self._middle(vision), vision.feature_layer)
        )
        valid = layout.valid.to(middle.device)
        counts = equal(budget.total, caps(layout.valid))
        anchors = keep_top(middle, [round(self.alpha * count / 5) for count in counts], valid)
        early = keep_top(middle, counts, with_neighbours(anchors, layout.side[1]) & valid)
        left = [count - taken for count, taken in zip(counts, early.sum(1).tolist(), strict=True)]
        return Selection(early | keep_top(deep, left, valid & ~early), scores=deep, view_budgets=tuple(counts))

    def _middle(self, vision: VisionInfo) -> int:
        if vision.tower == "qwen" and self.object_layer == type(self).object_layer:
            return vision.scaled((16,), reference=32)[0]
        return vision.scaled((self.object_layer,))[0]


def with_neighbours(chosen: Tensor, width: int) -> Tensor:
    """The chosen tokens and the four around each, by flat index, kept within the view: bool [V, N]."""
    place = torch.arange(chosen.shape[1], device=chosen.device)
    reached = chosen.long()
    for step in (-1, 1, -width, width):
        reached = reached.index_add(1, (place + step).clamp(0, len(place) - 1), chosen.long())
    return reached > 0
