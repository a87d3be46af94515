"""SCOPE: tokens that cover the others, weighted by their saliency (arXiv 2510.24214).

Per view, one after another, the token with the largest gain in coverage times saliency: the sum over all tokens i of
max(0, cos(i, j) - m_i), with m_i the largest cosine of i to anything chosen (0 at first), times the head sum of j's CLS
attention in the feature block to the power alpha. Cosines are of projector inputs. Text-free. Follows kinredon/SCOPE
@6bf7306 (`scope/clip_encoder.py`).

Differs: the budget is split evenly over views under their real token count, padding takes no part, and newlines follow
the sweep's policy, where the code has none and lets padding compete.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal
from hero_ray.methods.kit.covering import covering
from hero_ray.methods.kit.scores import caps, captured, finite
from hero_ray.methods.kit.similarity import cosines


@dataclass(frozen=True)
class Scope(Method):
    """Saliency and coverage."""

    alpha: float = 1.0

    name = "scope"
    paper = "SCOPE, arXiv 2510.24214"

    def check(self) -> None:
        self.require(0.0 <= self.alpha <= 10.0, "alpha", "an exponent in [0, 10]")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_attention=frozenset({vision.feature_layer}), projector_input=True)

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout, layer = encoded.layout, encoded.vision.feature_layer
        if budget.is_full:
            return keep_all(layout)
        if encoded.projector_input is None:
            raise SelectionError("scope compares projector inputs, but the encoder did not capture them")
        source = finite(encoded.projector_input, self.name, "the projector's input")
        saliency = captured(encoded.cls_attention, layer, self.name, "CLS attention of layer").sum(1)
        counts = equal(budget.total, caps(layout.valid))
        keep = torch.zeros(layout.valid.shape, dtype=torch.bool)
        places = [valid.nonzero()[:, 0] for valid in layout.valid]
        on_device = [real.to(source.device) for real in places]
        likeness = [cosines(source[view, real]) for view, real in enumerate(on_device)]
        weights = [saliency[view, real] ** self.alpha for view, real in enumerate(on_device)]
        read = on_host([*likeness, *weights])  # greedy picks are work for the host
        for view, (real, count) in enumerate(zip(places, counts, strict=True)):
            keep[view, real[covering(read[view], read[len(places) + view], count)]] = True
        return Selection(keep, scores=saliency, view_budgets=tuple(counts))
