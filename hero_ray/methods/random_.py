"""Uniform random tokens without replacement, the same share of every view (straw man).

Each token's rank is a SHA-256 of seed, picture, view and position, so the mask is the same on every machine and does
not depend on the order in which pictures are seen. Report the mean of at least three seeds. Survivors are put back in
raster order; some re-implementations leave the permutation unsorted, which destroys the order on top of the pruning.

Differs: no paper defines the split over views; here every view gets equal shares under its real token count.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import once
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal
from hero_ray.methods.kit.drawing import hash_ranks
from hero_ray.methods.kit.scores import caps, keep_top

_TILES = "ABCDEFHIJKLMNOPQRSTUVWXYZ"  # G is the global view


@dataclass(frozen=True)
class Random(Method):
    """Tokens drawn by hash."""

    seed: int = 0

    name = "random"
    paper = "baseline"
    straw_man = True

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        ranks = once((self, encoded.image_id, layout.num_views), lambda: self._drawn(encoded))  # for every budget
        counts = equal(budget.total, caps(layout.valid))
        return Selection(keep_top(-ranks.to(layout.valid.device), counts, layout.valid), view_budgets=tuple(counts))

    def _drawn(self, encoded: Encoded) -> Tensor:
        views, tokens = encoded.layout.num_views, encoded.layout.tokens_per_view
        return torch.stack([_ranks(self.seed, encoded.image_id, view, tokens) for view in range(views)])


def _ranks(seed: int, image_id: str, view: int, tokens: int) -> Tensor:
    """Place of every position in the hash order of one view: float64 [N]."""
    name = "G" if view == 0 else _TILES[(view - 1) % 25] + "'" * ((view - 1) // 25)
    return hash_ranks(f"{seed}|{image_id}|{name}|", tokens)
