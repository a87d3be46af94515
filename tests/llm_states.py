"""A block boundary written out by hand, for in-LLM methods whose vectors give attention instead of weights."""

from __future__ import annotations

from dataclasses import dataclass, field

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

    def rope_bias(self, queries: Tensor) -> Tensor:
        if self.bias is None:
            return torch.ones(*queries.shape, self.valid.shape[1])
        return self.bias.gather(1, queries[..., None].expand(-1, -1, self.bias.shape[-1]))

    def final_norm(self, hidden: Tensor) -> Tensor:
        return hidden


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
