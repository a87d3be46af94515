"""Heads of a decoder block: queries, keys and values out of its projections, rotary turns, windows of sight."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Rope = tuple[Tensor, Tensor]


def windows(config: Any, count: int) -> list[int | None]:
    """The sliding window of every block, None where a block sees all that its context can hold."""
    width = getattr(config, "sliding_window", None)
    if width is None or width >= config.max_position_embeddings:
        return [None] * count
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * count
    return [width if kind == "sliding_attention" else None for kind in kinds[:count]]


def turning_point(config: Any) -> int | None:
    """Position from which a long-context Phi-3 takes its other rotary frequencies; None for every other model."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return None
    return int(rope.get("original_max_position_embeddings") or config.max_position_embeddings)


def projected(attention: Any, normed: Tensor, part: Literal["q", "k", "v"]) -> Tensor:
    """Queries, keys before RoPE or values, [B, S, heads, head_dim]: of a fused projection too, normed as Qwen3 does."""
    width = attention.head_dim
    if hasattr(attention, "qkv_proj"):
        query, key = attention.config.num_attention_heads * width, attention.num_key_value_heads * width
        first = {"q": 0, "k": query, "v": query + key}[part]
        heads = attention.qkv_proj(normed)[..., first : first + (query if part == "q" else key)]
    else:
        heads = getattr(attention, f"{part}_proj")(normed)
    heads = heads.unflatten(-1, (-1, width))
    norm = getattr(attention, f"{part}_norm", None)  # of queries and keys
    return heads if norm is None else norm(heads)


def rotate(heads: Tensor, rope: Rope) -> Tensor:
    """Rotary embedding in its half-split form on `[B, heads, S, head_dim]`, or on the first part of every head."""
    cos, sin = rope[0].unsqueeze(1), rope[1].unsqueeze(1)
    turns, rest = heads[..., : cos.shape[-1]], heads[..., cos.shape[-1] :]
    half = turns.shape[-1] // 2
    turned = torch.cat((-turns[..., half:], turns[..., :half]), -1)
    return torch.cat((turns * cos + turned * sin, rest), -1) if rest.shape[-1] else turns * cos + turned * sin


def grouped_products(heads: Tensor, keys: Tensor) -> Tensor:
    """Products [B, H, R, S], fp32, of query heads [B, H, R, d] with keys [B, H_kv, S, d].

    Grouped query heads are folded into the query axis instead of repeating the keys.
    """
    rows, num_heads, count, width = heads.shape
    folded = heads.reshape(rows, keys.shape[1], -1, width)
    return (folded.float() @ keys.float().transpose(-1, -2)).view(rows, num_heads, count, -1)
