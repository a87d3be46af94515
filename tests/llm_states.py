"""A block boundary written out by hand, for in-LLM methods whose vectors give attention instead of weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from hero_ray.core.encoded import Budget
from hero_ray.methods.base import LayerPruner, Survivors


@dataclass
class WrittenState:
    """One boundary; `attention` [B, H, S, S] is whatever block `layer` would show.

    `spans` gives (text before, visual, text behind) per row; rows are left-padded to the longest.
    """

    layer: int
    num_layers: int
    spans: list[tuple[int, int, int]]
    attention: Tensor | None = None
    hidden: Tensor = field(default_factory=lambda: torch.empty(0))
    block_keys: Tensor | None = None
    bias: Tensor | None = None
    block_values: Tensor | None = None
    tables: tuple[Tensor, Tensor] | None = None
    logits: Tensor | None = None
    moves: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        length = max(sum(span) for span in self.spans)
        shape = (len(self.spans), length)
        self.valid, self.visual, self.after_image = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
        for row, (before, seen, _) in enumerate(self.spans):
            start = length - sum(self.spans[row])
            self.valid[row, start:] = True
            self.visual[row, start + before : start + before + seen] = True
            self.after_image[row, start + before + seen :] = True
        self.instruction = self.after_image
        self.positions = (self.valid.long().cumsum(1) - 1).clamp(min=0)
        self.num_visual = self.visual.sum(1)

    def attention_rows(self, queries: Tensor) -> Tensor:
        assert self.attention is not None
        index = queries[:, None, :, None].expand(-1, self.attention.shape[1], -1, self.attention.shape[3])
        return self.attention.gather(2, index)

    def keys(self) -> Tensor:
        assert self.block_keys is not None
        return self.block_keys

    def values(self) -> Tensor:
        assert self.block_values is not None
        return self.block_values

    def rope(self) -> tuple[Tensor, Tensor]:
        assert self.tables is not None
        return self.tables

    def unturned_logits(self, queries: Tensor) -> Tensor:
        assert self.logits is not None
        index = queries[:, None, :, None].expand(-1, self.logits.shape[1], -1, self.logits.shape[3])
        return self.logits.gather(2, index)

    def moved(self, part: Literal["attention", "mlp"]) -> tuple[Tensor, Tensor]:
        return self.moves[part]

    def rope_bias(self, queries: Tensor) -> Tensor:
        if self.bias is None:
            return torch.ones(*queries.shape, self.valid.shape[1])
        return self.bias.gather(1, queries[..., None].expand(-1, -1, self.bias.shape[-1]))

    def final_norm(self, hidden: Tensor) -> Tensor:
        return hidden


def products(rows: Tensor, heads: int = 2) -> Tensor:
    """Scaled products [1, heads, S, S] of rows [S, D], which stand for queries and keys at once."""
    split = rows.unflatten(-1, (heads, -1)).transpose(0, 1)
    return (split @ split.mT * split.shape[-1] ** -0.5)[None]


def seen_back(logits: Tensor) -> Tensor:
    """Causal attention from logits [B, H, S, S]."""
    length = logits.shape[-1]
    return logits.masked_fill(~torch.ones(length, length, dtype=torch.bool).tril(), -torch.inf).softmax(-1)


def kept_visual(state: WrittenState, survivors: Survivors | None, row: int = 0) -> list[int]:
    """Survivors counted from the first visual token of a row."""
    assert survivors is not None
    assert torch.equal(survivors.keep & ~state.visual, state.valid & ~state.visual), "text always survives"
    return survivors.keep[row, state.visual[row]].nonzero()[:, 0].tolist()


def run(pruner: LayerPruner, seen: WrittenState, cut: WrittenState) -> Survivors | None:
    """One cut: every block up to it is passed, `seen` is shown after its block, `cut` before the next."""
    pruner.after(seen)
    return pruner.before(cut)


def vector_budget(ratio: float) -> Budget:
    """A budget of which an in-LLM method reads the ratio alone."""
    return Budget(total=max(1, int(ratio * 576)), ratio=ratio, base="real", base_tokens=576)
