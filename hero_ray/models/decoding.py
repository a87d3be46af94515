"""What stands between a prefill and its decode steps: logits, the cache, and who is alive in which blocks.

Shape letters: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hero_ray.models.cache import KeyValueCache


@dataclass
class Span:
    """Consecutive blocks that see the same live tokens.

    Attributes:
        valid: bool [B, capacity], room for new tokens included and already True; of own tokens alone where a prefix is
            read in place.
        length: positions in use.
        padded: whether any row has padding, so that a mask is needed.
        next_position: [B, 1] position id of the next token.
        num_valid, num_visual: [B] tokens alive after prefill, and visual tokens that its blocks ran on.
        positions: [B, length] position ids of the keys, for models with sliding windows; else None.
    """

    valid: Tensor
    length: int
    padded: bool
    next_position: Tensor
    num_valid: Tensor
    num_visual: Tensor
    positions: Tensor | None = None


@dataclass
class DecodeState:
    """A prefilled batch, ready for decode steps.

    Attributes:
        logits: [B, vocab] of the last position.
        cache: keys and values of every block.
        spans: live-token sets, and `span_of`: the span of each block.
    """

    logits: Tensor
    cache: KeyValueCache
    spans: list[Span]
    span_of: list[int]

    def alive(self) -> Tensor:
        """Visual tokens, and all tokens, alive in every span after prefill: int64 [2, spans, B], on the device."""
        return torch.stack([getattr(span, name) for name in ("num_visual", "num_valid") for span in self.spans]).view(
            2, len(self.spans), -1
        )

    def repeated(self, times: int, room: int) -> DecodeState:
        """The same prompts, each `times` times in a row, with `room` for new tokens; this one stays as it is."""
        rows = torch.arange(self.logits.shape[0], device=self.logits.device).repeat_interleave(times)
        spans = [
            replace(
                span,
                valid=with_room(span.valid[rows, : span.length], room),
                next_position=span.next_position[rows],
                num_valid=span.num_valid[rows],
                num_visual=span.num_visual[rows],
                positions=None if span.positions is None else span.positions[rows],
            )
            for span in self.spans
        ]
        return DecodeState(self.logits[rows], self.cache.branch(rows, room), spans, self.span_of)

    def visual_per_layer(self, alive: Tensor | None = None) -> list[tuple[int, ...]]:
        """Per row, visual tokens alive in each block after prefill; `alive` where it was read already."""
        table = (self.alive() if alive is None else alive)[0].tolist()
        return [tuple(row) for row in zip(*(table[span] for span in self.span_of), strict=True)]

    def kv_bytes(self, alive: Tensor | None = None) -> list[int]:
        """Per row, bytes of the live cache after prefill, read off the cache tensors; padding not counted."""
        table = (self.alive() if alive is None else alive)[1].tolist()
        sizes = [self.cache.bytes_per_position(index) for index in range(len(self.span_of))]
        per_row = zip(*(table[span] for span in self.span_of), strict=True)
        return [sum(count * size for count, size in zip(row, sizes, strict=True)) for row in per_row]


def with_room(valid: Tensor, room: int) -> Tensor:
    """`valid` [B, S] with `room` more places that will be alive."""
    return torch.cat([valid, valid.new_ones(valid.shape[0], room)], 1)
