"""What in-LLM methods share: where to cut a model of another depth, how many to keep, how to keep them.

Rows are left-padded prompts of one batch: B rows, S positions, H heads. "After block b" counts blocks from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import places
from hero_ray.methods.base import LayerPruner, LayerState, Survivors
from hero_ray.methods.kit.allocation import EPSILON
from hero_ray.methods.kit.scores import finite, keep_top

_LEAST = 0.25
REFERENCE_DEPTH = 32
"""Depth of the 7B models that the papers give their layers for."""


def after_block(block: int, num_layers: int) -> int:
    """A cut given for a 32-block model at the same depth fraction here, at least one block from either end.

    The index from 0 is what scales: 2 of 32 stays 2 at 24 and 40 blocks, 8 becomes 6 and 10.
    """
    scaled = 1 + math.floor((block - 1) * num_layers / REFERENCE_DEPTH + 0.5)
    return max(1, min(num_layers - 1, scaled))


def are_cuts(blocks: Sequence[int]) -> bool:
    """Whether these are rising blocks 1 to 31 of a 32-block model, behind each of which something can be cut."""
    return (
        bool(blocks) and all(1 <= block < REFERENCE_DEPTH for block in blocks) and sorted(set(blocks)) == list(blocks)
    )


def let_all_in(encoded: Encoded, budget: Budget, note: str) -> Selection:
    """Everything enters the LLM; `note` says what happens inside."""
    everything = keep_all(encoded.layout)
    return everything if budget.is_full else Selection(everything.keep, note=note)


def share_of(share: float, total: Tensor) -> Tensor:
    """floor(share * total) per row, at least 1: int64 [B]."""
    return torch.floor(share * total.double() + EPSILON).long().clamp(min=1)


def last_token_score(state: LayerState, method: str) -> Tensor:
    """Head mean of the last prompt token's attention row: [B, S]."""
    rows, positions = state.valid.shape
    last = torch.full((rows, 1), positions - 1, dtype=torch.long, device=state.valid.device)
    return checked(state, state.attention_rows(last).mean(1)[:, 0], method)


def checked(state: LayerState, scores: Tensor, method: str) -> Tensor:
    """Scores of visual tokens, the rest zero.

    Raises:
        NonFiniteScoreError: a visual token's score is NaN or infinite.
    """
    return finite(scores.masked_fill(~state.visual, 0.0), method, f"LLM attention of block {state.layer}")


def keep_visual(state: LayerState, scores: Tensor, counts: Tensor) -> Survivors:
    """All text and the `counts[b]` best visual tokens of every row, ties to the earlier position."""
    return Survivors((state.valid & ~state.visual) | keep_top(scores, counts, state.visual))


def placed(mask: Tensor, device: torch.device) -> list[Tensor]:
    """Where every row of a mask [B, S] on the CPU is true, ascending: int64 [m] each, on the device."""
    return [row.nonzero()[:, 0].to(device) for row in mask]


class StagedPruner(LayerPruner):
    """Cuts after certain blocks to a share of the visual tokens that entered, by a score seen before the cut.

    Args:
        method: its name, for errors.
        stages: from the model's depth to {block: share kept after it}.
        score_before: score with the block about to run (PyramidDrop) instead of the one just run.
        count: tokens kept for a share, per row; floored by default.
    """

    def __init__(
        self,
        method: str,
        stages: Callable[[int], Mapping[int, float]],
        score: Callable[[LayerState], Tensor],
        score_before: bool = False,
        count: Callable[[float, Tensor], Tensor] = share_of,
    ) -> None:
        self._method, self._stages, self._score = method, stages, score
        self._score_before, self._count = score_before, count
        self._scores: Tensor | None = None

    def after(self, state: LayerState) -> None:
        if not self._score_before and state.layer in self._stages(state.num_layers):
            self._scores = self._score(state)

    def before(self, state: LayerState) -> Survivors | None:
        share = self._stages(state.num_layers).get(state.layer - 1)
        if share is None:
            return None
        scores = self._score(state) if self._score_before else self._scores
        assert scores is not None
        return keep_visual(state, scores, self._count(share, state.num_visual))


class Deferred(LayerPruner):
    """Drops, after one block, what the selections had already decided.

    Args:
        method: its name, for errors.
        after: from the model's depth to the block.
        alive: per row, which of its visual tokens live on, in the order they entered.
    """

    def __init__(self, method: str, after: Callable[[int], int], alive: Sequence[Tensor | None]) -> None:
        self._method, self._after, self._alive = method, after, alive

    def before(self, state: LayerState) -> Survivors | None:
        if state.layer != self._after(state.num_layers) + 1:
            return None
        keep = state.valid.clone()
        if len(self._alive) != len(keep) or any(alive is None for alive in self._alive):
            raise SelectionError(f"{self._method} got {len(self._alive)} deferred selections for {len(keep)} rows")
        for row, alive in enumerate(self._alive):
            assert alive is not None
            keep[row].index_copy_(0, places(state.visual[row], len(alive)), alive.to(keep.device))
        return Survivors(keep)


def bisect(rising: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where a rising function reaches `target` between `low` and `high`."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return 0.5 * (low + high)


def mean_share(stages: Mapping[int, float], num_layers: int) -> float:
    """Share of visual tokens alive, averaged over blocks."""
    total, share = 0.0, 1.0
    for block in range(1, num_layers + 1):
        total += share
        share = stages.get(block, share)
    return total / num_layers


def fitted(
    ratio: float,
    cuts: list[int],
    shares: Callable[[list[int], float], Mapping[int, float]],
    num_layers: int,
) -> tuple[list[int], float]:
    """Cuts and the factor in (0, 1] with which `shares` has the mean `ratio` over blocks.

    Cuts are pulled forward, a block at a time, where a factor of a quarter would not do: below it a row of cuts is one
    cliff. Where cuts in the first blocks do not reach `ratio`, nearly everything is dropped there.

    Args:
        shares: from cuts and a factor to the share kept after each cut; rises with the factor, all 1 at 1.
    """
    while mean_share(shares(cuts, _LEAST), num_layers) > ratio and cuts[-1] > len(cuts):
        cuts = [max(place, cut - 1) for place, cut in enumerate(cuts, start=1)]
    return cuts, bisect(lambda factor: mean_share(shares(cuts, factor), num_layers), ratio, 1e-6, 1.0)


def distinct(blocks: Sequence[int], num_layers: int) -> list[int]:
    """Cuts given for 32 blocks mapped to this depth, in order, coinciding ones once."""
    return sorted({after_block(block, num_layers) for block in blocks})
