"""Similarity of every token with every other: one Gram matrix per set of tokens. n tokens, C width."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import blas
from torch import Tensor

_RANK_K = {torch.float32: blas.ssyrk, torch.float64: blas.dsyrk}
_ROWS = 96
"""Rows mirrored at a time: few enough to stay in a core's cache."""


def _halves(tokens: Tensor) -> bool:
    """Whether multiplying out one half alone is possible, and worth mirroring it."""
    return tokens.device.type == "cpu" and tokens.dtype in _RANK_K and tokens.numel() > 0


def upper_products(tokens: Tensor) -> Tensor:
    """<x_i, x_j> of every pair with i <= j, zero below: [..., n, C] -> [..., n, n].

    On a CPU only this half is multiplied out (BLAS rank-k update); a GPU has arithmetic to spare.
    """
    if not _halves(tokens):
        return (tokens @ tokens.mT).triu_()
    rank_k, size = _RANK_K[tokens.dtype], tokens.shape[-2]
    matrices = tokens.detach().reshape(-1, *tokens.shape[-2:]).contiguous().numpy()
    # Zeroed, not empty: some BLAS multiply what they find by beta = 0, and NaN times 0 is NaN.
    out = np.zeros((*tokens.shape[:-1], size), matrices.dtype)
    for half, matrix in zip(out.reshape(-1, size, size), matrices, strict=True):
        rank_k(1.0, matrix.T, trans=1, lower=1, c=half.T, overwrite_c=1)  # columns first, its lower half is our upper
    return torch.from_numpy(out)


def gram(tokens: Tensor, scale: Tensor) -> Tensor:
    """scale_i <x_i, x_j> scale_j of every pair: [..., n, n].

    Args:
        tokens: [..., n, C].
        scale: [..., n].
    """
    if not _halves(tokens):
        return (tokens @ tokens.mT).mul_(scale[..., None]).mul_(scale[..., None, :])
    out = upper_products(tokens)
    for start in range(0, out.shape[-1], _ROWS):
        stop = start + _ROWS
        part = out[..., start:stop, start:]
        part.mul_(scale[..., start:stop, None]).mul_(scale[..., None, start:])
        out[..., stop:, start:stop] = part[..., _ROWS:].mT
        square = part[..., :_ROWS]
        square.copy_(square + square.triu(1).mT)
    return out


def inverse_norm(tokens: Tensor) -> Tensor:
    """What brings a token to length 1; a zero token stays zero: [..., n, C] -> [..., n]."""
    return torch.linalg.vector_norm(tokens, dim=-1).clamp(min=1e-12).reciprocal()


def cosines(tokens: Tensor) -> Tensor:
    """Cosine of every pair: [..., n, C] -> [..., n, n]."""
    return gram(tokens, inverse_norm(tokens))
