"""Benchmarks that can be drawn at will: what one picture contributes, as a table of outcomes with exact chances.

A picture has `size` questions; its outcome is a sum of scores (or of differences between two cells). Tables make truths
exact and a million pictures cheap to draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
KINDS = ("1", "2", "18", "1-50")
"""Questions per picture; `1-50` is a rounded lognormal (median 3.3, mean 5.4) cut to 1 to 50, as in GQA."""
ALIKE = 0.3
MOST_DRAWN = 2_000_000


@dataclass(frozen=True)
class Design:
    """Outcomes of a picture: chance, sum over its questions, their number, sum of squares. All [outcomes]."""

    chance: Array
    sums: Array
    sizes: Array
    squares: Array

    @property
    def truth(self) -> float:
        """Mean over questions."""
        return float((self.chance * self.sums).sum() / (self.chance * self.sizes).sum())

    def draw(self, rng: np.random.Generator, runs: int, pictures: int) -> tuple[Array, Array, Array]:
        """Sums and sizes [runs, pictures] and sums of squares [runs]."""
        at = np.minimum(np.searchsorted(np.cumsum(self.chance), rng.random((runs, pictures))), self.chance.size - 1)
        return self.sums[at], self.sizes[at], self.squares[at].sum(axis=-1)


def chunks(runs: int, pictures: int) -> list[int]:
    """Runs to draw at a time, so that memory stays small."""
    each = max(1, MOST_DRAWN // pictures)
    return [min(each, runs - start) for start in range(0, runs, each)]


def sizes_of(kind: str) -> tuple[NDArray[np.int64], Array]:
    """Questions per picture and their chances."""
    if kind != "1-50":
        return np.array([int(kind)]), np.ones(1)
    size = np.arange(1, 51)
    upper, lower = np.log(size + 0.5), np.log(np.maximum(size - 0.5, 1e-9))
    chance = special.ndtr((upper - 1.2) / 1.0) - special.ndtr((lower - 1.2) / 1.0)
    chance[-1] += 1 - special.ndtr((np.log(50.5) - 1.2) / 1.0)
    chance[0] = special.ndtr((np.log(1.5) - 1.2) / 1.0)
    return size, chance / chance.sum()


def beta_binomial(n: int, mean: float, alike: float) -> Array:
    """Chance of 0..n hits whose chance varies between pictures with intra-picture correlation `alike`: [n + 1]."""
    hits = np.arange(n + 1)
    if mean <= 0 or mean >= 1:
        return (hits == n * round(mean)).astype(float)
    ways = special.gammaln(n + 1) - special.gammaln(hits + 1) - special.gammaln(n - hits + 1)
    if n == 1 or alike <= 0:
        return np.asarray(np.exp(ways + hits * np.log(mean) + (n - hits) * np.log1p(-mean)))
    weight = (1 - alike) / alike
    a, b = mean * weight, (1 - mean) * weight
    return np.asarray(np.exp(ways + special.betaln(hits + a, n - hits + b) - special.betaln(a, b)))


def _design(rows: list[tuple[Any, Any, Any, Any]]) -> Design:
    table = np.concatenate([np.column_stack(np.broadcast_arrays(*row)) for row in rows]).astype(float)
    table = table[table[:, 0] > 1e-13]
    table[:, 0] /= table[:, 0].sum()
    return Design(*table.T)


def scores(kind: str, share: float, alike: float = ALIKE) -> Design:
    """Right or wrong answers."""
    rows = []
    for size, chance in zip(*sizes_of(kind), strict=True):
        hits = np.arange(size + 1)
        rows.append((chance * beta_binomial(int(size), share, alike), hits, size, hits))
    return _design(rows)


def differences(kind: str, loss: float, wins: float = 0.0, alike: float = ALIKE) -> Design:
    """A - B where A loses `loss` on the whole: `loss` + 2 `wins` of the answers change, `wins` for the better."""
    changed = loss + 2 * wins
    rows = []
    for size, chance in zip(*sizes_of(kind), strict=True):
        some = beta_binomial(int(size), changed, alike)
        for d in range(int(size) + 1):
            w = np.arange(d + 1)
            good = beta_binomial(d, wins / changed if changed else 0.0, 0.0)
            rows.append((chance * some[d] * good, 2 * w - d, size, d))
    return _design(rows)


def whole_pictures(kind: str, loss: float, wins: float = 0.0) -> Design:
    """All questions of a picture are lost (or won) together."""
    size, chance = sizes_of(kind)
    return _design(
        [
            (chance * (loss + wins), -size, size, size),
            (chance * wins, size, size, size),
            (chance * (1 - loss - 2 * wins), 0, size, 0),
        ]
    )


def partial(kind: str, loss: float) -> Design:
    """Scores that fall by 0.3, 0.6 or 1 (VQA accuracy), independently per question."""
    steps, rows = np.array([0.0, 3, 6, 10]), []
    share = np.array([1 - loss / (1.9 / 3), *[loss / 1.9] * 3])
    for size, chance in zip(*sizes_of(kind), strict=True):
        once = np.zeros(11)
        once[steps.astype(int)] = share
        many = np.ones(1)
        for _ in range(int(size)):
            many = np.convolve(many, once)
        squares = size * float((share * steps**2).sum()) / 100
        rows.append((chance * many, -np.arange(many.size) / 10, size, squares))
    return _design(rows)


def lopsided(kind: str, loss: float) -> Design:
    """A loses 45 % of the questions on one picture in ten and gains a little on all others; -`loss` on the whole."""
    gain = (0.045 - loss) / 0.9
    rows = []
    for size, chance in zip(*sizes_of(kind), strict=True):
        n = np.arange(size + 1)
        rows.append((0.1 * chance * beta_binomial(int(size), 0.45, 0.0), -n, size, n))
        rows.append((0.9 * chance * beta_binomial(int(size), gain, 0.0), n, size, n))
    return _design(rows)
