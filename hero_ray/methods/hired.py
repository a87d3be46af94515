"""HiRED: token budgets per tile from the thumbnail's early CLS attention (arXiv 2408.10945, AAAI-25).

The thumbnail keeps floor(alpha B) of B tokens; the rest goes to the tiles in proportion to their visual content, the
attention that the thumbnail's CLS pays in an early layer to the region a tile covers. Inside every view the tokens with
the highest late-layer CLS attention survive. Follows hasanar1f/HiRED @502d6dd (`modeling_llava_next.py`).

Variants: `paper` as printed (floors and caps, remainder lost); `exact` the same with the budget hit; `released` what
the code chooses: content counts the thumbnail's top (1 - alpha) N tokens per *contiguous run* of N / K tokens, which
are row bands and not tile regions, tiles share what the thumbnail did not take, padding competes and is cut afterwards.
Differs: the paper and the code count B on the whole grid, padding included, which is what budget base `grid` does; the
default base `real` is smaller where pictures are padded. Layers are 1-based here (1 and 23 for the code's 0 and 22).
The code drops all newlines (`paper`, `released`). It also swaps width and height of every grid that is not square when
it puts the tiles together, so that rows cut through the middle of tiles and other tokens arrive; `released` keeps the
code's masks and puts them together rightly. A single view has no tiles: top tokens by the late layer, where the code
keeps all of them. At alpha = 1 no token of the thumbnail counts as content, an error in the code: equal shares here.
`released` cuts alpha B and a tile's share as the code does, in binary and in single precision, so that a share of 63
may give 62 (one of 6,000 at alpha .5); B itself is the sweep's, 1,008 for R = 35 % of 2,880 where the code's product
falls just short (1,007, and 2,015 at 70 %).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.layout import Layout
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import allocate, floor
from hero_ray.methods.kit.scores import caps, captured, keep_top


@dataclass(frozen=True)
class HiRED(Method):
    """High-resolution early dropping."""

    alpha: float = 0.5
    early_layer: int = 1
    late_layer: int = 23

    name = "hired"
    paper = "HiRED, arXiv 2408.10945"
    variants = ("exact", "paper", "released")
    # `released`: 1 took all of alpha B off the tiles' share, 2 shared out more than they hold, 3 cut shares exactly
    code_versions: ClassVar[Mapping[str, int]] = {"released": 4}

    def check(self) -> None:
        self.require(0.0 <= self.alpha <= 1.0, "alpha", "a share in [0, 1]")
        for field in ("early_layer", "late_layer"):
            self.require(1 <= getattr(self, field) <= 24, field, "a block of a 24-deep tower, counted from 1")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_attention=frozenset(vision.scaled((self.early_layer, self.late_layer))))

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        scores = self._head_sum(encoded, self.late_layer)
        counts = self._view_budgets(encoded, budget)
        if self.variant == "exact":
            return Selection(keep_top(scores, counts, layout.valid), scores=scores, view_budgets=tuple(counts))
        candidates = layout.valid if self.variant == "paper" else torch.ones_like(layout.valid)
        return Selection(
            keep_top(scores, counts, candidates) & layout.valid.to(scores.device),
            newline_policy="none",
            scores=scores,
            view_budgets=tuple(counts),
            note="shares are floored and capped, the remainder is lost",
        )

    def _view_budgets(self, encoded: Encoded, budget: Budget) -> list[int]:
        layout = encoded.layout
        limits = caps(layout.valid) if self.variant == "exact" else [layout.tokens_per_view] * layout.num_views
        if not layout.num_tiles:
            return [min(budget.total, limits[0])]
        early = self._head_sum(encoded, self.early_layer)[0]
        if self.variant == "released":
            return _released_budgets(early, layout, self.alpha, budget.total)
        thumbnail = min(floor(self.alpha * budget.total), limits[0])
        # Algorithm 1 takes alpha B off even where the thumbnail cannot hold it.
        rest = budget.total - (floor(self.alpha * budget.total) if self.variant == "paper" else thumbnail)
        tiles = allocate(rest, _content(early, layout), limits[1:], "exact" if self.variant == "exact" else "floor")
        if self.variant == "exact":
            thumbnail = min(budget.total - sum(tiles), limits[0])  # what the tiles cannot hold
        return [thumbnail, *tiles]

    def _head_sum(self, encoded: Encoded, layer: int) -> Tensor:
        (own,) = encoded.vision.scaled((layer,))
        return captured(encoded.cls_attention, own, self.name, "CLS attention of layer").sum(1)


def _content(early: Tensor, layout: Layout) -> list[float]:
    """Thumbnail attention summed over the region of every tile."""
    regions = layout.regions().to(early.device)
    sums = torch.zeros(layout.num_tiles, dtype=torch.float64, device=early.device)
    return sums.index_add_(0, regions, early.double()).tolist()  # type: ignore[no-any-return]


def _released_budgets(early: Tensor, layout: Layout, alpha: float, total: int) -> list[int]:
    """Tokens of every view as the code computes them: cut in binary, the tiles' shares in single precision."""
    tokens, tiles = layout.tokens_per_view, layout.num_tiles
    thumbnail = min(int(alpha * total), tokens)
    rest = min(total - thumbnail, tiles * tokens)  # more than the tiles hold is taken off before it is shared
    counts = torch.tensor(_band_counts(early, layout, alpha))
    if not counts.any():
        counts.fill_(1.0)
    shares = (counts / counts.sum() * rest).int().tolist()
    return [thumbnail, *(min(share, tokens) for share in shares)]


def _band_counts(early: Tensor, layout: Layout, alpha: float) -> list[float]:
    """The release's content score: top tokens counted per contiguous run of the flattened thumbnail."""
    marks = keep_top(early[None], [int(len(early) * (1.0 - alpha))], torch.ones(1, len(early), dtype=torch.bool))[0]
    band = (torch.arange(len(early), device=early.device) * layout.num_tiles) // len(early)
    return torch.zeros(layout.num_tiles, device=early.device).index_add_(0, band, marks.float()).tolist()  # type: ignore[no-any-return]
