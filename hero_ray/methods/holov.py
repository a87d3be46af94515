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

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hero_ray.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.methods.allocation import allocate
from hero_ray.methods.base import Method
from hero_ray.methods.scores import cls_attention, finite
from hero_ray.methods.similarity import gram


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
        runs = real.tensor_split(self.runs)
        attention = pad_sequence([scores.flatten()[run] for run in runs], batch_first=True)
        variances = self.variances(encoded.features.flatten(0, 1), runs)
        weights = run_scores(attention, runs, variances, self.variety)
        sizes = [len(run) for run in runs]
        if self.variant == "exact":
            counts, note = allocate(budget.total, weights, sizes), ""
        else:
            counts, note = released_counts(budget.total, weights), "a run's surplus is lost"
        # Attention is positive, so that what pads a short run comes behind all its tokens.
        best = attention.argsort(dim=1, descending=True, stable=True)
        order = torch.cat([run[own[: min(n, len(run))]] for run, own, n in zip(runs, best, counts, strict=True)])
        keep = torch.zeros(layout.valid.numel(), dtype=torch.bool, device=scores.device)
        keep[order] = True
        ordered = None if self.variant == "exact" else order
        return Selection(keep.view(layout.valid.shape), order=ordered, scores=scores, note=note)

    def variances(self, tokens: Tensor, runs: Sequence[Tensor]) -> Tensor:
        """`mean_variance` of every run of rows of `tokens` [n, C]: [r]."""
        size, dtype = len(runs[0]), torch.promote_types(tokens.dtype, torch.float32)
        room, products = tokens.new_empty(size, tokens.shape[1]), tokens.new_empty(size * size, dtype=dtype)
        found, squares = [], []
        # Run by run in the same memory: it stays in the processor's cache, the whole picture does not.
        for run in runs:
            size = len(run)
            own = torch.index_select(tokens, 0, run, out=room[:size]).to(dtype)
            with np.errstate(invalid="ignore", over="ignore"):  # refused by name below
                together = gram(own, products[: size * size].view(size, size))
            squares.append(together.diagonal().clone())
            found.append(mean_variance(together))
        # A token's square is finite only if all of it is.
        finite(torch.cat(squares), self.name, "squares of projected features")
        return torch.stack(found)


def mean_variance(products: Tensor) -> Tensor:
    """Variance of a token's cosines to its run, mean over the run: from the Gram matrix [s, s], which is overwritten.

    The code's variance: a token's own entry counts as a zero, sums are divided by s - 1. A lone token has none.
    """
    size = len(products)
    scale = (products.diagonal().sqrt() + 1e-6).reciprocal()
    cosines = products.mul_(scale[:, None]).mul_(scale).fill_diagonal_(0.0)
    mean = cosines.sum(1) / max(1, size - 1)
    squares = cosines.flatten()
    return (squares.dot(squares) - (size - 2) * mean.dot(mean)) / max(1, size * (size - 1))


def run_scores(attention: Tensor, runs: Sequence[Tensor], variances: Tensor, variety: float) -> list[float]:
    """Mean over a run of 1000 a + `variety` v', where v' is the variance scaled to the attention's magnitude.

    Only the mean of v enters, so that it is all that is asked for: attention [r, s] zero-padded, variances [r]. A run
    of one token has no variety and, as in the code, unscaled attention; one without tokens scores 0.
    """
    sizes = attention.new_tensor([len(run) for run in runs])
    mean = attention.sum(1) / sizes.clamp(min=1.0)
    scored = 1e3 * mean * (1.0 + variety * variances / (variances + 1e-6))
    return list(torch.where(sizes > 1, scored, mean).tolist())


def released_counts(total: int, weights: list[float]) -> list[int]:
    """The release's split: floors, then one more for the heaviest runs."""
    whole = sum(weights) + 1e-6
    counts = [int(total * weight / whole) for weight in weights]
    heaviest = sorted(range(len(weights)), key=lambda run: (-weights[run], run))
    for run in heaviest[: total - sum(counts)]:
        counts[run] += 1
    return counts
