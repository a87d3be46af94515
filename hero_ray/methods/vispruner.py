"""VisPruner: half by CLS attention, half by what is left without duplicates (arXiv 2412.01818 v2).

Per view T tokens: the first half by CLS attention in the feature block; the remaining tokens, attention-descending, are
split again and again into even and odd places, and the (at most 8) even ones most similar to an odd one are removed,
until enough are gone. Similarity is the cosine of projector inputs. Follows Theia-4869/VisPruner @aefa01a
(`llava_arch.py`), FasterVLM's successor.

Differs: the budget is split evenly over views under their real token count, and newlines follow the sweep's policy,
where the code drops newlines and lets padding compete. An odd residual's odd one out is an even place, and a round
never removes more than the even half holds: the code raises a shape error in most rounds with an odd residual (at T =
115 of 576 in the first) and where a half has fewer than 7. In odd rounds where the removed are one fewer than the even
places its broadcast loses the last of those as well, so that a token fewer than T is kept; where they are two fewer, or
all, it does what is done here. The method is chaotic in rounding, in the code as here: each round's order decides who
is even in the next, so that one swapped near tie cascades. Between fp32 and fp64 up to half of the diverse tokens
change; between dtypes, devices, BLAS versions and batches as many may.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        alike: dict[tuple[int, int], list[int]] = {}
        for view, (real, count) in enumerate(zip(caps(layout.valid), counts, strict=True)):
            alike.setdefault((real, count), []).append(view)
        for (_, count), views in alike.items():  # views of one shape are thinned together
            places = [layout.valid[view].nonzero()[:, 0].to(scores.device) for view in views]
            own = [(scores[view, real], source[view, real]) for view, real in zip(views, places, strict=True)]
            order = torch.stack([score for score, _ in own]).argsort(dim=1, descending=True, stable=True)
            important = floor(count * self.important_share)
            rest = thinned([token for _, token in own], order[:, important:], count - important, self.removed_per_round)
            chosen = torch.cat([order[:, :important], rest], 1)
            for view, place, kept in zip(views, places, chosen, strict=True):
                keep[view].index_fill_(0, place[kept], True)
        return Selection(keep, scores=scores, view_budgets=tuple(counts))


def thinned(features: Sequence[Tensor], residual: Tensor, count: int, per_round: int) -> Tensor:
    """Residual positions of g views thinned to `count` each by pairing even with odd places: int64 [g, count].

    Args:
        features: g times [n, C]; residual: int64 [g, m] positions among the n, best first.
    """
    views, size = residual.shape
    likeness = torch.cat([cosines(own.index_select(0, rest)) for own, rest in zip(features, residual, strict=True)])
    first = size * torch.arange(views, device=residual.device)[:, None]  # row of a view's first token in `likeness`
    alive = torch.arange(size, device=residual.device).expand(views, -1)
    while alive.shape[1] > count:
        even, odd = alive[:, ::2], alive[:, 1::2]
        removed = min(per_round, alive.shape[1] - count, even.shape[1])
        if odd.shape[1]:
            rows = likeness.index_select(0, (even + first).flatten()).unflatten(0, even.shape)
            nearest = rows.gather(2, odd[:, None].expand(-1, even.shape[1], -1)).amax(2)
            even = even.gather(1, nearest.argsort(dim=1, descending=True, stable=True))
        alive = torch.cat([even[:, removed:], odd], 1)
    return residual.gather(1, alive)
