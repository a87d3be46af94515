"""How a picture is cut: AnyRes grids and unpadding (LLaVA-NeXT), dynamic tiling (InternVL2). Pure arithmetic.

Sizes are (height, width) here, as transformers and LLaVA count; grids are (rows, columns).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch

from hero_ray.core.layout import NEWLINE, Layout

Grid = tuple[int, int]
Size = tuple[int, int]


def best_canvas(size: Size, canvases: Iterable[Size]) -> Size:
    """The canvas that shows most of the picture's own pixels and, among equals, wastes least (LLaVA-NeXT)."""
    height, width = size
    best, most, least_waste = (0, 0), 0, math.inf
    for canvas in canvases:
        scale = min(canvas[1] / width, canvas[0] / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        waste = canvas[0] * canvas[1] - shown
        if shown > most or (shown == most and waste < least_waste):
            best, most, least_waste = canvas, shown, waste
    return best


def unpadded(size: Size, canvas: Size, digits: int | None = 7) -> tuple[slice, slice]:
    """Rows and columns of a canvas (in tokens) that show the picture; an odd slack keeps one line of padding.

    Args:
        digits: kept before truncation, so that noise of the 0.1 + 0.2 kind costs no row, as in transformers; None
            truncates at once, as the original code does.
    """
    height, width = size
    rows, columns = canvas

    def whole(length: float) -> int:
        return int(length if digits is None else round(length, digits))

    if width / height > columns / rows:
        margin = (rows - whole(height * (columns / width))) // 2
        return slice(margin, rows - margin), slice(0, columns)
    margin = (columns - whole(width * (rows / height))) // 2
    return slice(0, rows), slice(margin, columns - margin)


@lru_cache(maxsize=512)
def anyres_layout(size: Size, grid: Grid, side: int, digits: int | None = 7, most: int = 0) -> Layout:
    """LLaVA-NeXT's token order: thumbnail, then the tiles stitched, unpadded, a newline behind every row.

    A mosaic that `most` shrinks has fewer tokens than its tiles have places: each stands in the place its centre falls
    in, and the places between are not valid.

    Args:
        size: (height, width) of the picture in pixels.
        grid: (rows, columns) of tiles; (0, 0) is the thumbnail alone, which closes with one newline.
        side: tokens along one edge of a view.
        digits: as in `unpadded`.
        most: as in `shrunk`; 0 shrinks nothing.
    """
    rows, columns = grid
    count = side * side
    views = 1 + rows * columns
    valid = torch.zeros(views, count, dtype=torch.bool)
    valid[0] = True
    thumbnail = torch.arange(count)
    if grid == (0, 0):
        return Layout(grid, (side, side), torch.cat([thumbnail, torch.tensor([NEWLINE])]), valid)
    ids = torch.arange(count, views * count).view(rows, columns, side, side)
    mosaic = ids.permute(0, 2, 1, 3).reshape(rows * side, columns * side)
    seen = mosaic[unpadded(size, (rows * side, columns * side), digits)]
    if most:
        tall, wide = shrunk((seen.shape[0], seen.shape[1]), side, most)
        seen = seen[centres(seen.shape[0], tall)][:, centres(seen.shape[1], wide)]
    valid.view(-1)[seen.reshape(-1)] = True
    newlines = torch.full((seen.shape[0], 1), NEWLINE)
    sequence = torch.cat([thumbnail, torch.cat([seen, newlines], 1).reshape(-1)])
    return Layout(grid, (side, side), sequence, valid)


def shrunk(canvas: Size, side: int, most: int) -> Size:
    """Rows and columns that a mosaic of so many tokens is interpolated to (LLaVA-OneVision's `anyres_max_N`).

    Up to 1.21 times the tokens of `most` views stay as they are; more are brought down to those of `most`.
    """
    rows, columns = canvas
    ratio = math.sqrt(rows * columns / (most * side**2))
    return (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else canvas


def centres(places: int, count: int) -> torch.Tensor:
    """The place in which each of `count` equal parts has its centre: int64 [count], no two in the same one."""
    return ((torch.arange(count, dtype=torch.float64) + 0.5) * places / max(1, count)).long()


@lru_cache(maxsize=64)
def single_layout(side: int) -> Layout:
    """One view, no newline (LLaVA-1.5, and InternVL2 with one tile)."""
    count = side * side
    return Layout((0, 0), (side, side), torch.arange(count), torch.ones(1, count, dtype=torch.bool))


@lru_cache(maxsize=512)
def tiled_layout(grid: Grid, side: int) -> Layout:
    """InternVL2's token order: tiles in raster order, the thumbnail (index 0 here) last."""
    rows, columns = grid
    if rows * columns <= 1:
        return single_layout(side)
    count = side * side
    views = 1 + rows * columns
    sequence = torch.cat([torch.arange(count, views * count), torch.arange(count)])
    return Layout(grid, (side, side), sequence, torch.ones(views, count, dtype=torch.bool))


@lru_cache(maxsize=32)
def _candidate_grids(max_tiles: int) -> tuple[Grid, ...]:
    """Every (columns, rows) of at most `max_tiles`, fewest tiles first, narrow before wide among equals."""
    pairs = [(c, r) for c in range(1, max_tiles + 1) for r in range(1, max_tiles + 1) if c * r <= max_tiles]
    return tuple(sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair[0])))


def tile_grid(size: Size, max_tiles: int, tile: int) -> Grid:
    """InternVL2's dynamic tiling: the grid whose shape is closest to the picture's.

    Between equally close ones the larger wins only if the picture has more than half its pixels.
    """
    height, width = size
    aspect, area = width / height, width * height
    best, closest = (1, 1), math.inf
    for columns, rows in _candidate_grids(max_tiles):
        distance = abs(aspect - columns / rows)
        if distance < closest:
            best, closest = (columns, rows), distance
        elif distance == closest and area > 0.5 * tile * tile * columns * rows:
            best = (columns, rows)
    return best[1], best[0]


def smaller_sides(side: int, least: int = 1) -> Sequence[int]:
    """Sides below `side`, each with about 10 to 20 % fewer tokens than the one before."""
    sides, current = [], side
    while current > least:
        current = min(current - 1, math.floor(current * math.sqrt(0.85) + 0.5))
        sides.append(current)
    return sides
