"""A pass through a block of the Llama kind, without what modules and wrappers cost around its operations.

At batch 1 the host bounds a step: to queue 32 blocks of transformers' modules takes longer than a fast card needs to
read a 7B model. Here the same operations run on the same weights in the same order, so that every bit is the same; what
is gone is what calls them, and what one new token a row makes needless. Shape letters: B rows, T positions, H heads,
D width of a head, C width of the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.integrations.sdpa_attention import sdpa_attention_forward

Turns = tuple[Tensor, Tensor]
"""cos and sin of every position, [B, 1, T, D]; the first half of sin with its sign changed."""

_LITTLE = 2**18
"""Numbers of which a copy costs less than the calls it spares: queries and keys are turned together up to here."""
_SILU = (nn.SiLU, type(ACT2FN["silu"]))
_KINDS = frozenset({"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen2_5_VLDecoderLayer"})
_linear, _attend = nn.functional.linear, nn.functional.scaled_dot_product_attention


def turns(cos: Tensor, sin: Tensor) -> Turns:
    """Rotary tables [B, T, D] as `LeanBlock` takes them: (-x) * sin is x * (-sin) to the last bit."""
    half = sin.shape[-1] // 2
    return cos[:, None], torch.cat((-sin[..., :half], sin[..., half:]), -1)[:, None]


class LeanBlock:
    """One decoder block.

    Args:
        block: transformers' own, whose weights are read at every call.
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
        """The block's output [B, T, C] for its input [B, T, C]; appends to the cache."""
        hidden = self._attended(self._normed(hidden, 0), mask, tables, cache).add_(hidden)
        normed = self._normed(hidden, 1)
        gate = nn.functional.silu(_linear(normed, self._gate["weight"], self._gate["bias"]))
        joined = gate * _linear(normed, self._up["weight"], self._up["bias"])
        return _linear(joined, self._down["weight"], self._down["bias"]).add_(hidden)

    def _attended(self, normed: Tensor, mask: Tensor | None, tables: Turns, cache: Any) -> Tensor:
        # On its own, so that nothing of it is alive when the MLP's inner activations meet.
        rows, length, _ = normed.shape
        query, key, value = (
            _linear(normed, weights["weight"], weights["bias"]) for weights in (self._q, self._k, self._v)
        )
        if normed.numel() <= _LITTLE:
            sizes = (query.shape[-1] // self._width, key.shape[-1] // self._width)
            query, key = _turned(self._heads(torch.cat((query, key), -1)), tables).split(sizes, 1)
        else:
            query, key = _turned(self._heads(query), tables), _turned(self._heads(key), tables)
        value = self._heads(value)
        keys, values = cache.update(key, value, self._layer)
        if cache.prefix is not None:
            seen = cache.prefix.attended(query, keys, values, mask, self._scale, self._layer).transpose(1, 2)
        elif self._grouped is None:
            causal = mask is None and length > 1
            seen = _attend(query, keys, values, attn_mask=mask, scale=self._scale, is_causal=causal).transpose(1, 2)
        else:
            seen = sdpa_attention_forward(self._grouped, query, keys, values, mask, scaling=self._scale)[0]
        return _linear(seen.reshape(rows, length, -1), self._o["weight"], self._o["bias"])

    def _heads(self, joined: Tensor) -> Tensor:
        rows, length, _ = joined.shape
        return joined.view(rows, length, -1, self._width).transpose(1, 2)

    def _normed(self, hidden: Tensor, number: int) -> Tensor:
        weights, epsilon = self._norms[number]
        wide = hidden.float()
        wide = wide * wide.pow(2).mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        return weights["weight"] * wide.to(hidden.dtype)


def _turned(heads: Tensor, tables: Turns) -> Tensor:
    cos, sin = tables
    low, high = heads.chunk(2, -1)
    return (heads * cos).add_(torch.cat((high, low), -1).mul_(sin))


def _norms(block: Any) -> tuple[Any, Any]:
    return block.input_layernorm, block.post_attention_layernorm
