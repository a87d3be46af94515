"""HoloV: budgets for runs of the flattened picture by attention and local variety (arXiv 2510.02912).

All views in prompt order, newlines apart, are cut into 16 contiguous runs. A token scores 1000 a + .09 v, where a is
its CLS attention in the feature block (head mean) and v the variance of its cosines to its run, scaled to the
attention's magnitude; a run's share of the budget follows its mean score; inside a run tokens go by attention alone.
Follows obananas/HoloV @1d2e65e (`llava/model/utils.py`).

Variants: `exact` caps runs and keeps the prompt's order; `released` gives what floors leave to the heaviest runs,
orders tokens by attention inside a run and drops newlines; where it pads a shortfall with zero vectors, fewer tokens
are kept.
Differs: cosines are of projected tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from hero_ray.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.methods.allocation import allocate
from hero_ray.methods.base import Method
from hero_ray.methods.scores import cls_attention, descending, finite
from hero_ray.methods.similarity import upper_products


@dataclass(frozen=True)
class HoloV(Method):
    """Holistic budgets over contiguous runs."""

    runs: int = 16
    variety: float = 0.09

    name = "holov"
    reads = "projected tokens"
    paper = "HoloV, arXiv 2510.02912"
    variants = ("exact", "released")

    def check(self) -> None:
        self.require(1 <= self.runs <= 4096, "runs", "1 to 4096 runs")
        self.require(0.0 <= self.variety <= 1e6, "variety", "a weight in [0, 1e6]")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_attention=frozenset({vision.feature_layer}))

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        scores = cls_attention(encoded, (encoded.vision.feature_layer,), self.name)
        real = layout.sequence[layout.sequence >= 0].to(scores.device)
        tokens = encoded.features.flatten(0, 1)
        room = tokens.new_empty(-(-len(real) // self.runs), tokens.shape[1])
        products = []
        # Run by run in the same memory: it stays in the processor's cache, the whole picture does not.
        for run in real.tensor_split(self.runs)[: len(real)]:
            own = torch.index_select(tokens, 0, run, out=room[: len(run)])
            products.append(upper_products(finite(own, self.name, "projected features")))
        order = self.places(scores.flatten()[real], products, budget.total)
        keep = torch.zeros(layout.valid.numel(), dtype=torch.bool, device=scores.device)
        keep[real[order]] = True
        if self.variant == "exact":
            return Selection(keep.view(layout.valid.shape), scores=scores)
        note = "a run's surplus is lost"
        return Selection(keep.view(layout.valid.shape), order=real[order], scores=scores, note=note)

    def places(self, attention: Tensor, products: Sequence[Tensor], total: int) -> Tensor:
        """Kept positions run by run, attention-descending inside a run: int64 [total].

        Args:
            attention: [n].
            products: `upper_products` of every run that has tokens.
        """
        runs = attention.tensor_split(self.runs)
        sizes = [len(run) for run in runs]
        weights: list[float] = []
        for _, same in groupby(zip(runs, products, strict=False), key=lambda run: len(run[0])):
            scores, halves = zip(*same, strict=True)
            weights += run_scores(torch.stack(scores), torch.stack(halves), self.variety)
        weights += [0.0] * (self.runs - len(weights))  # more runs than tokens
        counts = allocate(total, weights, sizes) if self.variant == "exact" else released_counts(total, weights)
        kept, start = [], 0
        for run, size, count in zip(runs, sizes, counts, strict=True):
            best = descending(run, count)
            kept.append(start + (best if count < size else torch.arange(size, device=best.device)))
            start += size
        return torch.cat(kept)


def run_scores(attention: Tensor, products: Tensor, variety: float) -> list[float]:
    """Mean token score of runs of one length s: attention [r, s], `upper_products` [r, s, s].

    A run of one token has no variety and, as in the code, unscaled attention. `products` is overwritten.
    """
    size = attention.shape[1]
    if size == 1:
        return list(attention[:, 0].tolist())
    scale = (products.diagonal(dim1=1, dim2=2).sqrt() + 1e-6).reciprocal()
    cosines = products.mul_(scale[:, :, None]).mul_(scale[:, None]).triu_(1)
    mean = (cosines.sum(1) + cosines.sum(2)) / (size - 1)
    squares = cosines.square_()
    # Mean square minus squared mean, except that the mean is over s - 1 and a token's own entry counts as a zero.
    variance = (squares.sum(1) + squares.sum(2)) / (size - 1) - mean.square() * (size - 2) / (size - 1)
    scaled = attention * 1e3
    magnitude = scaled.abs().mean(1, keepdim=True) / (variance.abs().mean(1, keepdim=True) + 1e-6)
    return list((scaled + variety * magnitude * variance).mean(1).tolist())


def released_counts(total: int, weights: list[float]) -> list[int]:
    """The release's split: floors, then one more for the heaviest runs."""
    whole = sum(weights) + 1e-6
    counts = [int(total * weight / whole) for weight in weights]
    heaviest = sorted(range(len(weights)), key=lambda run: (-weights[run], run))
    for run in heaviest[: total - sum(counts)]:
        counts[run] += 1
    return counts
