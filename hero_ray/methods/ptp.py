"""PTP: pyramid token pruning, region by region, with attention of LLM block 2 (arXiv 2509.15704 v2, no code published).

Tiles share the budget by a softmax over their CLS similarity a_i to the thumbnail (Eq. 2). Inside a view a token's
score joins what the question attends to in block 2, c (maximum over the instruction's rows), and what the tower's CLS
attends to, b: s = alpha c + (1 - alpha) b, each brought to [0, 1] per view (Eqs. 3-5).

Modes: `restart` scores first and then runs the LLM anew on the short prompt, as Table V's halved cache suggests;
`continue` lets every token into blocks 1 and 2 and drops when entering block 3. The choice of tokens is the same.
Variants: `paper` floors and, as section III-D prints, brings a to [0, 1] as well (`similarity=minmax`) before the
softmax; `exact` has caps, hits the budget and takes the cosines as they are (`similarity=raw`), which spreads budgets
much less: 106 to 145 tokens a tile where `paper` gives 67 to 183. Either variant takes either. The thumbnail takes
floor(R N) (`reserve`) or joins the softmax with similarity 1 (`softmax`); both reproduce Table V's totals.
Differs: the paper names no way to bring scores to [0, 1] (min-max here), no head rule (mean first), and two tower
layers (9 of 24, its Table II counts 8 from 0; 12 is the appendix's). A single view has no region stage. For the paper's
ablations: `region_rule=uniform` gives every tile the same share (Table IV), `instruction_rule=mean` averages c (Tables
VI, VII).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import LayerPruner, Method
from hero_ray.methods.kit import dropping
from hero_ray.methods.kit.allocation import Rounding, allocate, floor
from hero_ray.methods.kit.scores import caps, captured, cls_attention, cosine_to_thumbnail, keep_top


@dataclass(frozen=True)
class PTP(Method):
    """Region budgets by CLS similarity, tokens by question and picture together."""

    alpha: float = 0.5
    mode: Literal["restart", "continue"] = "restart"
    vision_layer: int = 9
    llm_layer: int = 2
    thumbnail_budget: Literal["reserve", "softmax"] = "reserve"
    similarity: Literal["raw", "minmax"] | None = None
    head_rule: Literal["mean", "max"] = "mean"
    region_rule: Literal["similarity", "uniform"] = "similarity"
    instruction_rule: Literal["max", "mean"] = "max"

    name = "ptp"
    paper = "PTP, arXiv 2509.15704"
    text_aware = True
    variants = ("exact", "paper")
    positions = "keep"  # inside the LLM only, that is with mode "continue"

    def check(self) -> None:
        self.require(0.0 <= self.alpha <= 1.0, "alpha", "a share in [0, 1]")
        self.require(1 <= self.vision_layer <= 24, "vision_layer", "a block of a 24-deep tower, counted from 1")
        self.require(self.llm_layer >= 1, "llm_layer", "an LLM block counted from 1")
        if self.similarity is None:
            object.__setattr__(self, "similarity", "minmax" if self.variant == "paper" else "raw")
        if self.mode == "continue":
            object.__setattr__(self, "stage", "in-llm")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(
            cls_attention=frozenset(vision.scaled((self.vision_layer,))),
            cls_embedding=frozenset({"last_pre_ln"}),
            llm_attention=frozenset({self.llm_layer}),
        )

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        scores = self._scores(encoded)
        counts = self._view_budgets(encoded, budget)
        keep = keep_top(scores, counts, layout.valid)
        note = "" if self.variant == "exact" else "shares are floored, the remainder is lost"
        selection = Selection(keep, scores=scores, view_budgets=tuple(counts), note=note)
        if self.mode == "restart":
            return selection
        alive = keep.reshape(-1).to(layout.sequence.device)[layout.sequence.clamp(min=0)] | (layout.sequence < 0)
        return Selection(
            keep, order=layout.sequence, deferred=alive, scores=scores, view_budgets=tuple(counts), note=note
        )

    def pruner(self, budget: Budget) -> LayerPruner | None:
        if self.mode == "continue" and not budget.is_full:
            raise SelectionError("ptp (continue) drops what its selections say; call pruner_for(budget, selections)")
        return None

    def pruner_for(self, budget: Budget, selections: Sequence[Selection]) -> LayerPruner | None:
        if self.mode == "restart" or budget.is_full:
            return None
        return dropping.Deferred(
            "ptp (continue)",
            lambda depth: min(self.llm_layer, depth - 1),
            [selection.deferred for selection in selections],
        )

    def _scores(self, encoded: Encoded) -> Tensor:
        """s [V, N] (Eq. 5)."""
        valid = encoded.layout.valid
        layers = encoded.vision.scaled((self.vision_layer,))
        bottom_up = unit_range(cls_attention(encoded, layers, self.name), valid)
        source = encoded.question.llm_attention if encoded.question else {}
        rows = captured(source, self.llm_layer, self.name, "LLM attention of block").to(bottom_up.device)
        top_down = unit_range(instruction_score(rows, self.head_rule, self.instruction_rule), valid)
        return self.alpha * top_down + (1.0 - self.alpha) * bottom_up

    def _view_budgets(self, encoded: Encoded, budget: Budget) -> list[int]:
        limits = caps(encoded.layout.valid)
        if not encoded.layout.num_tiles:
            return [min(budget.total, limits[0])]
        embeddings = captured(encoded.cls_embedding, "last_pre_ln", self.name, "CLS embedding")
        cosines = cosine_to_thumbnail(embeddings).double()
        if self.region_rule == "uniform":
            cosines = torch.zeros_like(cosines)
        elif self.similarity == "minmax":
            cosines = unit_range(cosines[None], torch.ones(1, len(cosines), dtype=torch.bool))[0]
        reserve = None
        if self.thumbnail_budget == "reserve":
            reserve = min(floor(budget.ratio * encoded.layout.tokens_per_view), budget.total)
        rounding: Rounding = "exact" if self.variant == "exact" else "floor"
        return view_budgets(budget.total, cosines, limits, reserve, rounding)


def instruction_score(rows: Tensor, head_rule: str = "mean", instruction_rule: str = "max") -> Tensor:
    """c: heads first, then the maximum (or mean) over instruction rows; [H, Q, ...] -> [...]."""
    reduced = rows.mean(0) if head_rule == "mean" else rows.amax(0)
    return reduced.amax(0) if instruction_rule == "max" else reduced.mean(0)


def unit_range(scores: Tensor, valid: Tensor) -> Tensor:
    """Min-max of every view over its real tokens; a constant view gives zeros."""
    valid = valid.to(scores.device)
    low = scores.masked_fill(~valid, torch.inf).amin(1, keepdim=True)
    high = scores.masked_fill(~valid, -torch.inf).amax(1, keepdim=True)
    spread = high - low
    scaled = (scores - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
    return scaled.masked_fill(~valid | ~(spread > 0), 0.0)


def view_budgets(
    total: int, cosines: Tensor, limits: Sequence[int], reserve: int | None, rounding: Rounding = "exact"
) -> list[int]:
    """R_g and R_i, thumbnail first (Eq. 2).

    Args:
        cosines: [K] similarity of every tile's CLS to the thumbnail's.
        limits: real tokens per view, thumbnail first.
        reserve: the thumbnail's own share, or None to let it join the softmax with similarity 1.
    """
    if reserve is None:
        weights = torch.softmax(torch.cat([torch.ones_like(cosines[:1]), cosines]), 0).tolist()
        # Fractions tie towards tiles first, as in the paper's listing.
        *tiles, thumbnail = allocate(total, [*weights[1:], weights[0]], [*limits[1:], limits[0]], rounding)
        return [thumbnail, *tiles]
    tiles = allocate(total - reserve, torch.softmax(cosines, 0).tolist(), limits[1:], rounding)
    thumbnail = total - sum(tiles) if rounding == "exact" else reserve
    return [min(thumbnail, limits[0]), *tiles]
