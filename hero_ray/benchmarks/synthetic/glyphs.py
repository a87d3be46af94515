"""What the synthetic scenes are drawn with: a 5x7 bitmap font, shape masks and colours.

Everything is computed from the constants below, so that no font file or picture has to travel with the package.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "heart", "ring")
PLURALS = ("circles", "squares", "triangles", "stars", "diamonds", "crosses", "hearts", "rings")
COLOURS = {
    "red": (225, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (240, 220, 50),
    "purple": (150, 50, 190),
    "orange": (245, 140, 30),
    "cyan": (50, 205, 215),
    "pink": (250, 140, 190),
}
COLOUR_NAMES = tuple(COLOURS)
WORDS = (
    "cat", "dog", "sun", "key", "box", "hat", "jam", "web",
    "fox", "cup", "ink", "zip", "map", "oak", "bus", "leg",
)  # fmt: skip
TONES = ("white", "black")

# One byte per column, bit y of a byte is row y: the public-domain 5x7 matrix font.
_COLUMNS = {
    "0": "3E5149453E", "1": "00427F4000", "2": "4261514946", "3": "2141454B31", "4": "1814127F10",
    "5": "2745454539", "6": "3C4A494930", "7": "0171090503", "8": "3649494936", "9": "064949291E",
    "a": "7E1111117E", "b": "7F49494936", "c": "3E41414122", "d": "7F4141221C", "e": "7F49494941",
    "f": "7F09090901", "g": "3E4149497A", "h": "7F0808087F", "i": "00417F4100", "j": "2040413F01",
    "k": "7F08142241", "l": "7F40404040", "m": "7F020C027F", "n": "7F0408107F", "o": "3E4141413E",
    "p": "7F09090906", "q": "3E4151215E", "r": "7F09192946", "s": "4649494931", "t": "01017F0101",
    "u": "3F4040403F", "v": "1F2040201F", "w": "3F4038403F", "x": "6314081463", "y": "0708700807",
    "z": "6151494543",
}  # fmt: skip

SUPERSAMPLING = 8
OUTLINE_SHARE = 1 / 16

Mask = NDArray[np.float32]


@cache
def glyph(character: str) -> NDArray[np.bool_]:
    """The bitmap of a digit or lower-case letter, `[7, 5]`."""
    columns = bytes.fromhex(_COLUMNS[character])
    return np.array([[bool(column >> row & 1) for column in columns] for row in range(7)])


@cache
def shape_masks(shape: str, size: int) -> tuple[Mask, Mask]:
    """Coverage in [0, 1] of a shape and of its inside without the dark outline, each `[size, size]`."""
    side = size * SUPERSAMPLING
    whole = Image.new("L", (side, side), 0)
    radius = side / 2 - SUPERSAMPLING * 0.5
    _DRAWERS[shape](ImageDraw.Draw(whole), side / 2, radius)
    return _shrink(whole, size), _shrink(Image.fromarray(_eroded(np.asarray(whole), int(side * OUTLINE_SHARE))), size)


def _eroded(mask: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """The least value within `reach` rows and columns of each pixel; beyond the edge there is nothing of the shape."""
    found = np.pad(mask, reach)
    for axis in (0, 1):  # a square's minimum is its columns' minimum of its rows' minima
        found = sliding_window_view(found, 2 * reach + 1, axis).min(-1)
    return found


def _shrink(mask: Image.Image, size: int) -> Mask:
    return np.asarray(mask.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)


Drawer = Callable[[ImageDraw.ImageDraw, float, float], None]


def _polygon(points: Sequence[tuple[float, float]]) -> Drawer:
    def draw(canvas: ImageDraw.ImageDraw, centre: float, radius: float) -> None:
        canvas.polygon([(centre + radius * x, centre + radius * y) for x, y in points], fill=255)

    return draw


def _ellipse(left: float, top: float, right: float, bottom: float, fill: int = 255) -> Drawer:
    def draw(canvas: ImageDraw.ImageDraw, centre: float, radius: float) -> None:
        box = [centre + radius * edge for edge in (left, top, right, bottom)]
        canvas.ellipse((box[0], box[1], box[2], box[3]), fill=fill)

    return draw


def _together(*drawers: Drawer) -> Drawer:
    def draw(canvas: ImageDraw.ImageDraw, centre: float, radius: float) -> None:
        for drawer in drawers:
            drawer(canvas, centre, radius)

    return draw


def _star_points() -> list[tuple[float, float]]:
    reach = [1.0 if corner % 2 == 0 else 0.45 for corner in range(10)]
    return [(math.sin(i * math.pi / 5) * r, -math.cos(i * math.pi / 5) * r) for i, r in enumerate(reach)]


_ARM = 0.33
_DRAWERS: dict[str, Drawer] = {
    "circle": _ellipse(-0.9, -0.9, 0.9, 0.9),
    "square": _polygon([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),
    "triangle": _polygon([(0, -1), (1, 0.85), (-1, 0.85)]),
    "star": _polygon(_star_points()),
    "diamond": _polygon([(0, -1), (0.8, 0), (0, 1), (-0.8, 0)]),
    "cross": _together(
        _polygon([(-_ARM, -1), (_ARM, -1), (_ARM, 1), (-_ARM, 1)]),
        _polygon([(-1, -_ARM), (1, -_ARM), (1, _ARM), (-1, _ARM)]),
    ),
    "heart": _together(
        _ellipse(-1.0, -0.9, 0.05, 0.15),
        _ellipse(-0.05, -0.9, 1.0, 0.15),
        _polygon([(-0.95, -0.2), (0.95, -0.2), (0, 1)]),
    ),
    "ring": _together(_ellipse(-1, -1, 1, 1), _ellipse(-0.5, -0.5, 0.5, 0.5, fill=0)),
}
