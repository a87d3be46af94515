"""CDPruner: diverse tokens weighted by their relevance to the question, as a determinantal point process (2506.10967).

Relevance: cosine of a patch's CLIP embedding with the question's, negated (the code's sign), min-max over all views.
Kernel: rel_i cos(x_i, x_j) rel_j on projected tokens; per view T tokens by greedy MAP. Follows Theia-4869/CDPruner
@9541616 (`llava_arch.py`, `clip_encoder.py`).

Variants: `exact`; `openvino` is what OpenVINO GenAI ships (openvinotoolkit/openvino.genai @da1db86, `cdpruner/`): all
views in prompt order are cut into two halves, each keeps half of the budget, an odd token going to the second (to the
first where OpenCL picks; openvino-genai 2026.4.1 keeps 205 of 256 tokens at a pruning ratio of 20 and 13 at 95);
relevance is the cosine of a projected token with the mean input embedding of the whole prompt, template included,
min-max per half and with a positive sign; the kernel is (1 - w) cos(i, j) + w rel_i cos(i, j) rel_j with w = .5
(`relevance_weight`).
Differs: the budget is split evenly over views under their real token count, padding takes no part, and newlines follow
the sweep's policy, where the code has none. Without a CLIP text tower relevance is 1, the selection says `cdpruner-v`,
and the first pick of a view, where every gain is 1, is its first token; cosines all alike count as 1 too, where the
code divides by zero, as it does by the length of a token of zeros, which comes last here. Once the picks span the
features (gains below 1e-5 of the largest) the rest follows what gain was left, where the code takes roots of negative
numbers and picks the same tokens again: up to there both pick the same, and models are wider than a view has tokens, so
that only narrow features or copies of tokens get there. Left out: the code's theta, commented out there, and its way
with questions beyond 77 positions, where only the last segment ends in the token that is read; the model's `clip_text`
setting says what happens instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal
from hero_ray.methods.kit.scores import caps, finite
from hero_ray.methods.kit.similarity import determinant_map, gram, inverse_norm, scaled_gram

_SHIPPED_WEIGHT, _SHIPPED_EPSILON = 0.5, 1e-6


@dataclass(frozen=True)
class CDPruner(Method):
    """Conditional diversity."""

    name = "cdpruner"
    reads = "projected tokens"
    paper = "CDPruner, arXiv 2506.10967"
    text_aware = True
    variants = ("exact", "openvino")
    code_version = 2  # 1 left the first pick to rounding where no text tower is
    code_versions: ClassVar[Mapping[str, int]] = {"openvino": 3}  # 2 rounded the budget up to an even number

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(prompt_embedding=True) if self.variant == "openvino" else Needs(clip_tokens=True)

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        if self.variant == "openvino":
            return self._shipped(encoded, budget)
        features = finite(encoded.features, self.name, "projected features")
        valid = layout.valid.to(features.device)
        cosines = encoded.question.clip_tokens if encoded.question else None
        weights, note = torch.ones_like(features[..., 0]), "cdpruner-v: no CLIP text tower, relevance dropped"
        if cosines is not None:
            weights = relevance(finite(cosines, self.name, "the CLIP score of tokens").to(features.device), valid)
            note = ""
        counts = equal(budget.total, caps(layout.valid))
        keep = torch.zeros_like(valid)
        for view, chosen in enumerate(greedy_map(features, weights, valid, max(counts))):
            keep[view, chosen[: counts[view]]] = True
        return Selection(keep, scores=weights, view_budgets=tuple(counts), note=note)

    def _shipped(self, encoded: Encoded, budget: Budget) -> Selection:
        layout, question = encoded.layout, encoded.question
        real = layout.sequence[layout.sequence >= 0].to(encoded.features.device)
        features = finite(encoded.features.flatten(0, 1).index_select(0, real), self.name, "projected features")
        if question is None or question.prompt_embedding is None:
            raise SelectionError("cdpruner (openvino) reads the prompt's embedding, but no question was asked")
        words = finite(question.prompt_embedding, self.name, "the prompt embedding").to(features.device)
        keep = torch.zeros(layout.valid.numel(), dtype=torch.bool, device=real.device)
        total = min(budget.total, len(real))  # on the base of the grid padding counts, and may be most of it
        middle, first = len(real) // 2, total // 2
        for tokens, part, count in (
            (real[:middle], features[:middle], first),
            (real[middle:], features[middle:], total - first),
        ):
            if count:
                keep[tokens[shipped_picks(part, words, count)]] = True
        return Selection(keep.view(layout.valid.shape), note="half of the budget from either half of the prompt")


def shipped_picks(features: Tensor, words: Tensor, count: int) -> Tensor:
    """OpenVINO's picks among the tokens [n, D] of one half, in order; words [D]: int64 [count]."""
    unit, text = (
        vectors / (vectors.square().sum(-1, keepdim=True) + _SHIPPED_EPSILON).sqrt() for vectors in (features, words)
    )
    closeness = unit @ text.to(unit.dtype)
    spread = closeness.max() - closeness.min()
    scaled = (closeness - closeness.min()) / (spread if spread > _SHIPPED_EPSILON else 1.0)
    kernel = gram(unit) * (1 - _SHIPPED_WEIGHT + _SHIPPED_WEIGHT * scaled[:, None] * scaled[None])
    return determinant_map(kernel[None], kernel.diagonal()[None], count)[0]


def relevance(cosines: Tensor, valid: Tensor) -> Tensor:
    """Min-max of the negated cosines over all real tokens of the picture: [V, N]."""
    negated = -cosines
    low = negated.masked_fill(~valid, torch.inf).amin()
    high = negated.masked_fill(~valid, -torch.inf).amax()
    spread = high - low
    return torch.where(spread > 0, (negated - low + 1e-6) / spread.clamp(min=1e-12), torch.ones_like(negated))


def greedy_map(features: Tensor, weights: Tensor, valid: Tensor, count: int) -> Tensor:
    """Greedy MAP picks of every view, in order: int64 [V, count]; ties to the lower index.

    Padding is picked only once a view's real tokens are used up. features [V, N, D], weights and valid [V, N].
    """
    kernel = scaled_gram(features, weights * inverse_norm(features))
    # A cosine of a token with itself is 1 by definition: measured, it is 1 give or take rounding, and without relevance
    # the first pick of a view would be whichever noise is largest. A zero token stays at 0.
    own = weights.square().to(kernel.dtype) * (features != 0).any(-1)
    return determinant_map(kernel, own.masked_fill(~valid, -torch.inf), count)
