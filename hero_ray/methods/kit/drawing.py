"""Draws that depend on nothing but their names: the same on every machine, in every order."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from hero_ray.core.lazy import Tensor, torch


@lru_cache(maxsize=256)
def hash_ranks(stem: str, count: int) -> Tensor:
    """Place of every index in the order of the SHA-256 of `stem` and the index: float64 [count]."""
    digests = [hashlib.sha256(f"{stem}{index}".encode()).digest() for index in range(count)]
    order = sorted(range(count), key=digests.__getitem__)
    ranks = torch.empty(count, dtype=torch.float64)
    ranks[torch.tensor(order)] = torch.arange(count, dtype=torch.float64)
    return ranks
