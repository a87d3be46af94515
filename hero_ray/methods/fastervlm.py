"""FasterVLM: the tokens each view's own CLS looks at (arXiv 2412.01818).

Score: head mean of the CLS attention in the block whose output feeds the projector (CLIP-L: block 23,
`attentions[-2]`); the same number of tokens T in every view, no text. Follows Theia-4869/FasterVLM @f5d5f12
(`llava/model/multimodal_encoder/clip_encoder.py`).

Differs: `exact` splits the budget evenly under each view's real token count and keeps the model's newlines. `released`
keeps T = floor(R N) per view without newlines, as the code does, but padding that it would keep is cut here.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.lazy import torch
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal, floor
from hero_ray.methods.kit.scores import caps, cls_attention, keep_top


@dataclass(frozen=True)
class FasterVLM(Method):
    """Top CLS attention, equal share per view."""

    layer: int | None = None

    name = "fastervlm"
    paper = "FasterVLM, arXiv 2412.01818"
    variants = ("exact", "released")

    def check(self) -> None:
        named = self.layer is None or 1 <= self.layer <= 24
        self.require(named, "layer", "a block of a 24-deep tower counted from 1, or none for the feature layer")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_attention=frozenset({self._layer(vision)}))

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        scores = cls_attention(encoded, (self._layer(encoded.vision),), self.name)
        if self.variant == "released":
            counts = [floor(budget.ratio * layout.tokens_per_view)] * layout.num_views
            keep = keep_top(scores, counts, torch.ones_like(layout.valid)) & layout.valid.to(scores.device)
            note = "T per view is floored and padding among the T is cut"
            return Selection(keep, newline_policy="none", scores=scores, view_budgets=tuple(counts), note=note)
        counts = equal(budget.total, caps(layout.valid))
        return Selection(keep_top(scores, counts, layout.valid), scores=scores, view_budgets=tuple(counts))

    def _layer(self, vision: VisionInfo) -> int:
        return vision.feature_layer if self.layer is None else vision.scaled((self.layer,))[0]
