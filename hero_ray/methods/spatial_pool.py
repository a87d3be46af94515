"""Average pooling of every view to g x g tokens (HiRED's pooling straw man, arXiv 2408.10945, no code published).

g = floor(sqrt(R N)) per view on the projected tokens, adaptive bins [floor(i s / g), ceil((i + 1) s / g)): the
thumbnail first, then the pooled mosaic row by row with a newline per pooled row where the family has newlines.

Differs: only square sizes exist, so the count stays at or below the budget (one token per view is the least). Padding
is kept out of every average; a pooled token that covers padding alone is dropped, which is unpadding at the pooled
resolution. Every token is a blend, so no patch counts as kept: see `n_visual_llm`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.core.layout import NEWLINE, Layout, NewlinePolicy
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method


@dataclass(frozen=True)
class SpatialPool(Method):
    """Pooled views."""

    newline_policy: NewlinePolicy = "unpadded_rows"

    name = "spatial-pool"
    reads = "projected tokens"
    paper = "baseline"
    straw_man = True

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        valid = layout.valid
        edge = pooled_side(layout.tokens_per_view, budget.ratio)
        filled = _filled(valid, layout.side, edge)
        while edge > 1 and int(filled.sum()) > budget.total:
            edge -= 1
            filled = _filled(valid, layout.side, edge)
        pooled = pool(encoded.features, valid, layout.side, edge)
        return Selection(
            keep=torch.zeros_like(valid),
            order=_order(layout, filled, edge, self.newline_policy),
            extra=pooled.flatten(0, 1),
            extra_at=_centres(layout, edge),
            view_budgets=tuple(int(count) for count in filled.sum(1).tolist()),
            note=f"{edge} x {edge} averages per view stand for the patches; only square sizes exist",
        )


def pooled_side(tokens: int, ratio: float) -> int:
    """Edge g of the pooled view, at least 1."""
    return max(1, math.floor(math.sqrt(ratio * tokens) + 1e-9))


def pool(features: Tensor, valid: Tensor, side: tuple[int, int], edge: int) -> Tensor:
    """Mean of the real tokens in every adaptive bin: [V, N, D] -> [V, edge * edge, D]; empty bins give zeros.

    `valid` lies on the CPU, like every layout's.
    """
    rows, cols = _bins(side[0], edge).to(features.device), _bins(side[1], edge).to(features.device)
    weight = valid.to(features.device).view(-1, *side).float()
    counts = torch.einsum("gh,vhw,kw->vgk", rows, weight, cols).flatten(1)
    image = features.float().view(-1, *side, features.shape[-1])
    if not bool(valid.all()):
        image = image * weight[..., None]
    sums = image.new_empty(len(image), edge, edge, image.shape[-1])
    high = image.new_empty(edge, image[0, 0].numel())
    # Rows first, then columns: the bins are products of intervals. View by view in the same memory.
    for view, out in zip(image, sums, strict=True):
        torch.mm(rows, view.flatten(1), out=high)
        torch.matmul(cols, high.unflatten(1, view.shape[1:]), out=out)
    return sums.flatten(1, 2).div_(counts.clamp(min=1.0)[..., None]).to(features.dtype)


def _bins(size: int, edge: int) -> Tensor:
    """Membership of `size` cells in `edge` adaptive bins: float [edge, size]."""
    cell = torch.arange(size)
    low = (torch.arange(edge) * size) // edge
    high = -((-(torch.arange(edge) + 1) * size) // edge)
    return ((cell >= low[:, None]) & (cell < high[:, None])).float()


def _centres(layout: Layout, edge: int) -> Tensor:
    """The token in the middle of every bin: int64 [V * edge * edge] of flat token ids."""
    rows, cols = (((torch.arange(edge) + 0.5) * size / edge).long() for size in layout.side)
    one = (rows[:, None] * layout.side[1] + cols).flatten()
    return (torch.arange(layout.num_views)[:, None] * layout.tokens_per_view + one).flatten()


def _filled(valid: Tensor, side: tuple[int, int], edge: int) -> Tensor:
    """Pooled tokens that cover at least one real token: bool [V, edge * edge]."""
    return (pool(valid.float()[..., None], valid, side, edge) > 0)[..., 0]


def _order(layout: Layout, filled: Tensor, edge: int, policy: NewlinePolicy) -> Tensor:
    """LLM order of the pooled tokens as rows of `extra`, newlines by `policy`."""
    pooled = Layout(layout.grid, (edge, edge), torch.empty(0, dtype=torch.long), filled)
    entry = (-2 - torch.arange(filled.numel(), device=filled.device)).view(filled.shape)
    if not layout.num_newlines:
        thumbnail_first = int(layout.sequence[0]) < layout.tokens_per_view
        turn = torch.arange(layout.num_views) if thumbnail_first else torch.arange(layout.num_views).roll(-1)
        return entry[turn][filled[turn]]
    ids = pooled.mosaic().to(filled.device)
    real = filled.reshape(-1)[ids]
    rows = torch.cat([entry.reshape(-1)[ids], torch.full_like(ids[:, :1], NEWLINE)], 1)
    newline = torch.full_like(real[:, :1], policy != "none")
    if policy in ("unpadded_rows", "nonempty_rows"):
        newline &= real.any(1, keepdim=True)
    return torch.cat([entry[0][filled[0]], rows[torch.cat([real, newline], 1)]])
