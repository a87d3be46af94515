"""Similarity of every token with every other: one Gram matrix per set of tokens. n tokens, C width."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ROWS = 96
"""Rows scaled at a time: few enough to stay in a core's cache."""


def gram(tokens: Tensor, out: Tensor | None = None) -> Tensor:
    """<x_i, x_j> of every pair, in fp32 or fp64: [..., n, C] -> [..., n, n], written to `out` where given.

    On a CPU by numpy, which sees a matrix times its own transpose and multiplies out one triangle (BLAS' rank-k
    update), half of torch's work; a GPU has arithmetic to spare.
    """
    if tokens.device.type != "cpu":
        return torch.matmul(tokens, tokens.mT, out=out)
    rows = tokens.detach().numpy()
    return torch.from_numpy(np.matmul(rows, rows.swapaxes(-1, -2), out=None if out is None else out.numpy()))


def scaled_gram(tokens: Tensor, scale: Tensor) -> Tensor:
    """scale_i <x_i, x_j> scale_j of every pair: [..., n, C] and [..., n] -> [..., n, n].

    Products are scaled, not tokens: a second copy of wide tokens costs more than this does.
    """
    products = gram(tokens)
    for rows, own in zip(products.split(_ROWS, -2), scale.split(_ROWS, -1), strict=True):
        rows.mul_(own[..., None]).mul_(scale[..., None, :])
    return products


def inverse_norm(tokens: Tensor) -> Tensor:
    """What brings a token to length 1; a zero token stays zero: [..., n, C] -> [..., n]."""
    return torch.linalg.vector_norm(tokens, dim=-1).clamp(min=1e-12).reciprocal()


def cosines(tokens: Tensor) -> Tensor:
    """Cosine of every pair: [..., n, C] -> [..., n, n]."""
    return scaled_gram(tokens, inverse_norm(tokens))
