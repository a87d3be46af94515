"""A decode step through a block of the Llama kind, without what modules and wrappers cost around its operations.

At batch 1 the host bounds a step: to queue 32 blocks of transformers' modules takes longer than a fast card needs to
read a 7B model. Here the same operations run on the same weights in the same order, so that every bit is the same; what
is gone is what calls them, and what one new token a row makes needless. Shape letters: B rows, H heads, D width of a
head, C width of the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.integrations.sdpa_attention import sdpa_attention_forward

Turns = tuple[Tensor, Tensor]
"""cos and sin for one position a row, [B, 1, 1, D]; the first half of sin with its sign changed."""

_SILU = (nn.SiLU, type(ACT2FN["silu"]))
_KINDS = frozenset({"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer"})
_linear, _attend = nn.functional.linear, nn.functional.scaled_dot_product_attention


def turns(cos: Tensor, sin: Tensor) -> Turns:
    """Rotary tables [B, 1, D] as a step takes them: (-x) * sin is x * (-sin) to the last bit."""
    half = sin.shape[-1] // 2
    return cos[:, None], torch.cat((-sin[..., :half], sin[..., half:]), -1)[:, None]


class LeanBlock:
    """One decoder block for one new token a row.

    Args:
        block: transformers' own, whose weights are read at every step.
    """

    def __init__(self, block: Any) -> None:
        attention, mlp = block.self_attn, block.mlp
        self._layer, self._width, self._scale = attention.layer_idx, attention.head_dim, attention.scaling
        # How grouped heads meet their keys differs between releases: that is asked of transformers itself.
        self._grouped = attention if attention.num_key_value_groups > 1 else None
        # The dictionaries behind the modules: where a weight is replaced, the new one is there.
        self._q, self._k, self._v, self._o, self._gate, self._up, self._down = (
            getattr(owner, f"{name}_proj")._parameters
            for owner, names in ((attention, "qkvo"), (mlp, ("gate", "up", "down")))
            for name in names
        )
        self._norms = [(norm._parameters, norm.variance_epsilon) for norm in _norms(block)]

    @classmethod
    def of(cls, block: nn.Module, attention: str) -> LeanBlock | None:
        """The lean form of a block, or None where it is of another kind: norms on heads, fused projections."""
        if attention != "sdpa" or type(block).__name__ not in _KINDS:
            return None
        own: Any = block
        projections = [own.self_attn.q_proj, own.self_attn.k_proj, own.self_attn.v_proj, own.self_attn.o_proj]
        projections += [own.mlp.gate_proj, own.mlp.up_proj, own.mlp.down_proj]
        plain = all(type(projection) is nn.Linear for projection in projections)
        return cls(block) if plain and isinstance(own.mlp.act_fn, _SILU) else None

    def __call__(self, hidden: Tensor, mask: Tensor | None, tables: Turns, cache: Any) -> Tensor:
        """The block's output [B, 1, C] for its input [B, 1, C]; appends to the cache."""
        rows, width = hidden.shape[0], self._width
        normed = self._normed(hidden, 0)
        query, key, value = (
            _linear(normed, weights["weight"], weights["bias"]).view(rows, -1, 1, width)
            for weights in (self._q, self._k, self._v)
        )
        cos, sin = tables
        heads = torch.cat((query, key), 1)
        low, high = heads.chunk(2, -1)
        heads = heads * cos + torch.cat((high, low), -1) * sin
        query, key = heads.split((query.shape[1], key.shape[1]), 1)
        keys, values = cache.update(key, value, self._layer)
        if self._grouped is None:
            seen = _attend(query, keys, values, attn_mask=mask, scale=self._scale)
        else:
            seen = sdpa_attention_forward(self._grouped, query, keys, values, mask, scaling=self._scale)[0]
        seen = seen.reshape(rows, 1, -1)
        hidden = hidden + _linear(seen, self._o["weight"], self._o["bias"])
        normed = self._normed(hidden, 1)
        gate = nn.functional.silu(_linear(normed, self._gate["weight"], self._gate["bias"]))
        joined = gate * _linear(normed, self._up["weight"], self._up["bias"])
        return hidden + _linear(joined, self._down["weight"], self._down["bias"])

    def _normed(self, hidden: Tensor, number: int) -> Tensor:
        weights, epsilon = self._norms[number]
        wide = hidden.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        return weights["weight"] * wide.to(hidden.dtype)


def _norms(block: Any) -> tuple[Any, Any]:
    return block.input_layernorm, block.post_attention_layernorm
