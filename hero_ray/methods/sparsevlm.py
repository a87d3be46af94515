"""SparseVLM: text raters choose visual tokens in three steps, the dropped ones are recycled (arXiv 2410.04417).

Raters are the text tokens behind the picture whose mean softmax similarity to the visual embeddings is above average.
After blocks 3, 7 and 16 of 32 tokens are ranked by the attention that raters pay them in that block, head mean. Of the
dropped ones the best 30 % are clustered by density peaks into a tenth as many averages, put behind the kept tokens.
Survivors are renumbered. Follows Gumpest/SparseVLMs @26a5f48, v1.5 (`score.py`, `utils.py`,
`modelling_sparse_llama.py`).

R is the paper's nominal share (192 of 576 tokens is R = 1/3): the code's fixed lists, as shares of 576, interpolated.
Their true mean is higher, recycled tokens included (206.5 for 192): see `equivalent_tokens`.
Variants: `exact` is v1.5; `v2` is v2.0 (SparseVLM+): rows are divided by the bias that rotary positions alone would
give (all-ones queries and keys, over sqrt(d)), only the 14 of 32 heads in which raters look most at the picture count,
nothing is recycled, positions stay, and the lists are v2.0's.
Differs: shares of the picture's own token count; no random jitter in the clustering; v2's bias is kept above a
hundredth of its peak, so that it never changes a sign, and its heads are a share, 14 / 32, of any model's. Left out:
the paper's rank rule, which only the first commit holds (91fb6d9, 13.5 times the rank of the raters' attention): a
rank gives no budget to compare at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import LayerPruner, LayerState, Method, Survivors
from hero_ray.methods.kit import dropping
from hero_ray.methods.kit.clustering import averaged
from hero_ray.methods.kit.scores import descending, finite

_LISTS = {0: (0, 0, 0), 64: (66, 30, 17), 96: (238, 48, 26), 128: (303, 110, 36), 192: (300, 200, 110)}
_LISTS |= {576: (576, 576, 576)}
_LISTS_V2 = _LISTS | {64: (66, 34, 20), 96: (246, 54, 28), 128: (238, 108, 60), 192: (300, 200, 118)}
_BLOCKS = (3, 7, 16)
_HEADS_V2 = 14 / 32
_LEAST_BIAS = 0.01


@dataclass(frozen=True)
class SparseVLM(Method):
    """Rater-guided sparsification with recycling."""

    recycle: bool = True
    recycle_share: float = 0.3
    cluster_size: int = 10

    name = "sparsevlm"
    stage = "in-llm"
    reads = "input embeddings, the raters' attention rows in blocks 3, 7 and 16"
    paper = "SparseVLM, arXiv 2410.04417"
    text_aware = True
    variants = ("exact", "v2")

    def check(self) -> None:
        self.require(0.0 <= self.recycle_share <= 1.0, "recycle_share", "a share in [0, 1]")
        self.require(self.cluster_size >= 1, "cluster_size", "at least 1 token per cluster")
        if self.variant == "v2":
            object.__setattr__(self, "positions", "keep")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, "cut in three steps inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return _Sparsifier(self, stage_shares(budget.ratio, _LISTS_V2 if self.variant == "v2" else _LISTS))

    def recycled_counts(self, dropped: int) -> tuple[int, int]:
        """Dropped tokens worth recycling, and the clusters they become."""
        if not self.recycle or self.variant == "v2" or dropped < 1:
            return 0, 0
        pool = min(dropped, int(self.recycle_share * dropped + 1e-9) + 1)
        return pool, pool // self.cluster_size + 1


class _Sparsifier(LayerPruner):
    def __init__(self, method: SparseVLM, shares: tuple[float, float, float]) -> None:
        self._method, self._shares = method, shares
        self._raters: Tensor | None = None  # bool [B, T] over the last T positions
        self._scores: Tensor | None = None

    def _stages(self, num_layers: int) -> Mapping[int, float]:
        cuts = [dropping.after_block(block, num_layers) for block in _BLOCKS]
        return dict(zip(cuts, self._shares, strict=True))

    def before(self, state: LayerState) -> Survivors | None:
        if state.layer == 1:
            self._raters = raters(state)
        share = self._stages(state.num_layers).get(state.layer - 1)
        if share is None:
            return None
        assert self._scores is not None
        alive = state.visual.sum(1)
        counts = torch.minimum(rounded(share, state.num_visual), (alive - 1).clamp(min=1))
        survivors = dropping.keep_visual(state, self._scores, counts)
        return self._recycle(state, survivors.keep)

    def after(self, state: LayerState) -> None:
        if state.layer not in self._stages(state.num_layers):
            return
        assert self._raters is not None
        width = self._raters.shape[1]
        length = state.valid.shape[1]
        queries = torch.arange(length - width, length, device=state.valid.device).expand(len(state.valid), -1)
        rows = state.attention_rows(queries)  # [B, H, T, S]
        if self._method.variant == "v2":
            rows = debiased(rows, state.rope_bias(queries))
            rows = top_heads(rows, self._raters, state.visual)
        rows = rows.mean(1)
        chosen = self._raters[..., None]
        total = torch.where(chosen, rows, torch.zeros_like(rows)).sum(1)
        self._scores = dropping.checked(state, total / chosen.sum(1).clamp(min=1), self._method.name)

    def _recycle(self, state: LayerState, keep: Tensor) -> Survivors:
        assert self._scores is not None
        merged = []
        (gone,) = on_host([state.visual & ~keep])
        for row, mask in enumerate(gone):
            dropped = mask.nonzero()[:, 0].to(keep.device)
            pool, clusters = self._method.recycled_counts(len(dropped))
            best = descending(self._scores[row, dropped], pool)
            merged.append(averaged(state.hidden[row, dropped[best]], clusters) if clusters else state.hidden[row, :0])
        most = max(len(tokens) for tokens in merged)
        if not most:
            return Survivors(keep)
        recycled = state.hidden.new_zeros(len(merged), most, state.hidden.shape[-1])
        valid = torch.zeros(len(merged), most, dtype=torch.bool, device=keep.device)
        for row, tokens in enumerate(merged):
            recycled[row, : len(tokens)] = tokens
            valid[row, : len(tokens)] = True
        return Survivors(keep, recycled, valid)


def stage_shares(ratio: float, lists: Mapping[int, tuple[int, int, int]] = _LISTS) -> tuple[float, float, float]:
    """Share kept after each of the three cuts, interpolated between the released lists."""
    nominal = ratio * 576.0
    points = sorted(lists)
    high = next((point for point in points if point >= nominal - 1e-9), 576)
    low = max((point for point in points if point < high), default=0)
    part = (nominal - low) / (high - low)
    first, second, third = (
        (lower + part * (upper - lower)) / 576.0 for lower, upper in zip(lists[low], lists[high], strict=True)
    )
    return first, second, third


def debiased(rows: Tensor, bias: Tensor) -> Tensor:
    """Attention over what rotary positions alone favour: [B, H, T, S] by [B, T, S]."""
    return rows / torch.maximum(bias, _LEAST_BIAS * bias.amax(-1, keepdim=True))[:, None]


def top_heads(rows: Tensor, raters: Tensor, visual: Tensor) -> Tensor:
    """The heads in which raters look most at the picture, in no order: [B, H, T, S] -> [B, H', T, S].

    Args:
        raters: bool [B, T], visual: bool [B, S].
    """
    seen = raters[:, None, :, None] & visual[:, None, None]
    looks = torch.where(seen, rows, torch.zeros_like(rows)).sum((2, 3))
    count = max(1, math.floor(_HEADS_V2 * rows.shape[1] + 0.5))
    best = looks.argsort(dim=1, descending=True, stable=True)[:, :count]
    return rows.gather(1, best[..., None, None].expand(-1, -1, *rows.shape[2:]))


def rounded(share: float, total: Tensor) -> Tensor:
    """Nearest whole number of tokens, at least 1: int64 [B]."""
    return torch.floor(share * total.double() + 0.5).long().clamp(min=1)


def raters(state: LayerState) -> Tensor:
    """Text tokens that may rate: bool [B, T], T the longest text behind a picture in the batch.

    Text behind the picture is a suffix of every left-padded row, so the last T positions cover it in all blocks.
    """
    width = max(1, int(state.after_image.sum(1).max()))
    text = state.after_image[:, -width:]
    relevance = rater_relevance(state.hidden, state.visual, state.hidden[:, -width:], text)
    relevance = finite(relevance, "sparsevlm", "text-to-image similarity")
    mean = relevance.sum(1, keepdim=True) / text.sum(1, keepdim=True).clamp(min=1)
    chosen = text & (relevance > mean)
    return torch.where(chosen.any(1, keepdim=True), chosen, text)  # all equal: everyone rates


def rater_relevance(hidden: Tensor, visual: Tensor, words: Tensor, text: Tensor) -> Tensor:
    """Mean over visual tokens of softmax_t(v . t), zero where `text` is False: [B, T].

    Args:
        hidden: [B, S, D], visual: bool [B, S], words: [B, T, D], text: bool [B, T].
    """
    lowest = torch.finfo(torch.float32).min
    logits = (hidden.float() @ words.float().transpose(1, 2)).masked_fill(~text[:, None], lowest)
    weights = logits.softmax(-1) * visual[..., None]
    mean = weights.sum(1) / visual.sum(1, keepdim=True).clamp(min=1)
    return mean.masked_fill(~text, 0.0)
