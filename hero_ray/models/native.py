"""Pictures at their own resolution: how large they become, where their tokens stand, what the tower's windows are.

Pure arithmetic, for the Qwen-VL families. Sizes are (height, width), in pixels or in tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hero_ray.core.encoded import ImagePlan
from hero_ray.core.errors import ImageError
from hero_ray.core.layout import Layout
from hero_ray.models.geometry import Size

LONGEST = 200
"""Length over width, or width over length, that the authors' code still takes."""


def fitted(size: Size, unit: int, least: int, most: int) -> Size:
    """Pixels a picture is resized to: the nearest multiples of `unit`, halves to even, then between `least` and `most`
    pixels in all, at about its own aspect.

    Raises:
        ImageError: a picture more than 200 times as long as wide.
    """
    height, width = size
    if max(size) > LONGEST * min(size):
        raise ImageError(
            f"a picture of {width} x {height} pixels is {max(size) / min(size):.1f} times as long as wide; this model "
            f"takes at most {LONGEST} times; crop it"
        )
    near = round(height / unit) * unit, round(width / unit) * unit
    if near[0] * near[1] > most:
        shrink = math.sqrt(height * width / most)
        return tuple(max(unit, math.floor(edge / shrink / unit) * unit) for edge in size)  # type: ignore[return-value]
    if near[0] * near[1] < least:
        grow = math.sqrt(least / (height * width))
        return tuple(math.ceil(edge * grow / unit) * unit for edge in size)  # type: ignore[return-value]
    return near


@lru_cache(maxsize=512)
def native_layout(side: Size) -> Layout:
    """One view of (rows, columns) tokens in raster order, no newline."""
    count = side[0] * side[1]
    return Layout((0, 0), side, torch.arange(count), torch.ones(1, count, dtype=torch.bool))


def native_plans(side: Size) -> tuple[ImagePlan, ...]:
    """The stock look of (rows, columns) tokens, then ever smaller ones of about its aspect, down to one token."""
    (rows, columns), plans = side, dict[int, Size]()
    scale = 1.0
    while not plans or min(plans) > 1:
        shape = max(1, round(rows * scale)), max(1, round(columns * scale))
        plans.setdefault(shape[0] * shape[1], shape)
        scale *= math.sqrt(0.85)
    return tuple(ImagePlan((0, 0), max(shape), count, shape) for count, shape in plans.items())


def places(sequence: Tensor, side: Size, extra: Tensor | None = None) -> Tensor:
    """Where tokens stand, counted from the picture's first position: int64 [n, 3] of (time, row, column).

    Args:
        sequence: entries in LLM order, `>= 0` tokens of the one view, `-2 - e` row e of a selection's extra tokens.
        extra: int64 [E], the token whose place each extra row takes. None: that of the token before it in the
            sequence, the picture's first where it leads.
    """
    if extra is None:
        index = torch.arange(len(sequence)).masked_fill(sequence < 0, -1).cummax(0).values
        token = sequence[index.clamp(min=0)].clamp(min=0).masked_fill(index < 0, 0)
    else:
        token = torch.where(sequence < 0, extra[(-2 - sequence).clamp(min=0)], sequence)
    return torch.stack([torch.zeros_like(token), token // side[1], token % side[1]], 1)


@dataclass(frozen=True)
class TowerGrid:
    """How a batch of pictures of one size lies in a Qwen-VL tower. Its patches come token by token, row by row inside.

    Attributes:
        pictures: how many. side: (rows, columns) of tokens of each.
        order: int64 [pictures * N], the token at each place of the tower's blocks; back: the way back.
        places: int64 [pictures * N * fold^2, 2], row and column of every patch, in the blocks' order.
        whole, windows: where the patches of each picture, and of each window, begin and end.
    """

    pictures: int
    side: Size
    order: Tensor
    back: Tensor
    places: Tensor
    whole: Tensor
    windows: Tensor


@lru_cache(maxsize=64)
def tower_grid(pictures: int, side: Size, fold: int, window: int) -> TowerGrid:
    """The grid of `pictures` of (rows, columns) tokens, each of `fold` x `fold` patches.

    Args:
        window: tokens along the edge of a window; 0 for a tower without.
    """
    rows, columns = side
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    area = fold * fold
    number = torch.zeros_like(row)
    if window:
        number = row // window * -(-columns // window) + column // window
    one = number.argsort(stable=True)
    counts = number.bincount()
    inside = torch.stack([torch.arange(area) // fold, torch.arange(area) % fold], 1)
    patches = (torch.stack([row, column], 1) * fold)[one][:, None] + inside
    order = (torch.arange(pictures)[:, None] * rows * columns + one).flatten()
    return TowerGrid(
        pictures,
        side,
        order,
        order.argsort(),
        patches.flatten(0, 1).repeat(pictures, 1),
        _bounds(torch.tensor([rows * columns * area] * pictures)),
        _bounds(counts[counts > 0].repeat(pictures) * area),
    )


def _bounds(lengths: Tensor) -> Tensor:
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
