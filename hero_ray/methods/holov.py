"""HoloV: budgets for runs of the flattened picture by attention and local variety (arXiv 2510.02912).

All views in prompt order, newlines apart, are cut into 16 contiguous runs. A token scores 1000 a + .09 v, where a is
its CLS attention in the feature block (head mean) and v the variance of its cosines to its run, scaled to the
attention's magnitude; a run's share of the budget follows its mean score; inside a run tokens go by attention alone.
Follows obananas/HoloV @1d2e65e (`llava/model/utils.py`).

Variants: `exact` caps runs and keeps the prompt's order; `released` gives what floors leave to the heaviest runs,
orders tokens by attention inside a run (one that is kept whole stays as it lies) and drops newlines; where it pads a
shortfall with zero vectors, fewer tokens are kept.
On Qwen-VL, where the 16 runs are int(16 n / 9 k) of n tokens of which k are kept, a is the attention that a token
receives in the last block (the same commit's `qwen-model-HoloV/`); another `runs` is taken as said.
Differs: the code's 64 tokens are its constant, R is the sweep's here; equal scores go to the earlier token. The Qwen
code leaves the attention in the order of the tower's windows beside tokens in raster order, so that most scores belong
to other tokens; here they are the tokens' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import places
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import allocate
from hero_ray.methods.kit.scores import cls_attention, finite, ranked
from hero_ray.methods.kit.similarity import grouped_gram


@dataclass(frozen=True)
class HoloV(Method):
    """Holistic budgets over contiguous runs."""

    runs: int = 16
    variety: float = 0.09

    name = "holov"
    reads = "projected tokens"
    paper = "HoloV, arXiv 2510.02912"
    variants = ("exact", "released")
    code_versions: ClassVar[Mapping[str, int]] = {"released": 2}  # 1 ordered by attention inside runs kept whole too

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
        tokens = layout.sequence[layout.sequence >= 0]
        here = Runs.cut(tokens, self._number(encoded.vision, len(tokens), budget.total))
        runs = here.to(scores.device)
        attention = scores.flatten()[runs.tokens] * runs.inside
        products = grouped_gram(encoded.features.flatten(0, 1), runs.tokens, runs.inside)
        finite(products.diagonal(dim1=1, dim2=2), self.name, "squares of projected features")
        weights = run_scores(attention, mean_variances(products, runs.sizes), runs.sizes, self.variety)
        if self.variant == "exact":
            counts, note = allocate(budget.total, weights, here.sizes.tolist()), ""
        else:
            counts, note = released_counts(budget.total, weights), "a run's surplus is lost"
        order = runs.best(attention, counts, here.sizes.tolist())
        keep = torch.zeros(layout.valid.numel(), dtype=torch.bool, device=scores.device)
        keep[order] = True
        ordered = None if self.variant == "exact" else order
        return Selection(keep.view(layout.valid.shape), order=ordered, scores=scores, note=note)

    def _number(self, vision: VisionInfo, tokens: int, kept: int) -> int:
        """How many runs `tokens` are cut into where `kept` of them stay."""
        if vision.tower != "qwen" or self.runs != type(self).runs:
            return self.runs
        return min(tokens, max(1, int((1024 / 576) * tokens / max(1, kept))))


@dataclass(frozen=True)
class Runs:
    """Contiguous runs of tokens, the first ones a token longer where they do not divide evenly.

    Attributes:
        tokens: int64 [r, s] ids, padded with 0.
        inside: bool [r, s], what is no padding.
        sizes: int64 [r].
    """

    tokens: Tensor
    inside: Tensor
    sizes: Tensor

    @classmethod
    def cut(cls, tokens: Tensor, count: int) -> Runs:
        """`count` runs of `tokens` [n], as `tensor_split` cuts them."""
        ends = torch.arange(count + 1, device=tokens.device)
        ends = ends * (len(tokens) // count) + ends.clamp(max=len(tokens) % count)
        sizes = ends.diff()
        places = torch.arange(-(-len(tokens) // count), device=tokens.device)
        inside = places < sizes[:, None]
        return cls(tokens[(ends[:-1, None] + places).clamp(max=len(tokens) - 1)] * inside, inside, sizes)

    def to(self, device: torch.device) -> Runs:
        """The same runs on a device."""
        return Runs(self.tokens.to(device), self.inside.to(device), self.sizes.to(device))

    def best(self, scores: Tensor, wanted: Sequence[int], sizes: Sequence[int]) -> Tensor:
        """The `wanted` [r] best tokens of every run by `scores` [r, s], run by run: int64 [k].

        Best first, but a run that is kept whole stays as it lies, as in the code, which has nothing to choose there.
        `sizes` are the runs' own as the host knows them.
        """
        counts, total = torch.tensor(wanted, device=scores.device), sum(map(min, wanted, sizes))
        index = torch.arange(scores.shape[1], device=scores.device)
        order = torch.where((counts >= self.sizes)[:, None], index, ranked(scores, self.inside))
        taken = index < torch.minimum(counts, self.sizes)[:, None]
        return self.tokens.gather(1, order).flatten()[places(taken.flatten(), total)]


def mean_variances(products: Tensor, sizes: Tensor) -> Tensor:
    """Variance of a token's cosines to its run, mean over every run: [r].

    The code's variance: a token's own entry counts as a zero, sums are divided by s - 1. A lone token has none.

    Args:
        products: [r, s, s] Gram matrices, padding as zero tokens; overwritten.
        sizes: [r].
    """
    own = products.diagonal(dim1=1, dim2=2)
    scale = (own.sqrt() + 1e-6).reciprocal()
    half_scaled = products.mul_(scale[:, None])  # a row's own scale is put on its sums: one pass over the matrices less
    own.zero_()
    others = (sizes - 1).clamp(min=1)
    means = half_scaled.sum(2) * scale / others[:, None]
    norms = torch.linalg.vector_norm(half_scaled, dim=2) * scale
    total = norms.square().sum(1) - (sizes - 2) * means.square().sum(1)
    return total / (sizes.clamp(min=1) * others)


def run_scores(attention: Tensor, variances: Tensor, sizes: Tensor, variety: float) -> list[float]:
    """Mean over a run of 1000 a + `variety` v', where v' is the variance scaled to the attention's magnitude.

    Only the mean of v enters, so that it is all that is asked for: attention [r, s] zero-padded, variances and sizes
    [r]. A run of one token has no variety and, as in the code, unscaled attention; one without tokens scores 0.
    """
    mean = attention.sum(1) / sizes.clamp(min=1)
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
