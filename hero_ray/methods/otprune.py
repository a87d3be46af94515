"""OTPrune: the subset whose distribution stays nearest to that of all tokens (arXiv 2602.20205).

The optimal-transport objective is bounded by log det(I + gamma G G') over the chosen tokens, G = X X' with X the
projected tokens, each channel at length 1 over all of them; it is submodular and picked greedily, over all views
together. Text-free. Follows xiwenc1/OTPrune @3414730 (`llava_arch.py`).

`gamma` .01 is the code's, made for 576 tokens 4,096 wide, and is no pure number: with channels at length 1 the products
in G grow with D / n. With a common direction in 4,096 channels the diagonal of gamma G G' is about 90, so that what was
picked weighs on what is picked next; on hero-tiny (96 wide) it is .08 beside the 1 of I, and the choice is near chance,
where gamma = 100 chooses as well as any method (`docs/results.md`). Raise it where D / n is far below 7.
Differs: in the code newlines compete and channels are scaled over them too, and it keeps round(R (patches + newlines));
here floor(R M) patches are kept and newlines follow the sweep's policy. The code runs the greedy step in the features'
dtype; it is fp32 here. Its cost is that of the code's own products: n^2 D multiplications for G and n^3 for G G', half
of each by symmetry. For 5 x 576 tokens 1,024 wide these 32 thousand million operations take .3 s of a core of 105
GFLOP/s, and the picks then read 1.9 GB: `select` takes .9 s there, where other greedy methods take .1.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method
from hero_ray.methods.kit.scores import finite
from hero_ray.methods.kit.similarity import determinant_map, gram


@dataclass(frozen=True)
class OTPrune(Method):
    """Distribution alignment."""

    gamma: float = 0.01

    name = "otprune"
    reads = "projected tokens"
    paper = "OTPrune, arXiv 2602.20205"

    def check(self) -> None:
        self.require(0.0 < self.gamma <= 1e6, "gamma", "a positive weight up to 1e6")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        real = layout.sequence[layout.sequence >= 0].to(encoded.features.device)
        features = finite(encoded.features.flatten(0, 1).index_select(0, real), self.name, "projected features")
        kernel = transport_kernel(features, self.gamma)
        picks = determinant_map(kernel[None], kernel.diagonal()[None], min(budget.total, len(real)))[0]
        keep = torch.zeros(layout.valid.numel(), dtype=torch.bool, device=real.device)
        keep[real[picks]] = True
        return Selection(keep.view(layout.valid.shape))


def transport_kernel(features: Tensor, gamma: float) -> Tensor:
    """I + gamma G G' of [n, D] tokens: [n, n]."""
    scaled = features / torch.linalg.vector_norm(features, dim=0).clamp(min=1e-12)
    kernel = gram(gram(scaled)).mul_(gamma)
    kernel.diagonal().add_(1.0)
    return kernel
