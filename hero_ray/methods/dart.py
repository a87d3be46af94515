"""DART: keep what differs from a few pivots, no attention needed (arXiv 2502.11494).

When entering block 3, the 4 visual and 4 text tokens with the largest L1 norm of block 2's keys are pivots; each in
turn adds the remaining visual tokens least similar to it (cosine of hidden states under the LLM's last norm). Positions
stay. Follows xqy1111111/DART @d6a5af6 (`modeling_llama_self.py`), a copy: the authors' own ZichenWen1/DART could not be
read.

R is the share kept after the cut. Variants: `exact` keeps floor(R M) tokens, pivots included; `released` keeps 4 + 8
floor(R M / 8) (132 for 128); `embeddings` is what TensorRT-Edge-LLM ships: before the first block, pivots and likeness
from the input embeddings as they are, text pivots from the whole prompt, ceil(R M) tokens (its `dartPruner.cpp`, held
to its own reference function, nvluxiaoz/TensorRT-Edge-LLM @2add2e2). No block sees the rest, so that R is its true
share.
Differs: pivots are visited best first, where the code follows the order of a Python set, which changes 2 to 12 of 68 to
196 kept tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import LayerPruner, LayerState, Method, Survivors
from hero_ray.methods.kit import dropping
from hero_ray.methods.kit.allocation import EPSILON, equal
from hero_ray.methods.kit.scores import descending, finite


@dataclass(frozen=True)
class DART(Method):
    """Duplication-aware reduction."""

    after_block: int = 2
    visual_pivots: int = 4
    text_pivots: int = 4

    name = "dart"
    stage = "in-llm"
    reads = "keys of block 2, hidden states entering block 3"
    paper = "DART, arXiv 2502.11494"
    text_aware = True
    variants = ("exact", "released", "embeddings")
    positions = "keep"

    def check(self) -> None:
        self.require(1 <= self.after_block <= 31, "after_block", "a block 1 to 31 of a 32-deep LLM")
        self.require(self.visual_pivots >= 1, "visual_pivots", "at least 1 pivot")
        self.require(self.text_pivots >= 0, "text_pivots", "0 or more pivots")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, f"cut to {budget.ratio:.3g} inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return _EmbeddingPivots(self, budget.ratio) if self.variant == "embeddings" else _Pivots(self, budget.ratio)

    def pick(
        self, hidden: Tensor, norms: Tensor, visual: Sequence[Tensor], text: Sequence[Tensor], wanted: Sequence[int]
    ) -> list[Tensor]:
        """Which visual tokens of every row live on, as their positions in the order taken: int64 [n] each.

        Args:
            hidden: [B, S, D] unit states; norms: [B, S], what ranks pivots.
            visual, text: per row int64 positions of visual tokens and of the text that pivots are sought in.
            wanted: how many of each row.
        """
        alike: dict[tuple[int, ...], list[tuple[int, Tensor, Tensor]]] = {}
        for row, (seen, read, count) in enumerate(zip(visual, text, wanted, strict=True)):
            mine = descending(norms[row, seen], min(self.visual_pivots, count))
            theirs = descending(norms[row, read], self.text_pivots)
            likeness = hidden[row, torch.cat([seen[mine], read[theirs]])] @ hidden[row, seen].T
            shape = (len(seen), len(mine), *self.counts(count, len(mine), len(theirs)))
            alike.setdefault(shape, []).append((row, mine, likeness))
        chosen: dict[int, Tensor] = {}
        for (_, _, *counts), group in alike.items():  # rows of one shape take turns together
            rows, pivots, likenesses = zip(*group, strict=True)
            taken = choose(torch.stack(likenesses), torch.stack(pivots), counts)
            chosen |= {row: visual[row][places] for row, places in zip(rows, taken, strict=True)}
        return [chosen[row] for row in range(len(chosen))]

    def counts(self, wanted: int, visual: int, text: int) -> list[int]:
        """Tokens that each pivot adds, given `wanted` in all and how many pivots of each kind there are."""
        if self.variant == "released":
            return [wanted // (self.visual_pivots + self.text_pivots)] * (visual + text)
        return equal(wanted - visual, [wanted] * (visual + text))


class _Pivots(LayerPruner):
    def __init__(self, method: DART, ratio: float) -> None:
        self._method, self._ratio = method, ratio
        self._norms: Tensor | None = None

    def _cut(self, state: LayerState) -> int:
        return dropping.after_block(self._method.after_block, state.num_layers)

    def after(self, state: LayerState) -> None:
        if state.layer == self._cut(state):
            self._norms = finite(state.keys(), self._method.name, f"keys of block {state.layer}").abs().sum((1, 3))

    def before(self, state: LayerState) -> Survivors | None:
        if state.layer != self._cut(state) + 1:
            return None
        assert self._norms is not None
        hidden = torch.nn.functional.normalize(state.final_norm(state.hidden).float(), dim=-1)
        wanted, *masks = on_host([dropping.share_of(self._ratio, state.num_visual), state.visual, state.after_image])
        visual, text = (dropping.placed(mask, hidden.device) for mask in masks)
        return living(state, self._method.pick(hidden, self._norms, visual, text, wanted.tolist()))


class _EmbeddingPivots(LayerPruner):
    """The shipped form: one choice on the assembled prompt, before any block runs."""

    def __init__(self, method: DART, ratio: float) -> None:
        self._method, self._ratio = method, ratio

    def before(self, state: LayerState) -> Survivors | None:
        if state.layer != 1:
            return None
        embedded = finite(state.hidden.masked_fill(~state.valid[..., None], 0.0), self._method.name, "input embeddings")
        unit, norms = torch.nn.functional.normalize(embedded, dim=-1), embedded.abs().sum(-1)
        totals, *masks = on_host([state.num_visual, state.visual, state.valid & ~state.visual])
        visual, text = (dropping.placed(mask, unit.device) for mask in masks)
        wanted = [max(1, math.ceil(self._ratio * total - EPSILON)) for total in totals.tolist()]
        return living(state, self._method.pick(unit, norms, visual, text, wanted))


def living(state: LayerState, chosen: Sequence[Tensor]) -> Survivors:
    """All text and the `chosen` positions of every row."""
    keep = state.valid & ~state.visual
    for row, places in enumerate(chosen):
        keep[row].index_fill_(0, places, True)
    return Survivors(keep)


def choose(likeness: Tensor, pivots: Tensor, counts: Sequence[int]) -> Tensor:
    """Visual pivots, then for every pivot the `counts[p]` remaining tokens least like it, in the order taken.

    Args:
        likeness: [G, P, M] cosine of every pivot, visual ones first, with every visual token of G prompts.
        pivots: [G, p] positions of the visual pivots among the M tokens.

    Returns:
        int64 [G, n].
    """
    taken = torch.zeros(len(likeness), likeness.shape[2], dtype=torch.bool, device=likeness.device)
    taken.scatter_(1, pivots, True)
    order, left = [pivots], taken.shape[1] - pivots.shape[1]
    for row, count in zip(likeness.unbind(1), counts, strict=True):
        distant = row.masked_fill(taken, torch.inf).argsort(dim=1, stable=True)
        added = distant[:, : min(count, left)]
        left -= added.shape[1]
        taken.scatter_(1, added, True)
        order.append(added)
    return torch.cat(order, 1)
