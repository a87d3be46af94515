"""GlobalCom2: the thumbnail steers how much, and what, every tile keeps (arXiv 2501.05179).

Scores are pre-softmax CLS logits of the last block, mean over heads: g on the thumbnail, l on tiles. A tile's retention
R (1 + sigma_i - mean sigma) grows with the softmax (temperature tau) of the summed g in its region. Inside a tile
tokens rank by l / |l| + g' / |g'|, g' being the thumbnail's map resized to the unpadded mosaic. Follows
xuyang-liu16/GlobalCom2 @96b2d00 (`llava/model/llava_arch.py`).

Variants: `exact` hits the budget and keeps raster order; `released` floors, puts the thumbnail in descending score
order and every mosaic row's newline, and writes indices of the compacted tile back into the padded grid, so that with
padding tokens land between the wrong neighbours.
Differs: regions follow token centres where the grid does not divide the view. A single view, which the code does not
prune, uses the thumbnail's rule, and so does a picture so thin that unpadding leaves its tiles nothing, an error there.
Where the first tile of a row is padding alone (three columns and more than one row, none of LLaVA-NeXT's grids) the
code reads the thumbnail's first rows once more for the next row of tiles; here every tile has its own. Apart from that
and from exact ties, which `released` gives to the earlier token, both choose the same tokens in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.layout import NEWLINE, Layout
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import allocate, floor
from hero_ray.methods.kit.scores import LEAST_TEMPERATURE, caps, captured, keep_top


@dataclass(frozen=True)
class GlobalCom2(Method):
    """Global-to-local compression."""

    tau: float = 10.0
    combine: float = 0.5
    layer: int = 24

    name = "globalcom2"
    paper = "GlobalCom2, arXiv 2501.05179"
    variants = ("exact", "released")

    def check(self) -> None:
        self.require(self.tau >= LEAST_TEMPERATURE, "tau", f"a temperature of {LEAST_TEMPERATURE} on")
        self.require(0.0 <= self.combine <= 1.0, "combine", "the local map's share in [0, 1]")
        self.require(1 <= self.layer <= 24, "layer", "a block of a 24-deep tower, counted from 1")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_logits=frozenset(vision.scaled((self.layer,))))

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        (layer,) = encoded.vision.scaled((self.layer,))
        logits = captured(encoded.cls_logits, layer, self.name, "CLS logits of layer").mean(1)
        scores = self._token_scores(logits, layout) if layout.num_tiles else logits
        counts = self._view_budgets(logits[0], layout, budget)
        keep = keep_top(scores, counts, layout.valid)
        if self.variant == "exact":
            return Selection(keep, scores=scores, view_budgets=tuple(counts))
        ranks = scores[0].masked_fill(~keep[0], -torch.inf).argsort(descending=True, stable=True)
        keep, ranks = on_host([keep, ranks])
        order = _released_order(layout, keep, ranks)
        note = "retention per tile is floored and clipped at 1, the remainder is lost"
        return Selection(keep, order=order, scores=scores, view_budgets=tuple(counts), note=note)

    def _view_budgets(self, thumbnail: Tensor, layout: Layout, budget: Budget) -> list[int]:
        limits = caps(layout.valid)
        own = floor(budget.ratio * layout.tokens_per_view)
        if not layout.num_tiles:
            return [min(own if self.variant == "released" else budget.total, limits[0])]
        quotas = [
            limit * scale
            for limit, scale in zip(limits[1:], self.scales(thumbnail, layout, budget.ratio).tolist(), strict=True)
        ]
        if self.variant == "released":
            return [min(own, limits[0]), *(int(quota + 1e-9) for quota in quotas)]
        tiles = allocate(budget.total - min(own, limits[0], budget.total), quotas, limits[1:])
        return [min(budget.total - sum(tiles), limits[0]), *tiles]

    def scales(self, thumbnail: Tensor, layout: Layout, ratio: float) -> Tensor:
        """Retention of every tile, float64 [K]."""
        sums = torch.zeros(layout.num_tiles, dtype=torch.float64, device=thumbnail.device)
        sums.index_add_(0, layout.regions().to(thumbnail.device), thumbnail.double())
        weights = torch.exp((sums - sums.max()) / self.tau)
        sigma = weights / (weights.sum() + 1e-8)
        return (ratio * (1.0 + sigma - sigma.mean())).clamp(max=1.0)

    def _token_scores(self, logits: Tensor, layout: Layout) -> Tensor:
        valid = layout.valid.to(logits.device)
        local = _unit(logits, valid)
        broad = _unit(global_map(logits[0], layout), valid)
        joined = 2.0 * (self.combine * local + (1.0 - self.combine) * broad)
        return torch.cat([logits[:1], joined[1:]])


def global_map(thumbnail: Tensor, layout: Layout) -> Tensor:
    """The thumbnail's scores resized to the unpadded mosaic, as tokens of every tile: [V, N], zero elsewhere."""
    mosaic = layout.mosaic()
    real = layout.valid.reshape(-1)[mosaic]
    rows, cols = real.any(1), real.any(0)
    size = (int(rows.sum()), int(cols.sum()))
    flat = torch.zeros(layout.valid.numel(), dtype=thumbnail.dtype, device=thumbnail.device)
    if not min(size):  # a picture so thin that unpadding leaves nothing of its tiles
        return flat.view(layout.valid.shape)
    image = thumbnail.view(1, 1, *layout.side)
    resized = torch.nn.functional.interpolate(image, size=size, mode="bilinear", align_corners=False)[0, 0]
    flat[mosaic[rows][:, cols].to(flat.device)] = resized
    return flat.view(layout.valid.shape)


def _unit(scores: Tensor, valid: Tensor) -> Tensor:
    """Every view divided by its L2 norm over real tokens."""
    norm = (scores * valid).norm(dim=1, keepdim=True)
    return scores / norm.clamp(min=1e-12)


def _released_order(layout: Layout, keep: Tensor, ranks: Tensor) -> Tensor:
    """Thumbnail by rank, then the padded mosaic with compacted indices misplaced as in the code. All on the CPU."""
    first = ranks[: int(keep[0].sum())]
    if not layout.num_newlines:
        tiles = keep.clone()
        tiles[0] = False
        rest = layout.order(tiles)
        thumbnail_last = int(layout.sequence[0]) >= layout.tokens_per_view
        return torch.cat([rest, first] if thumbnail_last else [first, rest])
    valid = layout.valid
    place = valid.cumsum(1) - 1  # index of a real token in its tile's compacted list
    tokens = torch.arange(valid.numel()).view(valid.shape)
    grid = torch.full_like(tokens, NEWLINE - 1)
    view, position = keep.nonzero(as_tuple=True)
    grid[view, place[view, position]] = tokens[view, position]
    rows = grid.reshape(-1)[layout.mosaic()]
    rows = torch.cat([rows, torch.full_like(rows[:, :1], NEWLINE)], 1).reshape(-1)
    return torch.cat([first, rows[rows >= NEWLINE]])
