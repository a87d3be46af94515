"""PyramidDrop: a few cuts at equal distances, each to a smaller share (arXiv 2410.17247).

After blocks 8, 16 and 24 of 32 the tokens are ranked by the *next* block's attention row of the last prompt token, head
mean, computed on the current hidden states; survivors are renumbered. Follows Cooperx521/PyramidDrop @6444f30
(`modeling_llama_pdrop.py`), with grouped-query heads repeated, which the code's ranking path forgets.

R is the mean share over blocks. `exact` keeps lambda, lambda^2, lambda^3 after the cuts with lambda solved for R, and
pulls the cuts forward where three of them at equal quarters cannot reach R. `paper`: shares .5, .25, .125, a mean of
46.9 %, whatever R.
Differs: cuts move by depth fraction; those that coincide in a shallow model act once, the deepest share wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.methods.base import LayerPruner, Method
from hero_ray.methods.kit import dropping


@dataclass(frozen=True)
class PDrop(Method):
    """Three cuts by the next block's last-token attention."""

    after_blocks: tuple[int, ...] = (8, 16, 24)
    shares: tuple[float, ...] = (0.5, 0.25, 0.125)

    name = "pdrop"
    stage = "in-llm"
    text_aware = True
    reads = "the last prompt token's attention row in the block after each cut"
    paper = "PyramidDrop, arXiv 2410.17247"
    variants = ("exact", "paper")

    @property
    def fixed_budget(self) -> bool:
        return self.variant != "paper"

    def check(self) -> None:
        blocks, shares = self.after_blocks, self.shares
        self.require(dropping.are_cuts(blocks), "after_blocks", "rising blocks 1 to 31 of a 32-deep LLM")
        falling = all(0.0 < share <= 1.0 for share in shares) and sorted(shares, reverse=True) == list(shares)
        self.require(falling and len(shares) == len(blocks), "shares", "one falling share in (0, 1] per block")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, "cut in stages inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return dropping.StagedPruner(
            self.name,
            lambda depth: self.stages(budget.ratio, depth),
            lambda state: dropping.last_token_score(state, self.name),
            score_before=True,
        )

    def stages(self, ratio: float, num_layers: int) -> Mapping[int, float]:
        """Share kept after each cut block, for a model of `num_layers` blocks."""
        if self.variant == "paper":
            return {
                dropping.after_block(block, num_layers): share
                for block, share in zip(self.after_blocks, self.shares, strict=True)
            }
        cuts = dropping.distinct(self.after_blocks, num_layers)
        return _pyramid(*dropping.fitted(ratio, cuts, _pyramid, num_layers))


def _pyramid(cuts: list[int], factor: float) -> dict[int, float]:
    return {cut: factor**power for power, cut in enumerate(cuts, start=1)}
