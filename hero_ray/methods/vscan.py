"""VScan: local and global looks of the tower merged, then a cut in the middle of the LLM (arXiv 2505.22654).

Per view of T tokens half come from windows, 4 x 4 of them: the same number of best tokens from each by the CLS
attention of an early tower block (6). The others are the best of the rest by the feature block's. Every token not
chosen is merged into the chosen one most like it (cosine of projected tokens), which becomes their mean. After block 16
of 32 the tokens are ranked by the next block's attention row of the last prompt token, and a third live on, renumbered.
Follows Tencent/SelfEvolvingAgent @a82450e (`VScan/llava/model/llava_arch.py`, `modeling_llama_x.py`).

R is the mean share over blocks, the cut at half depth: 1.5 R enter and .5 R live on (96 and 32 for 64 of 576); from
R = 2/3 on everything enters. `inside=1` leaves the cut out.
Differs: the budget is split evenly over views under their real token count, padding takes no part, and what windows
cannot hold (T / 2 is floored to a multiple of 16 there) goes to the global look, where the code loses it. Merging is
cosines of every dropped with every kept token: .71 thousand million operations at R = 20 % for 5 x 576 tokens 1,024
wide, 7 ms of a core of 105 GFLOP/s alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import LayerPruner, Method
from hero_ray.methods.kit import dropping
from hero_ray.methods.kit.allocation import equal, floor
from hero_ray.methods.kit.merging import with_merged
from hero_ray.methods.kit.scores import caps, cls_attention, keep_top, ranked

_WINDOWS = 4
"""Along either edge of a view: 6 x 6 tokens each in the paper's views of 24 x 24."""


@dataclass(frozen=True)
class VScan(Method):
    """Two looks before the LLM, one cut inside."""

    early_layer: int = 6
    after_block: int = 16
    inside: float = 1 / 3

    name = "vscan"
    text_aware = True
    reads = "projected tokens; the last prompt token's attention row in block 17"
    paper = "VScan, arXiv 2505.22654"

    def check(self) -> None:
        self.require(1 <= self.early_layer <= 24, "early_layer", "a block of a 24-deep tower, counted from 1")
        self.require(1 <= self.after_block <= 31, "after_block", "a block 1 to 31 of a 32-deep LLM")
        self.require(0.0 < self.inside <= 1.0, "inside", "the share that lives on past the cut, in (0, 1]")
        if self.inside < 1.0:
            object.__setattr__(self, "stage", "in-llm")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_attention=frozenset({*vision.scaled((self.early_layer,)), vision.feature_layer}))

    def shares(self, ratio: float) -> tuple[float, float]:
        """What enters, of the picture, and what lives on past the cut, of what entered; their mean share is `ratio`."""
        entering = 2 * ratio / (1 + self.inside)
        return (entering, self.inside) if entering < 1.0 else (1.0, max(2 * ratio - 1.0, self.inside))

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        entering, _ = self.shares(budget.ratio)
        total = min(floor(entering * budget.base_tokens), layout.num_patches) or 1
        early, deep = (
            cls_attention(encoded, (layer,), self.name)
            for layer in (*encoded.vision.scaled((self.early_layer,)), encoded.vision.feature_layer)
        )
        valid = layout.valid.to(deep.device)
        counts = equal(total, caps(layout.valid))
        local = best_of_windows(early, [count // 2 for count in counts], layout.side, valid)
        left = [count - taken for count, taken in zip(counts, local.sum(1).tolist(), strict=True)]
        keep = local | keep_top(deep, left, valid & ~local)
        note = f"{entering:.3g} enter the LLM, cut inside" if self.inside < 1.0 else ""
        return with_merged(Selection(keep, scores=deep, view_budgets=tuple(counts), note=note), encoded, self.name)

    def pruner(self, budget: Budget) -> LayerPruner | None:
        _, living = self.shares(budget.ratio)
        return dropping.StagedPruner(
            self.name,
            lambda depth: {dropping.after_block(self.after_block, depth): living},
            lambda state: dropping.last_token_score(state, self.name),
            score_before=True,
        )


def best_of_windows(scores: Tensor, counts: Sequence[int], side: tuple[int, int], valid: Tensor) -> Tensor:
    """The same number of best tokens of every window, all together at most `counts` [V] of a view: bool [V, N]."""
    rows, cols = (torch.arange(length) * min(_WINDOWS, length) // length for length in side)
    across = min(_WINDOWS, side[1])
    window = (rows[:, None] * across + cols[None]).flatten()  # on the host, which knows every window's size then
    windows = min(_WINDOWS, side[0]) * across
    sizes = torch.bincount(window, minlength=windows)
    place = (torch.arange(len(window)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)).to(scores.device)
    # Best first, then by window: a token's place among those of its window is its place less the window's first.
    order = ranked(scores, valid)
    order = order.gather(1, window.to(order.device)[order].argsort(dim=1, stable=True))
    rank = torch.empty_like(order).scatter_(1, order, place.expand_as(order))
    each = torch.tensor([count // windows for count in counts], device=order.device)
    return (rank < each[:, None]) & valid
