"""VisPruner: half by CLS attention, half by what is left without duplicates (arXiv 2412.01818 v2).

Per view T tokens: the first half by CLS attention in the feature block; the remaining tokens, attention-descending, are
split again and again into even and odd places, and the (at most 8) even ones most similar to an odd one are removed,
until enough are gone. Similarity is the cosine of projector inputs. Follows Theia-4869/VisPruner @aefa01a
(`llava_arch.py`), FasterVLM's successor.

Differs: the budget is split evenly over views under their real token count, and newlines follow the sweep's policy,
where the code drops newlines and lets padding compete. An odd residual's odd one out is an even place, and a round
never removes more than the even half holds: the code raises a shape error whenever N - T / 2 is odd (T = 115 of 576)
and when a half has fewer than 8. The method is chaotic in rounding, in the code as here: each round's order decides who
is even in the next, so that one swapped near tie cascades. Between fp32 and fp64 up to half of the diverse tokens
change; between dtypes, devices, BLAS versions and batches as many may.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal, floor
from hero_ray.methods.kit.scores import caps, cls_attention, finite
from hero_ray.methods.kit.similarity import cosines


@dataclass(frozen=True)
class VisPruner(Method):
    """Important and diverse tokens."""

    important_share: float = 0.5
    removed_per_round: int = 8

    name = "vispruner"
    paper = "VisPruner, arXiv 2412.01818"

    def check(self) -> None:
        self.require(0.0 <= self.important_share <= 1.0, "important_share", "a share in [0, 1]")
        self.require(self.removed_per_round >= 1, "removed_per_round", "at least 1")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_attention=frozenset({vision.feature_layer}), projector_input=True)

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        if encoded.projector_input is None:
            raise SelectionError("vispruner compares projector inputs, but the encoder did not capture them")
        source = finite(encoded.projector_input, self.name, "the projector's input")
        scores = cls_attention(encoded, (encoded.vision.feature_layer,), self.name)
        counts = equal(budget.total, caps(layout.valid))
        keep = torch.zeros_like(scores, dtype=torch.bool)
        for view, count in enumerate(counts):
            real = layout.valid[view].nonzero()[:, 0].to(scores.device)
            important = floor(count * self.important_share)
            chosen = self._choose(scores[view, real], source[view, real], important, count - important)
            keep[view, real[chosen]] = True
        return Selection(keep, scores=scores, view_budgets=tuple(counts))

    def _choose(self, scores: Tensor, features: Tensor, important: int, diverse: int) -> Tensor:
        order = scores.argsort(descending=True, stable=True)
        rest = thinned(features, order[important:], diverse, self.removed_per_round)
        return torch.cat([order[:important], rest])


def thinned(features: Tensor, residual: Tensor, count: int, per_round: int) -> Tensor:
    """Residual positions thinned to `count` by pairing even with odd places.

    Args:
        features: [n, C]; residual: int64 positions among the n, best first.
    """
    likeness = cosines(features.index_select(0, residual))
    alive = torch.arange(len(residual), device=residual.device)
    while len(alive) > count:
        even, odd = alive[::2], alive[1::2]
        removed = min(per_round, len(alive) - count, len(even))
        if len(odd):
            even = even[
                likeness.index_select(0, even).index_select(1, odd).amax(1).argsort(descending=True, stable=True)
            ]
        alive = torch.cat([even[removed:], odd])
    return residual[alive]
