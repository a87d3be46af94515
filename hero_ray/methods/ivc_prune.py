"""IVC-Prune: tokens that mark positions, and tokens whose values are like the question's (arXiv 2602.03060).

One choice after block 16 of 32, and what is dropped leaves the caches of *all* blocks: the prompt has seen it in the
first half, the answer's tokens never do. In block 16, A = softmax over all tokens of v_i v_j / sqrt(d), mean over value
heads, no mask. Seeds are the visual tokens with the highest mean A of the text behind the picture (its first two tokens
left out). Kept are the seeds, the highest mean A of that text and the seeds together, and the tokens whose rotary
tables have the highest mean cosine, and the highest mean sine. Positions stay. Follows FireRedTeam/IVC-Prune @03afd9c
(`models/llama/modeling_llama.py`).

R is the share kept after the cut, so the mean over blocks is higher: see `equivalent_tokens`. `exact` keeps floor(R M)
tokens, split as in the code: R / 30 seeds, R / 6 by cosine, R / 6 by sine, and what is left by value. `released`: the
code's own shares, 1 % seeds, 20 % by value, 5 % and 5 % by position, together 20 to 31 %, whatever R.
Differs: newlines compete like patches. Left out: Qwen's three-part positions, which no model here has.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import LayerPruner, LayerState, Method, Survivors
from hero_ray.methods.kit import dropping
from hero_ray.methods.kit.scores import descending, finite

_LEADING = 2
"""Text tokens right behind the picture that the code does not count to the question."""
_SEEDS, _VALUES, _EACH = 0.01, 0.2, 0.05
_WHOLE = _VALUES + 2 * _EACH


@dataclass(frozen=True)
class IVCPrune(Method):
    """One cut that all blocks' caches follow."""

    after_block: int = 16

    name = "ivc-prune"
    stage = "in-llm"
    text_aware = True
    reads = "values and rotary positions of block 16"
    paper = "IVC-Prune, arXiv 2602.03060"
    variants = ("exact", "released")
    positions = "keep"

    @property
    def fixed_budget(self) -> bool:
        return self.variant != "released"

    def check(self) -> None:
        self.require(1 <= self.after_block <= 31, "after_block", "a block 1 to 31 of a 32-deep LLM")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, "cut once inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return _OneCut(self, budget.ratio)

    def counts(self, ratio: float, total: int) -> tuple[int, int, int, int]:
        """Of `total` visual tokens: seeds, by value, by either position table, and the most that live on."""
        if self.variant == "released":
            return max(1, round(total * _SEEDS)), round(total * _VALUES), round(total * _EACH), total
        most = int(dropping.share_of(ratio, torch.tensor([total])))
        share = most / _WHOLE
        return min(most, max(1, round(share * _SEEDS))), most, round(share * _EACH), most


class _OneCut(LayerPruner):
    def __init__(self, method: IVCPrune, ratio: float) -> None:
        self._method, self._ratio = method, ratio
        self._chosen: list[tuple[Tensor, Tensor]] = []  # per row, places of its visual tokens and who lives on

    def after(self, state: LayerState) -> None:
        if state.layer != dropping.after_block(self._method.after_block, state.num_layers):
            return
        cos, sin = (table.float().mean(-1) for table in state.rope())
        values = finite(
            state.values().masked_fill(~state.valid[:, None, :, None], 0.0),
            self._method.name,
            f"values of block {state.layer}",
        )
        totals, *masks = on_host([state.num_visual, state.valid, state.visual, state.after_image])
        for row, total in enumerate(totals.tolist()):
            live, seen, text = (mask[row].nonzero()[:, 0] for mask in masks)
            asking = text[_LEADING:] if len(text) > _LEADING else text
            first = int(live[0])  # rows are padded on the left
            visual, asking = ((places - first).to(values.device) for places in (seen, asking))
            tables = torch.stack([cos[row, first:], sin[row, first:]])[:, visual]
            counts = self._method.counts(self._ratio, int(total))
            self._chosen.append((visual + first, choose(values[row, :, first:], asking, visual, tables, counts)))

    def before(self, state: LayerState) -> Survivors | None:
        if state.layer != dropping.after_block(self._method.after_block, state.num_layers) + 1:
            return None
        keep = state.valid & ~state.visual
        for row, (visual, chosen) in enumerate(self._chosen):
            keep[row].index_copy_(0, visual, chosen)
        return Survivors(keep, everywhere=True)


def choose(values: Tensor, asking: Tensor, visual: Tensor, tables: Tensor, counts: tuple[int, int, int, int]) -> Tensor:
    """Which visual tokens of one prompt live on: bool [M].

    Args:
        values: [H, S, d] of every token; asking, visual: int64 positions of the question's and the picture's tokens.
        tables: [2, M], mean cosine and sine of every visual token's rotary table.
        counts: seeds, tokens by value, tokens by either table, and the most to keep.
    """
    seeds, by_value, by_table, most = counts
    rows = likeness(values, asking)
    first = descending(rows.mean(0)[visual], seeds)
    anchors = torch.cat([likeness(values, visual[first]), rows])
    keep = torch.zeros(len(visual), dtype=torch.bool, device=values.device)
    for part in (first, *(descending(table, by_table) for table in tables)):
        keep.index_fill_(0, part, True)
    ranked = descending(anchors.mean(0)[visual], by_value)
    taken = keep[ranked]
    room = (~taken).cumsum(0) <= most - keep.sum()  # best first, whoever is not in yet
    return keep.index_copy_(0, ranked, taken | room)


def likeness(values: Tensor, asking: Tensor) -> Tensor:
    """Softmax of scaled products of the chosen values [H, S, d] with all, head mean: fp32 [A, S]."""
    chosen = values[:, asking]
    return (chosen @ values.mT * values.shape[-1] ** -0.5).softmax(-1).mean(0)
