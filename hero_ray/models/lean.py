"""A pass through a block of the Llama kind, without what modules and wrappers cost around its operations.

At batch 1 the host bounds a step: to queue 32 blocks of transformers' modules takes longer than a fast card needs to
read a 7B model. Here the same operations run on the same weights in the same order, so that every bit is the same; what
is gone is what calls them, what one new token a row makes needless, and, in small passes, products that can be one.
Shape letters: B rows, T positions, H heads, G key heads, D width of a head, C width of the model, I of its MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.integrations.sdpa_attention import sdpa_attention_forward

Turns = tuple[Tensor, Tensor]
"""cos and sin of every position, [B, 1, T, D]; the first half of sin with its sign changed."""
Wanted = Literal["all", "last", "none"]
"""Positions whose output is wanted: behind the last block only the last one is read, and of a prefix none."""
Owner = dict[str, Any]
"""The parameters behind a module: where a weight is replaced, the new one is there."""

_LITTLE = 2**18
"""Numbers up to which products are joined and what they give is held longer: more calls spared than memory taken."""
_SILU = (nn.SiLU, type(ACT2FN["silu"]))
_KINDS = frozenset({"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen2_5_VLDecoderLayer"})
_linear, _attend = nn.functional.linear, nn.functional.scaled_dot_product_attention


def turns(cos: Tensor, sin: Tensor) -> Turns:
    """Rotary tables [B, T, D] as `LeanBlock` takes them: (-x) * sin is x * (-sin) to the last bit."""
    half = sin.shape[-1] // 2
    return cos[:, None], torch.cat((-sin[..., :half], sin[..., half:]), -1)[:, None]


class Joined:
    """Projections of one input as one product. Their modules keep their weights, as rows of it: none is held twice.

    Args:
        owners: the parameters of every projection, in order.

    Attributes:
        holds: whether there is such a product; not of weights that are only shapes, or stand for others.
    """

    def __init__(self, owners: Sequence[Owner]) -> None:
        self._owners, self._places, self.holds = owners, [0], False
        self.look()

    def look(self) -> None:
        """Join what is not joined yet, or was replaced or moved since."""
        weights = [owner["weight"] for owner in self._owners]
        self.holds = all(type(weight) is nn.Parameter and not weight.is_meta for weight in weights)
        if not self.holds or self._places == [weight.data_ptr() for weight in weights]:
            return
        self._weight = _one(weights).t()
        biases = [owner["bias"] for owner in self._owners if owner["bias"] is not None]
        self._bias = _one(biases) if len(biases) == len(weights) else None
        self.holds = len(biases) in (0, len(weights))
        self._places = [weight.data_ptr() for weight in weights]

    def __call__(self, flat: Tensor) -> Tensor:
        """All projections of [n, C] beside each other, [n, their widths together]."""
        return torch.mm(flat, self._weight) if self._bias is None else torch.addmm(self._bias, flat, self._weight)


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
        self._q, self._k, self._v, self._o, self._gate, self._up, self._down = (
            getattr(owner, f"{name}_proj")._parameters
            for owner, names in ((attention, "qkvo"), (mlp, ("gate", "up", "down")))
            for name in names
        )
        heads, groups = (part["weight"].shape[0] // self._width for part in (self._q, self._k))
        self._sizes, self._turning = (heads, groups), (heads + groups, groups)
        self._norms = [(norm._parameters, norm.variance_epsilon) for norm in _norms(block)]
        parts = (self._q, self._k, self._v), (self._o,), (self._gate, self._up), (self._down,)
        self._inner, self._outer, self._opening, self._closing = self._products = [Joined(part) for part in parts]
        self._joined = False
        self.look()

    def look(self) -> None:
        """See that small passes read the weights that the modules have now."""
        for product in self._products:
            product.look()
        self._joined = all(product.holds for product in self._products)

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

    def __call__(
        self, hidden: Tensor, mask: Tensor | None, tables: Turns, cache: Any, wanted: Wanted = "all"
    ) -> Tensor:
        """The block's output [B, T, C] for its input [B, T, C]; appends to the cache.

        Args:
            wanted: `last` gives [B, 1, C], `none` appends alone and gives [B, 0, C].
        """
        if wanted == "last" and mask is not None:
            mask = mask[:, :, -1:]
        if self._joined and hidden.numel() <= _LITTLE:
            return self._small(hidden, mask, tables, cache, wanted)
        # On its own, so that nothing of it is alive when the MLP's inner activations meet.
        seen = self._projected(self._normed(hidden, 0), mask, tables, cache, wanted)
        if seen is None:
            return hidden[:, :0]
        hidden = hidden if wanted == "all" else hidden[:, -1:]
        hidden = _linear(seen.reshape(*hidden.shape[:2], -1), self._o["weight"], self._o["bias"]).add_(hidden)
        del seen
        normed = self._normed(hidden, 1)
        gate = nn.functional.silu(_linear(normed, self._gate["weight"], self._gate["bias"]))
        joined = gate * _linear(normed, self._up["weight"], self._up["bias"])
        return _linear(joined, self._down["weight"], self._down["bias"]).add_(hidden)

    def _small(self, hidden: Tensor, mask: Tensor | None, tables: Turns, cache: Any, wanted: Wanted) -> Tensor:
        rows, length, width = hidden.shape
        flat = hidden.view(-1, width)
        heads, value = self._heads(self._inner(self._normed(flat, 0)), rows, length).split(self._turning, 1)
        query, key = _turned(heads, tables).split(self._sizes, 1)
        if wanted == "none":
            cache.update(key, value, self._layer)
            return hidden[:, :0]
        if wanted == "last":
            query, flat = query[:, :, -1:], hidden[:, -1]
        flat = self._outer(self._seen(query, key, value, mask, cache).reshape(flat.shape[0], -1)).add_(flat)
        gate, up = self._opening(self._normed(flat, 1)).chunk(2, -1)
        joined = nn.functional.silu(gate).mul_(up)
        return self._closing(joined).add_(flat).view(rows, -1, width)

    def _projected(
        self, normed: Tensor, mask: Tensor | None, tables: Turns, cache: Any, wanted: Wanted
    ) -> Tensor | None:
        """What the wanted positions see, [B, T, H, D]; None where none is wanted."""
        key, value = self._part(normed, self._k), self._part(normed, self._v)
        if wanted == "none":
            cache.update(_turned(key, tables), value, self._layer)
            return None
        asked = tables if wanted == "all" else (tables[0][:, :, -1:], tables[1][:, :, -1:])
        query = _turned(self._part(normed if wanted == "all" else normed[:, -1:], self._q), asked)
        return self._seen(query, _turned(key, tables), value, mask, cache)

    def _part(self, normed: Tensor, part: Owner) -> Tensor:
        return self._heads(_linear(normed, part["weight"], part["bias"]), *normed.shape[:2])

    def _seen(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        """Attention [B, T, H, D] over all that the cache holds and these [B, G, T, D], which it takes."""
        keys, values = cache.update(key, value, self._layer)
        if cache.prefix is not None:
            return cache.prefix.attended(query, keys, values, mask, self._scale, self._layer).transpose(1, 2)
        if self._grouped is None:
            causal = mask is None and query.shape[2] > 1
            return _attend(query, keys, values, attn_mask=mask, scale=self._scale, is_causal=causal).transpose(1, 2)
        return sdpa_attention_forward(self._grouped, query, keys, values, mask, scaling=self._scale)[0]

    def _heads(self, joined: Tensor, rows: int, length: int) -> Tensor:
        """[B, H, T, D] of projections [B * T, H * D] or [B, T, H * D]."""
        if length == 1:
            return joined.view(rows, -1, 1, self._width)
        return joined.view(rows, length, -1, self._width).transpose(1, 2)

    def _normed(self, hidden: Tensor, number: int) -> Tensor:
        weights, epsilon = self._norms[number]
        if hidden.dtype == torch.float32 and hidden.is_cpu:  # in one call, and to the last bit
            return torch.rms_norm(hidden, hidden.shape[-1:], weights["weight"], epsilon)
        wide = hidden.float()
        wide = wide * wide.pow(2).mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        return weights["weight"] * wide.to(hidden.dtype)


def _turned(heads: Tensor, tables: Turns) -> Tensor:
    cos, sin = tables
    return (heads * cos).add_(heads.roll(heads.shape[-1] // 2, -1).mul_(sin))


def _norms(block: Any) -> tuple[Any, Any]:
    return block.input_layernorm, block.post_attention_layernorm


def _one(parts: Sequence[nn.Parameter]) -> Tensor:
    """Parameters as one tensor, of which they become rows."""
    tensors = [part.data for part in parts]
    starts = [tensor.data_ptr() for tensor in tensors]
    ends = [tensor.data_ptr() + tensor.nbytes for tensor in tensors]
    plain = all(tensor.is_contiguous() for tensor in tensors)
    if plain and starts[1:] == ends[:-1] and len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1:
        shape = (sum(map(len, tensors)), *tensors[0].shape[1:])
        return tensors[0].as_strided(shape, tensors[0].stride())
    whole = torch.cat(tensors)
    for part, rows in zip(parts, whole.split([len(tensor) for tensor in tensors]), strict=True):
        part.data = rows
    return whole
