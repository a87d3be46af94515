"""Settings chosen per picture: **ours**, after what HERO and PTP name as future work; no paper or code defines them.

- `alpha auto`: how far visual and textual tile scores are trusted, from their agreement and their decisiveness.
- `ratio auto`: a budget per picture from the spread of late CLS attention, at a fixed *mean* budget.

Both are training-free. The second needs one number per model, the mean spread, measured on pictures (no answers) by
`hero-ray calibrate ratio`.

Shape letters: V views, N visual tokens per view, K tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hero_ray.core.encoded import Budget, Encoded
from hero_ray.core.errors import InputError, ParameterError
from hero_ray.methods.base import Method

_FLAT = 1e-12
"""Certainty below which a distribution over tiles says nothing."""


def agreement(first: Tensor, second: Tensor) -> float:
    """Correlation of two distributions over tiles [K], negative values counted as 0, flat ones as full agreement."""
    a, b = first.double() - first.double().mean(), second.double() - second.double().mean()
    scale = float(a.norm() * b.norm())
    return min(1.0, max(0.0, float(a @ b) / scale)) if scale > _FLAT else 1.0


def certainty(weights: Tensor) -> float:
    """How decisive a distribution over tiles [K] is: 1 - entropy / log K, in [0, 1]; one tile decides nothing."""
    if len(weights) < 2:
        return 0.0
    entropy = -float(torch.xlogy(weights.double(), weights.double()).sum())
    return min(1.0, max(0.0, 1.0 - entropy / math.log(len(weights))))


def trusted_alpha(visual: Tensor, textual: Tensor) -> float:
    """`alpha auto`, the weight of the visual tile scores in HERO's Eq. 4.

    Where both distributions agree the choice hardly matters and the paper's .5 stands. The less they agree, the nearer
    alpha comes to C_v / (C_v + C_t): the more decisive one (lower entropy) is trusted.

    Args:
        visual, textual: softmaxes over tiles [K].
    """
    sure_v, sure_t = certainty(visual), certainty(textual)
    trust = sure_v / (sure_v + sure_t) if sure_v + sure_t > _FLAT else 0.5
    return 0.5 + (1.0 - agreement(visual, textual)) * (trust - 0.5)


def attention_spread(attention: Tensor, valid: Tensor) -> float:
    """Share of the real tokens that attention effectively spreads over: exp(entropy) / tokens, pooled over views.

    1 is attention that looks everywhere alike, 1 / N looks at a single token.

    Args:
        attention: [V, N], not negative.
        valid: bool [V, N].
    """
    valid = valid.to(attention.device)
    weights = attention.double().clamp(min=0.0).masked_fill(~valid, 0.0)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-300)
    effective = torch.exp(-torch.xlogy(weights, weights).sum(1))
    return float(effective[valid.any(1)].sum() / valid.sum())


def factor(spread: float, mean: float, span: float) -> float:
    """What the ratio of one picture is multiplied by: spread / mean, within [1 / span, span]."""
    return min(span, max(1.0 / span, spread / mean))


def balanced_mean(spreads: Sequence[float], tokens: Sequence[int], span: float) -> float:
    """The `ratio_mean` at which these pictures keep, in all, what they would keep at a fixed ratio.

    Args:
        spreads: `attention_spread` of every picture.
        tokens: its budget base.

    Raises:
        InputError: no pictures.
    """
    if not spreads:
        raise InputError("there are no pictures to measure the mean attention spread on; give other --tasks")
    low, high = min(spreads) / span, max(spreads) * span
    for _ in range(100):  # the sum falls as the mean grows
        middle = (low + high) / 2
        kept = sum(factor(s, middle, span) * n for s, n in zip(spreads, tokens, strict=True))
        low, high = (middle, high) if kept > sum(tokens) else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class AdaptiveRatio(Method):
    """A method that can spend its budget unevenly over pictures (`ratio auto`, ours)."""

    ratio: Literal["fixed", "auto"] = "fixed"
    ratio_mean: float | None = None
    ratio_span: float = 2.0

    @property
    def mean_budget(self) -> bool:
        return self.ratio == "auto"

    def check(self) -> None:
        self.require(self.ratio_span >= 1.0, "ratio_span", "a factor of at least 1")
        mean = self.ratio_mean
        self.require(mean is None or 0.0 < mean <= 1.0, "ratio_mean", "a share in (0, 1], or none")
        if self.mean_budget and mean is None:
            raise ParameterError(
                f"{self.name}: ratio = 'auto' without ratio_mean; expected the model's mean attention spread, "
                f"measured by: hero-ray calibrate ratio --method {self.name} --model MODEL"
            )
        if not self.mean_budget and (mean is not None or self.ratio_span != 2.0):
            raise ParameterError(f"{self.name}: ratio_mean and ratio_span act with ratio = 'auto' only; add it")

    def parameters(self) -> dict[str, Any]:
        """As `Method.parameters`; a fixed ratio leaves no trace, so that its cells keep their ids."""
        values = super().parameters()
        return values if self.mean_budget else {k: v for k, v in values.items() if not k.startswith("ratio")}

    def late_attention(self, encoded: Encoded) -> Tensor:
        """CLS attention [V, N] that `ratio auto` measures the spread of; part of the method's `needs`."""
        raise NotImplementedError

    def spread(self, encoded: Encoded) -> float:
        """`attention_spread` of one picture."""
        return attention_spread(self.late_attention(encoded), encoded.layout.valid)

    def own_budget(self, encoded: Encoded, budget: Budget) -> tuple[Budget, dict[str, float], str]:
        """The budget this picture gets, what was chosen, and a note; the given budget where the ratio is fixed."""
        if not self.mean_budget:
            return budget, {}, ""
        assert self.ratio_mean is not None
        ratio = min(1.0, budget.ratio * factor(self.spread(encoded), self.ratio_mean, self.ratio_span))
        total = max(1, math.floor(ratio * budget.base_tokens + 1e-9))
        note = f"ratio auto (ours): {100 * ratio:.3g}% of this picture at a mean of {100 * budget.ratio:.4g}%"
        return Budget(total, ratio, budget.base, budget.base_tokens), {"ratio": ratio}, note
