"""LLaVA-PruMerge+: PruMerge with evenly spaced tokens beside the outliers (arXiv 2403.15388).

After the outliers come the positions 0, s, 2s, .. not yet kept, with s = floor(floor(1 / ratio) / 3) and ratio the
share of outliers; merging is PruMerge's. Follows 42Shawn/LLaVA-PruMerge @097c041 (`clip_encoder.py`): the last
position is never sampled, and once more than a sixth are outliers the stride is 1, so that nearly everything is kept.

Differs: padding takes no part; a stride of 0 (more than a third outliers, impossible by the fence) counts as 1, and
without outliers no samples are added, where the code divides by zero. `count=fixed` follows EffiVLM-Bench: the budget's
equal share, filled with samples of stride floor(N / b). Left out: the code's training branch, whose samples start at
half a step and lie a whole step apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.kit.merging import outliers
from hero_ray.methods.kit.scores import descending
from hero_ray.methods.prumerge import PruMerge


@dataclass(frozen=True)
class PruMergePlus(PruMerge):
    """Adaptive outliers and even samples with merging."""

    name = "prumerge+"

    def pick(self, scores: Tensor, fixed: int) -> Tensor:
        best = descending(scores, outliers(scores))
        return with_samples(best, len(scores)) if self.count == "adaptive" else filled(best, len(scores), fixed)


def stride(ratio: float) -> int:
    """Step between samples for a share `ratio` of outliers."""
    return int(int(1.0 / ratio + 1e-9) / 3)


def with_samples(best: Tensor, tokens: int) -> Tensor:
    """Outliers, best first, then the samples not among them, ascending."""
    if not len(best):
        return best
    step = max(1, stride(len(best) / tokens))
    samples = torch.arange(0, tokens - 1, step, device=best.device)
    return torch.cat([best, samples[~torch.isin(samples, best)]])


def filled(best: Tensor, tokens: int, count: int) -> Tensor:
    """Exactly `count`: the best, then samples of stride floor(N / count), then whatever is left in raster order."""
    if len(best) >= count:
        return best[:count]
    everything = torch.arange(tokens, device=best.device)
    samples = everything[:: max(1, tokens // count)]
    queue = torch.cat([samples, everything[~torch.isin(everything, samples)]])
    return torch.cat([best, queue[~torch.isin(queue, best)]])[:count]
