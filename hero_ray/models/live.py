"""The live tokens of a prefill: which survive, where they stand, what a pruner may look at.

Shape letters: B rows (left-padded prompts), S positions, D width, H heads, R queries, M recycled tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

Positions = Literal["compact", "keep"]


class KeptRows(Protocol):
    """What a pruner answers at a boundary (`hero_ray.methods.base.Survivors`, by shape and not by import)."""

    @property
    def keep(self) -> Tensor: ...
    @property
    def recycled(self) -> Tensor | None: ...
    @property
    def recycled_valid(self) -> Tensor | None: ...


@dataclass(frozen=True)
class LiveTokens:
    """Tokens alive at one boundary, right-aligned in every row.

    Attributes:
        hidden: [B, S, D] input of the next block.
        positions: [B, S] position ids, or [B, S, 3] where tokens stand in time, row and column.
        valid: bool [B, S]; False is padding.
        visual, instruction, after_image: bool [B, S], what each token is.
        padded: whether any row is padded (known without asking the device).
        next_position: [B, 1] of the token to come, where positions do not count tokens; None: one behind the last.
        deep: [B, S, L, D], added behind each of the first L blocks, or None.
    """

    hidden: Tensor
    positions: Tensor
    valid: Tensor
    visual: Tensor
    instruction: Tensor
    after_image: Tensor
    padded: bool
    next_position: Tensor | None = None
    deep: Tensor | None = None

    @property
    def behind(self) -> Tensor:
        """[B, 1] position id of the token that follows."""
        return self.positions[:, -1:] + 1 if self.next_position is None else self.next_position

    def deepened(self, hidden: Tensor, index: int) -> Tensor:
        """A block's output with the visual features that belong behind block `index` (from 0) added."""
        if self.deep is None or index >= self.deep.shape[2]:
            return hidden
        return hidden + self.deep[:, :, index].to(hidden.dtype)

    def pack(self, survivors: KeptRows, positions: Positions) -> LiveTokens:
        """Only the survivors, right-aligned again, recycled tokens behind the last visual one.

        Text always survives: a pruner that drops it would change the question, not the picture. Tokens that stand in
        rows and columns keep their places: there is nothing to close up in a plane.
        """
        merged, keep = self, (survivors.keep | ~self.visual) & self.valid
        if survivors.recycled is not None:
            merged, keep = self._with_recycled(survivors.recycled, survivors.recycled_valid, keep)
        order, alive, padded = _right_aligned(keep)
        packed_positions = taken(merged.positions, order)
        if positions == "compact" and self.next_position is None:
            packed_positions = (alive.long().cumsum(1) - 1).clamp(min=0)
        dead = ~alive if packed_positions.dim() == 2 else ~alive[..., None]
        return LiveTokens(
            hidden=taken(merged.hidden, order),
            positions=packed_positions.masked_fill(dead, 0),
            valid=alive,
            visual=merged.visual.gather(1, order) & alive,
            instruction=merged.instruction.gather(1, order) & alive,
            after_image=merged.after_image.gather(1, order) & alive,
            padded=padded,
            next_position=self.next_position,
            deep=None if merged.deep is None else taken(merged.deep, order),
        )

    def places(self, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Where `pack` takes each of its positions from, int64 [B, kept], and which of them live, bool [B, kept]."""
        return _right_aligned((keep | ~self.visual) & self.valid)[:2]

    def _with_recycled(self, recycled: Tensor, valid: Tensor | None, keep: Tensor) -> tuple[LiveTokens, Tensor]:
        rows, count = recycled.shape[:2]
        if valid is None:
            valid = torch.ones(rows, count, dtype=torch.bool, device=keep.device)
        index = torch.arange(keep.shape[1], device=keep.device)
        last = torch.where(self.visual, index, torch.full_like(index, -1)).amax(1, keepdim=True)  # [B, 1]
        slot = torch.arange(count, device=keep.device)
        # Fractions of a position sort a recycled token behind `last` and before `last + 1`.
        place = torch.cat([index.expand_as(keep) * (count + 1), last * (count + 1) + 1 + slot], 1)
        order = place.argsort(dim=1, stable=True)

        def merge(mine: Tensor, theirs: Tensor) -> Tensor:
            both = torch.cat([mine, theirs.to(mine.dtype)], 1)
            return taken(both, order)

        nothing = torch.zeros_like(valid)
        deep = self.deep
        if deep is not None:  # what stands for several tokens gets no deeper features of any one of them
            deep = merge(deep, deep.new_zeros(rows, count, *deep.shape[2:]))
        merged = replace(
            self,
            hidden=merge(self.hidden, recycled),
            # Under original positions a merged token shares the place of the last visual token.
            positions=merge(self.positions, taken(self.positions, last.clamp(min=0).expand(rows, count))),
            valid=merge(self.valid, valid),
            visual=merge(self.visual, valid),
            instruction=merge(self.instruction, nothing),
            after_image=merge(self.after_image, nothing),
            deep=deep,
        )
        return merged, merge(keep, valid)


def taken(tensor: Tensor, order: Tensor) -> Tensor:
    """Entries `order` [B, R] of a tensor [B, S, ...]."""
    index = order.view(*order.shape, *[1] * (tensor.dim() - 2))
    return tensor.gather(1, index.expand(-1, -1, *tensor.shape[2:]))


def _right_aligned(keep: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Where survivors come from, which of these places live, and whether any row is padded; one look at the device."""
    counts = keep.sum(1).tolist()
    length = max(counts)
    # Stable sort of a 0/1 key: the dropped go left in any order, survivors keep theirs on the right.
    order = torch.sort(keep.long(), dim=1, stable=True).indices[:, -length:]
    return order, keep.gather(1, order), min(counts) < length
