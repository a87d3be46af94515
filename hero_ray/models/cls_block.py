"""The last tower block for its CLS token alone.

LLaVA projects the output of the second to last block; of the last one only the CLS row is ever read (CLS similarity,
CLIP score, CLS logits). Keys and values still come from every patch, but queries, output projection and MLP run on one
token: about a sixth of the block's work. V views, N patches, C width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def cls_output(block: Any, hidden: Tensor) -> Tensor:
    """CLS row of a CLIP encoder block's output: [V, 1 + N, C] -> [V, 1, C].

    Projections are called as modules, so hooks on them fire; the query projection sees the CLS token only.
    """
    attention = block.self_attn
    normed = block.layer_norm1(hidden)
    query, key, value = (
        projected.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for projected in (attention.q_proj(normed[:, :1]), attention.k_proj(normed), attention.v_proj(normed))
    )
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    states = hidden[:, :1] + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return states + block.mlp(block.layer_norm2(states))
