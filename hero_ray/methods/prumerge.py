"""LLaVA-PruMerge: keep the CLS attention's outliers and merge the rest into them (arXiv 2403.15388).

Score: softmax over the CLS query and the keys of the last block at full width, without heads. Kept: every outlier above
Q3 + 1.5 IQR, so the count follows from the picture. Each kept token takes up its 32 nearest by key similarity, weighted
by score; one more token per view sums up what was dropped. Follows 42Shawn/LLaVA-PruMerge @097c041 (`clip_encoder.py`),
on tiles view by view as in HiRED's port.

Differs: padding takes no part. `count=fixed` keeps the top tokens of an equal share of the budget instead (the rule of
EffiVLM-Bench). On InternVL2 keys are pooled over the patches of a token before the softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.lazy import Tensor
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal
from hero_ray.methods.kit.merging import merged_selection, outliers
from hero_ray.methods.kit.scores import caps, descending


@dataclass(frozen=True)
class PruMerge(Method):
    """Adaptive outliers with merging."""

    count: Literal["adaptive", "fixed"] = "adaptive"
    neighbours: int = 32
    layer: int = 24

    name = "prumerge"
    paper = "LLaVA-PruMerge, arXiv 2403.15388"

    @property
    def fixed_budget(self) -> bool:
        return self.count == "fixed"

    def check(self) -> None:
        self.require(self.neighbours >= 1, "neighbours", "at least 1 neighbour")
        self.require(1 <= self.layer <= 24, "layer", "a block of a 24-deep tower, counted from 1")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(keys=frozenset(vision.scaled((self.layer,))), projector_input=True)

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        if budget.is_full:
            return keep_all(encoded.layout)
        counts = equal(budget.total, caps(encoded.layout.valid))
        note = "" if self.count == "fixed" else "the count follows from the picture's attention outliers"
        (layer,) = encoded.vision.scaled((self.layer,))

        def choose(view: int, scores: Tensor) -> Tensor:
            return self.pick(scores, counts[view])

        return merged_selection(encoded, layer, self.name, choose, self.neighbours, note)

    def pick(self, scores: Tensor, fixed: int) -> Tensor:
        """Kept positions of a view with `scores` [N], best first; `fixed` is its share of the budget."""
        return descending(scores, outliers(scores) if self.count == "adaptive" else fixed)
