"""DivPrune: the subset whose closest pair is farthest apart (arXiv 2503.02175).

Greedy max-min on cosine distance of projected tokens, over all views together: first the token whose nearest neighbour
is farthest, then always the one farthest from everything chosen. Text-free. Follows vbdi/divprune @799e2d9
(`llava_arch.py`).

Differs: the code lets newlines compete, of which at most one can survive (their distance is zero), and rounds R times
patches and newlines together; here floor(R M) patches are kept and newlines follow the sweep's policy on top. Distances
are fp32 here; in half precision, as LLaVA runs, the code's own are too coarse to tell tokens apart: on correlated
features it shares about 60 of 100 tokens with its fp32 self in fp16, and half in bf16. A token of zeros is like nothing
here and the code's division by zero. Once only copies of chosen tokens are left the code picks chosen ones again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method
from hero_ray.methods.kit.scores import finite
from hero_ray.methods.kit.similarity import cosines


@dataclass(frozen=True)
class DivPrune(Method):
    """Max-min diversity."""

    name = "divprune"
    reads = "projected tokens"
    paper = "DivPrune, arXiv 2503.02175"
    code_version = 2  # 1 left it to rounding which of two mutual neighbours comes first

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        real = layout.sequence[layout.sequence >= 0].to(encoded.features.device)
        features = finite(encoded.features.flatten(0, 1).index_select(0, real), self.name, "projected features")
        picks = max_min(features, min(budget.total, len(real)))
        keep = torch.zeros(layout.valid.numel(), dtype=torch.bool, device=real.device)
        keep[real[picks]] = True
        return Selection(keep.view(layout.valid.shape))


def max_min(features: Tensor, count: int) -> Tensor:
    """Greedy picks in order, ties to the lower index: int64 [count]; features [n, D]."""
    # One token after another is work for the host: a kernel launch takes longer than a row of n numbers.
    likeness = cosines(features).cpu().numpy()  # cosine distance is 1 minus this
    np.fill_diagonal(likeness, -np.inf)
    first = int(likeness.max(1).argmin())
    # Two that are each other's nearest are equally far from it: rounding must not say which of them is the first.
    other = int(likeness[first].argmax())
    picks = [min(first, other) if int(likeness[other].argmax()) == first else first]
    np.fill_diagonal(likeness, np.inf)  # what is picked is never the farthest again
    nearest = likeness[picks[0]].copy()
    for _ in range(1, count):
        picks.append(int(nearest.argmin()))
        np.maximum(nearest, likeness[picks[-1]], out=nearest)
    return torch.tensor(picks, device=features.device)
