"""Figures that sums over samples tell: pairs of cells by matrix products instead of thousands of aggregates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hero_ray.stats.clusters import Clusters, cluster_sums
from hero_ray.stats.evidence import Floats
from hero_ray.stats.intervals import drawn_sums


@dataclass(frozen=True)
class OfSums:
    """A figure that both sides' answers tell by sums.

    Attributes:
        first, second: what each sample adds on either side: [n, k].
        figure: sums [..., k] -> [...]; the same for both sides.
    """

    first: Floats
    second: Floats
    figure: Callable[[Floats], Floats]

    def gaps(self, clusters: Clusters, resamples: int, seed: int, share: float = 1.0) -> Floats:
        """first's figure - share x second's on resamples of whole clusters, by the draws of `bootstrap`."""
        k = self.first.shape[1]
        both = np.hstack([self.first, self.second])
        return np.concatenate(
            [
                self.figure(sums[:, :k]) - share * self.figure(sums[:, k:])
                for sums in drawn_sums(both, clusters, resamples, seed)
            ]
        )

    def swapped(self, codes: NDArray[np.int64], count: int, resamples: int, seed: int) -> Floats:
        """The gap with the sides of random clusters swapped."""
        one, two = (
            np.stack([cluster_sums(column, codes, count) for column in side.T], axis=1)
            for side in (self.first, self.second)
        )
        rng, found = np.random.default_rng(seed), []
        for _ in range(resamples):
            moved = rng.integers(0, 2, count) @ (two - one)
            found.append(self.figure(one.sum(axis=0) + moved) - self.figure(two.sum(axis=0) - moved))
        return np.asarray(found, dtype=float)
