"""Six textured backgrounds in a light and a dark muted shade."""

import math
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Background:
    """All that chance decides of a background; `painted` makes pixels of it.

    Attributes:
        base: mean grey level of each channel, [3].
        corner: (top, left) of the window of `_noise_pool`.
        amplitude, phase, period, angle: of the texture, in grey levels, pixels and radians.
        roughness: grey levels of the noise over it.
    """

    texture: int
    shade: int
    base: NDArray[np.float64]
    corner: tuple[int, int]
    amplitude: float
    phase: float
    period: float
    angle: float
    roughness: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, width: int, height: int) -> "Background":
        """The next one of a generator, for a picture of this size."""
        texture, shade = int(rng.integers(len(TEXTURES))), int(rng.integers(len(SHADES)))
        base = rng.uniform(*SHADE_RANGES[shade]) + rng.uniform(-22, 22, 3)
        corner = int(rng.integers(0, _POOL_SIDE - height)), int(rng.integers(0, _POOL_SIDE - width))
        amplitude, phase, period = rng.uniform(14, 34), rng.uniform(0, 16), rng.uniform(7, 16)
        angle, roughness = rng.uniform(0, 2 * math.pi), rng.uniform(4, 11)
        return cls(texture, shade, base, corner, amplitude, phase, period, angle, roughness)

    def painted(self, width: int, height: int) -> Plane:
        """Grey levels `[height, width, 3]`."""
        top, left = self.corner
        grain = _noise_pool()[top : top + height, left : left + width]
        pattern = self._pattern(grain, width, height) * self.amplitude
        return (self.base + pattern + grain * self.roughness).astype(np.float32)

    def _pattern(self, grain: Plane, width: int, height: int) -> Plane:
        """The texture at unit amplitude, `[height, width, 1]`."""
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        texture, phase, period, angle = TEXTURES[self.texture], self.phase, self.period, self.angle
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
