"""Uniform random visual tokens inside the LLM, after block 2 (straw man of methods that drop there).

Every visual token, newlines among them, enters and passes two blocks; then floor(R M) of M live on with their position
ids, drawn without replacement. A token's rank is a SHA-256 of seed, picture and place, so that it depends on neither
machine nor batch. UniPruneBench (arXiv 2511.02650) runs this straw man: TianfanPeng/VLMUniPruneBench @f93768f
(`methods/Random_IntraLLM.py`).

R is the share kept after the cut, as with FastV: see `equivalent_tokens`. Report the mean of at least three seeds.
Differs: the code draws from torch's generator, unseeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.core.lazy import torch
from hero_ray.methods.base import LayerPruner, Method
from hero_ray.methods.kit import dropping
from hero_ray.methods.kit.allocation import floor
from hero_ray.methods.kit.drawing import hash_ranks


@dataclass(frozen=True)
class RandomLLM(Method):
    """Tokens drawn by hash, dropped inside."""

    seed: int = 0
    after_block: int = 2

    name = "random-llm"
    stage = "in-llm"
    paper = "baseline"
    straw_man = True
    positions = "keep"

    def check(self) -> None:
        self.require(1 <= self.after_block <= 31, "after_block", "a block 1 to 31 of a 32-deep LLM")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        sequence = layout.sequence
        ranks = hash_ranks(f"{self.seed}|{encoded.image_id}|all|", len(sequence)).to(sequence.device)
        alive = ranks < max(1, floor(budget.ratio * len(sequence)))
        keep = torch.zeros(layout.valid.numel(), dtype=torch.bool, device=sequence.device)
        keep[sequence[alive & (sequence >= 0)]] = True
        note = f"cut to {budget.ratio:.3g} inside the LLM"
        return Selection(keep.view(layout.valid.shape), order=sequence, deferred=alive, note=note)

    def pruner_for(self, budget: Budget, selections: Sequence[Selection]) -> LayerPruner | None:
        if budget.is_full:
            return None
        return dropping.Deferred(
            self.name,
            lambda depth: dropping.after_block(self.after_block, depth),
            [selection.deferred for selection in selections],
        )
