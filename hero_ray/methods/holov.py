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

import torch
from torch import Tensor

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
        # Run by run: one run of tokens stays in the processor's cache, the whole picture does not.
        tokens = encoded.features.flatten(0, 1)
        parts = [finite(tokens[run], self.name, "projected features") for run in real.tensor_split(self.runs)]
        order = self.places(scores.flatten()[real], parts, budget.total)
        keep = torch.zeros(layout.valid.numel(), dtype=torch.bool, device=scores.device)
        keep[real[order]] = True
        if self.variant == "exact":
            return Selection(keep.view(layout.valid.shape), scores=scores)
        note = "a run's surplus is lost"
        return Selection(keep.view(layout.valid.shape), order=real[order], scores=scores, note=note)

    def places(self, attention: Tensor, parts: Sequence[Tensor], total: int) -> Tensor:
        """Kept positions run by run, attention-descending inside a run: int64 [n]; `parts` are the runs' tokens."""
        runs = list(zip(attention.tensor_split(self.runs), parts, strict=True))
        sizes = [len(part) for part, _ in runs]
        weights = [run_score(part, tokens, self.variety) if len(part) else 0.0 for part, tokens in runs]
        counts = allocate(total, weights, sizes) if self.variant == "exact" else released_counts(total, weights)
        kept, start = [], 0
        for (part, _), size, count in zip(runs, sizes, counts, strict=True):
            best = part.argsort(descending=True, stable=True)[:count]
            kept.append(start + (best if count < size else torch.arange(size, device=part.device)))
            start += size
        return torch.cat(kept)


def run_score(attention: Tensor, features: Tensor, variety: float) -> float:
    """Mean token score of one run; a run of one token has no variety and, as in the code, unscaled attention."""
    size = len(attention)
    if size == 1:
        return float(attention.mean())
    likeness = gram(features, (features.norm(dim=1) + 1e-6).reciprocal()).fill_diagonal_(0.0)
    mean = likeness.sum(1, keepdim=True) / (size - 1)
    variance = (likeness - mean).square().sum(1) / (size - 1)
    scaled = attention * 1e3
    magnitude = scaled.abs().mean() / (variance.abs().mean() + 1e-6)
    return float((scaled + variety * magnitude * variance).mean())


def released_counts(total: int, weights: list[float]) -> list[int]:
    """The release's split: floors, then one more for the heaviest runs."""
    whole = sum(weights) + 1e-6
    counts = [int(total * weight / whole) for weight in weights]
    heaviest = sorted(range(len(weights)), key=lambda run: (-weights[run], run))
    for run in heaviest[: total - sum(counts)]:
        counts[run] += 1
    return counts
