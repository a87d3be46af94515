"""Six textured backgrounds in a light and a dark muted shade."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

TEXTURES = ("noise", "stripes", "checker", "dots", "gradient", "plain")
SHADES = ("dark", "light")
# Mean grey levels; the gap between the two bands keeps "light or dark" well posed.
SHADE_RANGES = ((60.0, 105.0), (150.0, 195.0))

Plane = NDArray[np.float32]
_POOL_SIDE = 512


@cache
def _noise_pool() -> Plane:
    """Gaussian noise from which every scene cuts its own window: much cheaper than fresh noise."""
    return np.random.default_rng(7).standard_normal((_POOL_SIDE, _POOL_SIDE, 3)).astype(np.float32)


def paint_background(rng: np.random.Generator, width: int, height: int) -> tuple[Plane, int, int]:
    """A background `[height, width, 3]` in grey levels, its texture index and its shade index."""
    texture, shade = int(rng.integers(len(TEXTURES))), int(rng.integers(len(SHADES)))
    base = rng.uniform(*SHADE_RANGES[shade]) + rng.uniform(-22, 22, 3)
    top, left = rng.integers(0, _POOL_SIDE - height), rng.integers(0, _POOL_SIDE - width)
    grain = _noise_pool()[top : top + height, left : left + width]
    amplitude = rng.uniform(14, 34)
    pattern = _pattern(rng, TEXTURES[texture], grain, width, height) * amplitude
    painted = base + pattern + grain * rng.uniform(4, 11)
    return painted.astype(np.float32), texture, shade


def _pattern(rng: np.random.Generator, texture: str, grain: Plane, width: int, height: int) -> Plane:
    """The texture at unit amplitude, `[height, width, 1]`."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    phase, period = rng.uniform(0, 16), rng.uniform(7, 16)
    angle = rng.uniform(0, 2 * math.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    if texture == "noise":
        plane = grain.mean(-1) * 1.6
    elif texture == "stripes":
        plane = np.sin(along * 2 * math.pi / period + phase)
    elif texture == "checker":
        square = int(period)
        plane = ((x + phase) // square + (y + phase) // square) % 2 * 2 - 1
    elif texture == "dots":
        offset_x, offset_y = (x + phase) % period - period / 2, (y + phase) % period - period / 2
        plane = (offset_x**2 + offset_y**2 < (period * 0.28) ** 2) * 1.8
    elif texture == "gradient":
        centre = (width / 2) * math.cos(angle) + (height / 2) * math.sin(angle)
        plane = (along - centre) / (max(width, height) / 2) * 1.7
    else:
        plane = np.zeros_like(x)
    return plane.astype(np.float32)[..., None]
