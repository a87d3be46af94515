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
        positions: [B, S] position ids.
        valid: bool [B, S]; False is padding.
        visual, instruction, after_image: bool [B, S], what each token is.
        padded: whether any row is padded (known without asking the device).
    """

    hidden: Tensor
    positions: Tensor
    valid: Tensor
    visual: Tensor
    instruction: Tensor
    after_image: Tensor
    padded: bool

    def pack(self, survivors: KeptRows, positions: Positions) -> LiveTokens:
        """Only the survivors, right-aligned again, recycled tokens behind the last visual one.

        Text always survives: a pruner that drops it would change the question, not the picture.
        """
        merged, keep = self, (survivors.keep | ~self.visual) & self.valid
        if survivors.recycled is not None:
            merged, keep = self._with_recycled(survivors.recycled, survivors.recycled_valid, keep)
        order, alive, padded = _right_aligned(keep)
        packed_positions = merged.positions.gather(1, order)
        if positions == "compact":
            packed_positions = (alive.long().cumsum(1) - 1).clamp(min=0)
        return LiveTokens(
            hidden=merged.hidden.gather(1, order[..., None].expand(-1, -1, merged.hidden.shape[-1])),
            positions=packed_positions.masked_fill(~alive, 0),
            valid=alive,
            visual=merged.visual.gather(1, order) & alive,
            instruction=merged.instruction.gather(1, order) & alive,
            after_image=merged.after_image.gather(1, order) & alive,
            padded=padded,
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
            return both.gather(1, order if both.dim() == 2 else order[..., None].expand(-1, -1, both.shape[-1]))

        nothing = torch.zeros_like(valid)
        merged = replace(
            self,
            hidden=merge(self.hidden, recycled),
            # Under original positions a merged token shares the place of the last visual token.
            positions=merge(self.positions, self.positions.gather(1, last.clamp(min=0)).expand(rows, count)),
            valid=merge(self.valid, valid),
            visual=merge(self.visual, valid),
            instruction=merge(self.instruction, nothing),
            after_image=merge(self.after_image, nothing),
        )
        return merged, merge(keep, valid)


def _right_aligned(keep: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Where survivors come from, which of these places live, and whether any row is padded; one look at the device."""
    counts = keep.sum(1).tolist()
    length = max(counts)
    # Stable sort of a 0/1 key: the dropped go left in any order, survivors keep theirs on the right.
    order = torch.sort(keep.long(), dim=1, stable=True).indices[:, -length:]
    return order, keep.gather(1, order), min(counts) < length
