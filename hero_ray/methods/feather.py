"""FEATHER: attention without positions, and an even grid at the first of two cuts (arXiv 2412.13180).

After blocks 8 and 16 of 32 the score of a visual token is the head mean of the softmax, over visual tokens alone, of
the last prompt token's query times their keys over sqrt(d) in the block just run, both before RoPE. The first cut keeps
the floor(r M) best and every third row and column of tokens besides, whatever their score; the second the floor(r^2 L)
best of the L left. Positions stay. Follows markendo/FEATHER @c2a09b2 (`llama2_models.py`).

`exact`: R is the mean share over blocks, with r solved for it as if the best were no nearer the grid than chance, and
cuts pulled forward where no r reaches R. `released`: R is r itself, as in the code (its script: .3, a mean of 36 %).
The grid is on top of r, so that the true count is only known afterwards: see `equivalent_tokens`.
Differs: the code knows one square view; here every view has the grid, without its padding, and newlines compete for the
rest. Cuts move by depth fraction. Attention keeps at least one token at either cut, where the code's floor may be none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import LayerPruner, LayerState, Method, Survivors
from hero_ray.methods.kit import dropping


@dataclass(frozen=True)
class Feather(Method):
    """Two cuts by attention without RoPE, the first beside a grid."""

    after_blocks: tuple[int, int] = (8, 16)
    stride: int = 3

    name = "feather"
    stage = "in-llm"
    text_aware = True
    reads = "the last prompt token's query and all keys before RoPE in blocks 8 and 16"
    paper = "FEATHER, arXiv 2412.13180"
    variants = ("exact", "released")
    positions = "keep"

    def check(self) -> None:
        first, second = self.after_blocks
        self.require(1 <= first < second <= 31, "after_blocks", "two rising blocks 1 to 31 of a 32-deep LLM")
        self.require(1 <= self.stride <= 1000, "stride", "1 to 1,000 rows and columns")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        if budget.is_full:
            return keep_all(encoded.layout)
        layout = encoded.layout
        sequence, side = layout.sequence, layout.side[1]
        place = sequence.clamp(min=0) % layout.tokens_per_view
        even = (sequence >= 0) & (place // side % self.stride == 0) & (place % side % self.stride == 0)
        everything = keep_all(layout).keep
        return Selection(everything, order=sequence, marked=even, note=f"cut to {budget.ratio:.3g} inside the LLM")

    def pruner_for(self, budget: Budget, selections: Sequence[Selection]) -> LayerPruner | None:
        return None if budget.is_full else _TwoCuts(self, budget.ratio, [one.marked for one in selections])

    def cuts(self, ratio: float, num_layers: int) -> Mapping[int, float]:
        """Share of what is left that attention keeps at each cut: {block: r, block: r^2}."""
        places = dropping.distinct(self.after_blocks, num_layers)
        if self.variant == "exact":
            places, ratio = dropping.fitted(ratio, places, self._shares, num_layers)
        return dict(zip(places, (ratio, ratio**2), strict=False))

    def _shares(self, places: list[int], factor: float) -> Mapping[int, float]:
        """Expected share of all tokens after each cut, the grid at the first one."""
        first = factor + (1.0 - factor) / self.stride**2
        return dict(zip(places, (first, first * factor**2), strict=False))


class _TwoCuts(LayerPruner):
    def __init__(self, method: Feather, ratio: float, even: Sequence[Tensor | None]) -> None:
        self._method, self._ratio, self._even = method, ratio, even
        self._scores: Tensor | None = None

    def after(self, state: LayerState) -> None:
        if state.layer in self._method.cuts(self._ratio, state.num_layers):
            scores = unturned_attention(state).masked_fill(~state.visual, 0.0)
            self._scores = dropping.checked(state, scores, self._method.name)

    def before(self, state: LayerState) -> Survivors | None:
        cuts = self._method.cuts(self._ratio, state.num_layers)
        share = cuts.get(state.layer - 1)
        if share is None:
            return None
        assert self._scores is not None
        survivors = dropping.keep_visual(state, self._scores, dropping.share_of(share, state.visual.sum(1)))
        if state.layer - 1 == min(cuts):
            survivors.keep.logical_or_(self._grid(state))
        return survivors

    def _grid(self, state: LayerState) -> Tensor:
        """The grid's tokens where they stand in the prompt: bool [B, S]; reads nothing from the device."""
        even = [row for row in self._even if row is not None]
        grid = torch.nn.utils.rnn.pad_sequence(even, batch_first=True).to(state.visual.device)
        entered = state.visual.cumsum(1).sub_(1).clamp_(0, grid.shape[1] - 1)
        return grid.gather(1, entered) & state.visual


def unturned_attention(state: LayerState) -> Tensor:
    """The last prompt token's attention over visual tokens alone, without RoPE, head mean: fp32 [B, S]."""
    rows, length = state.valid.shape
    last = torch.full((rows, 1), length - 1, dtype=torch.long, device=state.valid.device)
    logits = state.unturned_logits(last)[:, :, 0]
    return logits.masked_fill(~state.visual[:, None], -torch.inf).softmax(-1).mean(1)
