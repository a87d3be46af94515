"""Similarity of every token with every other: one Gram matrix per set of tokens. n tokens, C width."""

from __future__ import annotations

import numpy as np

from hero_ray.core.lazy import Tensor, torch

_ROWS = 96
"""Rows at a time: few enough to stay in a core's cache."""


def gram(tokens: Tensor) -> Tensor:
    """<x_i, x_j> of every pair, in fp32 or fp64: [..., n, C] -> [..., n, n].

    On a CPU by numpy, which sees a matrix times its own transpose and multiplies out one triangle (BLAS' rank-k
    update), half of torch's work; a GPU has arithmetic to spare.
    """
    if tokens.device.type != "cpu":
        return tokens @ tokens.mT
    rows = tokens.detach().numpy()
    return torch.from_numpy(rows @ rows.swapaxes(-1, -2))


def grouped_gram(tokens: Tensor, groups: Tensor, inside: Tensor) -> Tensor:
    """Gram matrix of every group of tokens, at least fp32, padding as zero tokens: [r, s, s].

    Args:
        tokens: [n, C].
        groups: int64 [r, s] rows of `tokens`.
        inside: bool [r, s], what is no padding: the first of every group.
    """
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    if tokens.device.type != "cpu":
        return gram(tokens[groups].masked_fill(~inside[..., None], 0.0))
    rows, size = tokens.detach().numpy(), groups.shape[1]
    room = np.empty((size, rows.shape[1]), rows.dtype)
    out = np.empty((len(groups), size, size), rows.dtype)
    # Group by group in the same memory: it stays in the processor's cache, all tokens together do not.
    with np.errstate(invalid="ignore", over="ignore"):  # NaN stays NaN, as in torch
        for group, length, product in zip(groups.numpy(), inside.sum(1).tolist(), out, strict=True):
            np.take(rows, group, axis=0, out=room, mode="clip")  # the default mode goes through a buffer
            room[length:] = 0.0
            np.matmul(room, room.T, out=product)
    return torch.from_numpy(out)


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


def determinant_map(kernel: Tensor, gain: Tensor, count: int, identity: float = 0.0) -> Tensor:
    """Greedy picks of the largest determinant, in order: int64 [V, count]; ties to the lower index.

    Args:
        kernel: [V, N, N].
        gain: [V, N], its diagonal; -inf is picked last.
        identity: 1 for the determinant of I + kernel. Gains stay without it: beside it those of a narrow model drown.
    """
    views = torch.arange(len(kernel), device=kernel.device)
    floor = 1e-5 * gain.amax(1, keepdim=True)
    chosen = torch.zeros(len(kernel), count, kernel.shape[1], dtype=kernel.dtype, device=kernel.device)
    picks = torch.empty(len(kernel), count, dtype=torch.long, device=kernel.device)
    for step in range(count):
        best = gain.argmax(1)
        picks[:, step] = best
        before = chosen[:, :step]
        known = torch.bmm(before[views, :, best][:, None], before)[:, 0]
        left = gain[views, best][:, None]
        update = (kernel[views, best] - known) / (left.clamp(min=1e-12) + identity).sqrt()
        if identity:
            update = _within(update, gain)
        else:
            # Nothing new is left once the picks span the features; dividing by rounding noise would make it infinite.
            update = torch.where(left > floor, update, 0.0)
        chosen[:, step] = update
        gain = gain - update.square()
        gain[views, best] = -torch.inf
    return picks


def factored_map(left: Tensor, right: Tensor, count: int) -> Tensor:
    """Greedy picks of the largest det(I + A B'), in order, ties to the lower index: int64 [count].

    Only rows of what is picked are needed of the kernel. A gain only shrinks with what is picked, so that the next
    picks are among the largest gains: on a CPU rows are computed for so many of those at a time. A GPU, where every
    look costs a wait, makes them all.

    Args:
        left, right: A and B, [n, m], with A B' symmetric and without negative eigenvalues.
    """
    gains = (left * right).sum(1)
    if left.device.type != "cpu":
        return determinant_map((left @ right.mT)[None], gains[None], count, identity=1.0)[0]
    rows, place = left.new_empty(0, len(left)), torch.full((len(left),), -1)
    chosen, picks = left.new_empty(count, len(left)), torch.empty(count, dtype=torch.long)
    for step in range(count):
        best = int(gains.argmax())
        if place[best] < 0:
            unknown = place < 0
            near = gains.masked_fill(~unknown, -torch.inf).topk(min(_ROWS, int(unknown.sum()))).indices
            place[near] = torch.arange(len(rows), len(rows) + len(near))
            rows = torch.cat([rows, left[near] @ right.T])
        before = chosen[:step]
        update = (rows[place[best]] - before[:, best] @ before) / (gains[best].clamp(min=0.0) + 1.0).sqrt()
        chosen[step] = _within(update, gains)
        gains -= chosen[step].square()
        gains[best] = -torch.inf
        picks[step] = best
    return picks


def _within(update: Tensor, gains: Tensor) -> Tensor:
    """Roots of what gains lose, none more than there is: once the picks span the features, rounding would take it."""
    room = gains.clamp(min=0.0).sqrt()
    return update.clamp(-room, room)
