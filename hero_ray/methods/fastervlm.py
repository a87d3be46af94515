"""FasterVLM: the tokens each view's own CLS looks at (arXiv 2412.01818).

Score: head mean of the CLS attention in the block whose output feeds the projector (CLIP-L: block 23,
`attentions[-2]`); the same number of tokens T in every view, no text. Follows Theia-4869/FasterVLM @f5d5f12
(`llava/model/multimodal_encoder/clip_encoder.py`).

Differs: `exact` splits the budget evenly under each view's real token count and keeps the model's newlines. `released`
keeps T = floor(R N) per view without newlines, as the code does, but padding that it would keep is cut here.
Ours, no part of the paper: `ratio=auto`, a budget per picture at a mean budget (see `adaptive`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.methods.kit.adaptive import AdaptiveRatio
from hero_ray.methods.kit.allocation import equal, floor
from hero_ray.methods.kit.scores import caps, cls_attention, keep_top


@dataclass(frozen=True)
class FasterVLM(AdaptiveRatio):
    """Top CLS attention, equal share per view."""

    layer: int | None = None

    name = "fastervlm"
    paper = "FasterVLM, arXiv 2412.01818"
    variants = ("exact", "released")

    def check(self) -> None:
        super().check()
        named = self.layer is None or 1 <= self.layer <= 24
        self.require(named, "layer", "a block of a 24-deep tower counted from 1, or none for the feature layer")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_attention=frozenset({self._layer(vision)}))

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        budget, details, mean_note = self.own_budget(encoded, budget)
        if budget.is_full:
            return replace(keep_all(layout), note=mean_note, details=details)
        scores = self.late_attention(encoded)
        if self.variant == "released":
            counts = [floor(budget.ratio * layout.tokens_per_view)] * layout.num_views
            keep = keep_top(scores, counts, torch.ones_like(layout.valid)) & layout.valid.to(scores.device)
            note = "; ".join(filter(None, ("T per view is floored and padding among the T is cut", mean_note)))
            made = Selection(keep, newline_policy="none", scores=scores, view_budgets=tuple(counts))
        else:
            note, counts = mean_note, equal(budget.total, caps(layout.valid))
            made = Selection(keep_top(scores, counts, layout.valid), scores=scores, view_budgets=tuple(counts))
        return replace(made, note=note, details=details)

    def late_attention(self, encoded: Encoded) -> Tensor:
        return cls_attention(encoded, (self._layer(encoded.vision),), self.name)

    def _layer(self, vision: VisionInfo) -> int:
        return vision.feature_layer if self.layer is None else vision.scaled((self.layer,))[0]
