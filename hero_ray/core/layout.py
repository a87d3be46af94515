"""Where the tokens of a picture lie: views, padding, and the order in which the LLM reads them.

Shape letters: V views, N visual tokens per view. The thumbnail is always view 0 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hero_ray.core.lazy import Tensor, torch

NEWLINE = -1
"""Entry of a layout sequence that stands for the learned newline embedding."""

NewlinePolicy = Literal["unpadded_rows", "nonempty_rows", "all_rows", "none"]


@dataclass(frozen=True)
class Layout:
    """Where the tokens of every view stand before the LLM.

    Attributes:
        grid: (rows, columns) of tiles; (0, 0) for a single view.
        side: (rows, columns) of tokens in one view; N = rows * columns.
        sequence: int64 [length], the unpruned order: `view * N + position`, or NEWLINE.
        valid: bool [V, N]; False where a token shows padding only (never selected, never in `sequence`).
    """

    grid: tuple[int, int]
    side: tuple[int, int]
    sequence: Tensor
    valid: Tensor

    @property
    def num_views(self) -> int:
        return self.valid.shape[0]

    @property
    def num_tiles(self) -> int:
        """Local tiles, the thumbnail not counted."""
        return self.num_views - 1

    @property
    def tokens_per_view(self) -> int:
        return self.side[0] * self.side[1]

    @property
    def num_patches(self) -> int:
        """Patch tokens of the unpruned prompt, padding and newlines excluded (budget base `real`)."""
        return int(self.valid.sum())

    @property
    def num_newlines(self) -> int:
        return int((self.sequence == NEWLINE).sum())

    def mosaic(self) -> Tensor:
        """Tiles stitched to one grid, padding included: int64 [rows * side_h, cols * side_w] of flat token ids."""
        (rows, cols), (height, width) = self.grid, self.side
        ids = torch.arange(self.tokens_per_view, self.num_views * self.tokens_per_view)
        return ids.view(rows, cols, height, width).permute(0, 2, 1, 3).reshape(rows * height, cols * width)

    def order(self, keep: Tensor, policy: NewlinePolicy = "unpadded_rows") -> Tensor:
        """Sequence entries that survive `keep` (bool [V, N]), in the unpruned order.

        Newlines follow `policy`; families without newlines ignore it. Everything kept with `unpadded_rows` gives
        `sequence` itself.
        """
        sequence = self.sequence
        if policy == "all_rows" and self.num_newlines:
            sequence = self._padded_sequence()
        newline = sequence == NEWLINE
        alive = keep.reshape(-1).to(sequence.device)[sequence.clamp(min=0)] & ~newline
        if policy == "none":
            return sequence[alive]
        if policy == "nonempty_rows":
            row = torch.cumsum(newline, 0) - newline.long()
            row = row.masked_fill(sequence < self.tokens_per_view, -1).masked_fill(newline, -1)  # thumbnail: no row
            filled = torch.unique(row[alive & (row >= 0)])
            newline = newline & torch.isin(torch.cumsum(newline, 0) - 1, filled)
        return sequence[alive | newline]

    def _padded_sequence(self) -> Tensor:
        mosaic = self.mosaic().to(self.sequence.device)
        end = torch.full((mosaic.shape[0], 1), NEWLINE, device=mosaic.device)
        thumbnail = torch.arange(self.tokens_per_view, device=mosaic.device)
        return torch.cat([thumbnail, torch.cat([mosaic, end], 1).reshape(-1)])

    def regions(self) -> Tensor:
        """Tile each thumbnail token lies in, by token centre: int64 [N] in 0..num_tiles-1 (tiles in raster order)."""
        (rows, cols), (height, width) = self.grid, self.side
        tile_row = ((torch.arange(height) + 0.5) * rows / height).long()
        tile_col = ((torch.arange(width) + 0.5) * cols / width).long()
        return (tile_row[:, None] * cols + tile_col[None, :]).reshape(-1)
