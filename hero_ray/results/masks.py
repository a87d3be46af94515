"""Kept tokens drawn on the picture they came from: where each lies, and what it looks like. No torch."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

EDGE = 560
"""Longer edge of a drawn panel in pixels."""
STRETCHED = ("internvl2", "qwen2.5-vl", "qwen3-vl")
"""Families that stretch the picture to the grid; the others fit it in and pad."""
SQUARED = ("llava-1.5",)
"""Families that pad their single view to a square; the others squash the picture into it."""

Geometry = tuple[int, int, int, int]


@dataclass(frozen=True)
class Panel:
    """One view of a selection: a picture, how many of its tokens are kept, and of how many that show any of it."""

    title: str
    image: Image.Image
    kept: int
    total: int
    per_tile: tuple[int, ...] = ()

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()


def unpack(keep_mask: bytes, geometry: Geometry) -> NDArray[np.bool_]:
    """Packed bits as bool [views, token rows, token columns], thumbnail first.

    Raises:
        ValueError: fewer bits than the geometry needs.
    """
    rows, columns, height, width = geometry
    views = 1 + rows * columns
    needed = views * height * width
    bits = np.unpackbits(np.frombuffer(keep_mask, dtype=np.uint8))
    if bits.size < needed:
        raise ValueError(f"a mask of {bits.size} bits cannot cover {views} views of {height} x {width} tokens")
    return bits[:needed].astype(bool).reshape(views, height, width)


def mosaic(keep: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.bool_]:
    """Tile masks stitched to one grid [tile rows * token rows, tile columns * token columns]."""
    rows, columns, height, width = geometry
    tiles = keep[1:].reshape(rows, columns, height, width)
    return tiles.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)


def token_edges(count: int, picture: float, scale: float) -> NDArray[np.float64]:
    """Borders of `count` tokens along one axis in picture pixels, for a picture centred on the canvas."""
    offset = (count - picture * scale) / 2
    return np.clip((np.arange(count + 1) - offset) / scale, 0, picture)


def edges(shape: tuple[int, int], size: tuple[int, int], fitted: bool) -> tuple[NDArray, NDArray]:
    """Token borders (rows, columns) in picture pixels.

    Args:
        shape: tokens (rows, columns) of the canvas.
        size: (width, height) of the picture.
        fitted: the picture keeps its aspect and is centred with padding; otherwise it is stretched to the canvas.
    """
    (rows, columns), (width, height) = shape, size
    if not fitted:
        return np.linspace(0, height, rows + 1), np.linspace(0, width, columns + 1)
    scale = min(columns / width, rows / height)
    return token_edges(rows, height, scale), token_edges(columns, width, scale)


def paint(picture: Image.Image, keep: NDArray[np.bool_], rows: NDArray, columns: NDArray, colour: str) -> Image.Image:
    """The picture with dropped tokens faded and kept ones outlined in `colour`."""
    shown = np.asarray(picture, dtype=np.float32)
    top, left = np.rint(rows).astype(int), np.rint(columns).astype(int)
    visible = np.repeat(np.repeat(keep, np.diff(top), axis=0), np.diff(left), axis=1)
    grey = shown.mean(axis=2, keepdims=True)
    faded = 0.22 * grey + 0.78 * 238
    mixed = np.where(visible[: shown.shape[0], : shown.shape[1], None], shown, faded)
    image = Image.fromarray(mixed.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for r, c in zip(*np.nonzero(keep), strict=True):
        if top[r + 1] > top[r] and left[c + 1] > left[c]:
            draw.rectangle((left[c], top[r], left[c + 1] - 1, top[r + 1] - 1), outline=colour)
    return image


def panels(
    picture: Image.Image, size: tuple[int, int], keep_mask: bytes, geometry: Geometry, family: str, colour: str
) -> list[Panel]:
    """Thumbnail view and tiles (if there are any) of one selection, drawn on the picture itself.

    Args:
        picture: any copy of the picture.
        size: its original (width, height); 0 where unknown, then the copy's own shape counts.
        family: as in `hero_ray.models.registry.ModelSpec`: how the picture came onto the tokens.
    """
    keep = unpack(keep_mask, geometry)
    width, height = size if size[0] > 0 and size[1] > 0 else picture.size
    factor = EDGE / max(width, height)
    shown = (max(1, round(width * factor)), max(1, round(height * factor)))
    canvas = picture.convert("RGB").resize(shown, Image.Resampling.BICUBIC)
    views = [_view("Thumbnail view", canvas, keep[0], family in SQUARED, colour)]
    rows, columns, tall, wide = geometry
    if rows * columns:
        fitted = family not in STRETCHED
        tiles = _view(f"Tiles ({rows} x {columns})", canvas, mosaic(keep, geometry), fitted, colour)
        borders = edges((rows * tall, columns * wide), canvas.size, fitted)
        _tile_lines(tiles.image, borders[0][::tall], borders[1][::wide])
        per_tile = tuple(int(view.sum()) for view in keep[1:])
        views.append(Panel(tiles.title, tiles.image, tiles.kept, tiles.total, per_tile))
    return views


def _view(title: str, canvas: Image.Image, keep: NDArray[np.bool_], fitted: bool, colour: str) -> Panel:
    rows, columns = edges((keep.shape[0], keep.shape[1]), canvas.size, fitted)
    image = paint(canvas, keep, rows, columns, colour)
    seen = int((np.diff(rows) > 0).sum() * (np.diff(columns) > 0).sum())
    return Panel(title, image, int(keep.sum()), seen)


def _tile_lines(image: Image.Image, rows: NDArray, columns: NDArray) -> None:
    draw = ImageDraw.Draw(image)
    for y in rows[1:-1]:
        draw.line((0, y, image.width, y), fill="#111111", width=2)
    for x in columns[1:-1]:
        draw.line((x, 0, x, image.height), fill="#111111", width=2)


def side_by_side(drawn: list[Panel], gap: int = 12) -> bytes:
    """Panels next to each other as one PNG."""
    width = sum(panel.image.width for panel in drawn) + gap * (len(drawn) - 1)
    sheet = Image.new("RGB", (width, max(panel.image.height for panel in drawn)), "#ffffff")
    left = 0
    for panel in drawn:
        sheet.paste(panel.image, (left, 0))
        left += panel.image.width + gap
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
