"""Similarity of every token with every other: one Gram matrix per set of tokens. n tokens, C width."""

from __future__ import annotations

import torch
from torch import Tensor


def gram(tokens: Tensor, scale: Tensor) -> Tensor:
    """scale_i <x_i, x_j> scale_j of every pair: [..., n, n].

    On a CPU only the upper half is multiplied out and then mirrored; a GPU has arithmetic to spare.

    Args:
        tokens: [..., n, C].
        scale: [..., n].
    """
    size = tokens.shape[-2]
    step = _rows_per_block(size)
    if tokens.is_cuda or size <= step:
        product = tokens @ tokens.mT
        return product.mul_(scale[..., None]).mul_(scale[..., None, :])
    out = tokens.new_empty(*tokens.shape[:-1], size)
    for start in range(0, size, step):
        stop = min(start + step, size)
        part = tokens[..., start:stop, :] @ tokens[..., start:, :].mT
        part.mul_(scale[..., start:stop, None]).mul_(scale[..., None, start:])
        out[..., start:stop, start:] = part
        out[..., stop:, start:stop] = part[..., stop - start :].mT
    return out


def inverse_norm(tokens: Tensor) -> Tensor:
    """What brings a token to length 1; a zero token stays zero: [..., n, C] -> [..., n]."""
    return torch.linalg.vector_norm(tokens, dim=-1).clamp(min=1e-12).reciprocal()


def cosines(tokens: Tensor) -> Tensor:
    """Cosine of every pair: [..., n, C] -> [..., n, n]."""
    return gram(tokens, inverse_norm(tokens))


def _rows_per_block(size: int) -> int:
    """Few, so that little of the lower half is computed; enough, and in whole registers, for a fast product."""
    return min(max(64, size // 4 // 64 * 64), 192)
