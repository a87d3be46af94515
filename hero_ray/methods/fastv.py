"""FastV: after block K only the visual tokens that the last prompt token attends to live on (arXiv 2403.06764).

Score: head mean of the attention row of the last token in block K (default 2); survivors keep their position ids.
Newline tokens compete like patches. Follows pkunlp-icler/FastV @d165972 (`modeling_llama.py`); only the one row is
recomputed.

R is the share kept after block K, so the mean over blocks is higher: see `equivalent_tokens`.
Variants: `exact` floors R M, `released` rounds it half to even.
Differs: the paper's text averages over all queries (`query=all`, over those that can see a key); the code reads the
last one. K counts for 32 blocks and scales with depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import LayerPruner, LayerState, Method
from hero_ray.methods.kit import dropping

_CHUNK = 256  # query rows at a time: [H, 256, S] instead of [H, S, S]


@dataclass(frozen=True)
class FastV(Method):
    """One cut by last-token attention."""

    after_block: int = 2
    query: Literal["last", "all"] = "last"

    name = "fastv"
    stage = "in-llm"
    text_aware = True
    reads = "the last prompt token's attention row in block 2"
    paper = "FastV, arXiv 2403.06764"
    variants = ("exact", "released")
    positions = "keep"

    def check(self) -> None:
        self.require(1 <= self.after_block <= 31, "after_block", "a block 1 to 31 of a 32-deep LLM")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, f"cut to {budget.ratio:.3g} inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return dropping.StagedPruner(
            self.name,
            lambda depth: {dropping.after_block(self.after_block, depth): budget.ratio},
            self._score,
            count=rounded_share if self.variant == "released" else dropping.share_of,
        )

    def _score(self, state: LayerState) -> Tensor:
        if self.query == "last":
            return dropping.last_token_score(state, self.name)
        return dropping.checked(state, mean_over_queries(state), self.name)


def rounded_share(share: float, total: Tensor) -> Tensor:
    """round(M (1 - r)) as Python rounds, half to even: int64 [B]."""
    return torch.round(share * total.double()).long().clamp(min=1)


def mean_over_queries(state: LayerState) -> Tensor:
    """Mean attention a key gets from every query that can see it, head mean: [B, S]."""
    rows, length = state.valid.shape
    total = torch.zeros(rows, length, dtype=torch.float32, device=state.valid.device)
    for start in range(0, length, _CHUNK):
        queries = torch.arange(start, min(start + _CHUNK, length), device=total.device).expand(rows, -1)
        seen = state.attention_rows(queries).mean(1)
        real = state.valid.gather(1, queries)[..., None]  # a padded query has no keys, its row is NaN
        total += torch.where(real, seen, torch.zeros_like(seen)).sum(1)
    readers = state.valid.long().flip(1).cumsum(1).flip(1)
    return total / readers.clamp(min=1)
