"""Plotly's marker symbols as SVG paths, so that a report without scripts draws a method as every page does."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]
"""Corners in a box from -1 to 1, y downwards as on the screen."""


def _regular(corners: int, turned: float = 0.0, size: float = 1.0) -> Points:
    """A regular polygon, one corner on top unless `turned` by a share of a step."""
    angles = [2 * math.pi * (i + turned) / corners - math.pi / 2 for i in range(corners)]
    return [(size * math.cos(angle), size * math.sin(angle)) for angle in angles]


def _star(points: int, inner: float, turned: float = 0.0) -> Points:
    """A star: corners outside and inside in turn."""
    outside, inside = _regular(points, turned), _regular(points, turned + 0.5, inner)
    return [corner for pair in zip(outside, inside, strict=True) for corner in pair]


_ARM = 0.36
_CROSS: Points = [
    (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
    (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
]  # fmt: skip
_TURNED = [((x - y) * math.sqrt(0.5), (x + y) * math.sqrt(0.5)) for x, y in _CROSS]
SHAPES: dict[str, Points] = {
    "circle": _regular(24),
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "diamond": [(0, -1.15), (1.15, 0), (0, 1.15), (-1.15, 0)],
    "diamond-tall": [(0, -1.3), (0.75, 0), (0, 1.3), (-0.75, 0)],
    "diamond-wide": [(0, -0.75), (1.3, 0), (0, 0.75), (-1.3, 0)],
    "cross": _CROSS,
    "x": _TURNED,
    "triangle-up": _regular(3, size=1.25),
    "triangle-down": _regular(3, 0.5, 1.25),
    "triangle-left": _regular(3, 0.75, 1.25),
    "triangle-right": _regular(3, 0.25, 1.25),
    "pentagon": _regular(5, size=1.1),
    "hexagon": _regular(6, size=1.1),
    "hexagram": _star(6, 0.58),
    "octagon": _regular(8, 0.5, 1.05),
    "star": _star(5, 0.4),
    "star-triangle-up": _star(3, 0.28),
    "star-triangle-down": _star(3, 0.28, 0.5),
    "star-square": _star(4, 0.42, 0.5),
    "star-diamond": _star(4, 0.42),
    "bowtie": [(-1, -0.9), (0, 0), (1, -0.9), (1, 0.9), (0, 0), (-1, 0.9)],
    "hourglass": [(-0.9, -1), (0.9, -1), (0, 0), (0.9, 1), (-0.9, 1), (0, 0)],
}
"""Outline of every symbol of `palette`, Plotly's modifiers (`-open`, `-x`, `-cross`) apart."""
_INSIDE = {"x": ((-1, -1, 1, 1), (-1, 1, 1, -1)), "cross": ((-1, 0, 1, 0), (0, -1, 0, 1))}


def split(symbol: str) -> tuple[str, str]:
    """A Plotly symbol's outline and its modifier: `circle-x` is a circle with an x in it, `x` is a shape itself."""
    base, _, modifier = symbol.rpartition("-")
    return (base, modifier) if base in SHAPES and modifier in ("open", "x", "cross") else (symbol, "")


def draw(symbol: str, x: float, y: float, size: float, colour: str, filled: bool = True, title: str = "") -> str:
    """The symbol around a point as SVG.

    Args:
        x, y, size: in the drawing's units; `size` is from the middle to the rim.
        filled: hollow otherwise, as is every `-open` symbol.
        title: escaped text for those who point at it.

    Raises:
        KeyError: no such symbol.
    """
    base, modifier = split(symbol)
    corners = " L".join(f"{x + size * a:.1f},{y + size * b:.1f}" for a, b in SHAPES[base])
    fill = colour if filled and modifier != "open" else "#ffffff"
    path = f'<path d="M{corners} Z" fill="{fill}" stroke="{colour}" stroke-width="1.5"'
    path += f"><title>{title}</title></path>" if title else "/>"
    if modifier not in _INSIDE:
        return path
    reach, ink = 0.6 * size, "#ffffff" if fill == colour else colour
    lines = " ".join(
        f"M{x + a * reach:.1f},{y + b * reach:.1f} L{x + c * reach:.1f},{y + d * reach:.1f}"
        for a, b, c, d in _INSIDE[modifier]
    )
    return path + f'<path d="{lines}" stroke="{ink}" stroke-width="1.5"/>'


def picture(symbol: str, colour: str) -> str:
    """The symbol by itself as the address of a picture, for pages of any colour that take no SVG in their text.

    Raises:
        KeyError: no such symbol.
    """
    shape = draw(symbol, 0, 0, 5.5, colour).replace('fill="#ffffff"', 'fill="none"')
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 16 16">{shape}</svg>'
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.encode()).decode()}"
