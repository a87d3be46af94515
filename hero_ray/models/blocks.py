"""The language model's blocks one at a time, and what a pruner sees of the boundary between two.

Shape letters: B rows, S positions, D width, H heads, R queries, T positions of one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hero_ray.models.cache import cache_argument
from hero_ray.models.live import LiveTokens

Rope = tuple[Tensor, Tensor]


class Blocks:
    """Transformers' own blocks of a Llama-type language model, as weight holders and as functions.

    Args:
        language_model: transformers' `LlamaModel` (or one with the same block interface).
        head: the output projection.
        attention: the kernel set on the model: `sdpa`, `flash_attention_2` or `eager`.

    Raises:
        CheckpointError: a block that takes no key-value cache by a name we know.
    """

    def __init__(self, language_model: Any, head: nn.Module, attention: str = "sdpa") -> None:
        self._model = language_model
        self._blocks = list(language_model.layers)
        self._cache_names = [cache_argument(block) for block in self._blocks]
        self._head = head
        self._attention = attention

    @property
    def num_layers(self) -> int:
        return len(self._blocks)

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of token ids, on the model's device."""
        return self._model.embed_tokens(ids.to(self._model.embed_tokens.weight.device))

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The last norm, before the head."""
        return self._model.norm(hidden)

    def block_keys(self, index: int, tokens: LiveTokens) -> Tensor:
        """Keys of a block after RoPE, computed from its input: [B, kv_heads, S, head_dim]."""
        attention = self._blocks[index].self_attn
        normed = self._blocks[index].input_layernorm(tokens.hidden)
        keys = attention.k_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        return rotate(keys, self.rope(tokens.hidden, tokens.positions))

    def attention_rows(self, index: int, tokens: LiveTokens, queries: Tensor, keys: Tensor) -> Tensor:
        """Post-softmax attention of the chosen queries [B, R] over the live keys: [B, H, R, S], fp32.

        Recomputed from the block's input, so the model itself can keep a kernel that returns no weights. Grouped
        query heads are folded into the query axis instead of repeating the keys.
        """
        attention = self._blocks[index].self_attn
        chosen = tokens.hidden.gather(1, queries[..., None].expand(-1, -1, tokens.hidden.shape[-1]))
        normed = self._blocks[index].input_layernorm(chosen)
        heads = attention.q_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        heads = rotate(heads, self.rope(tokens.hidden, tokens.positions.gather(1, queries)))
        rows, num_heads, count, _ = heads.shape
        folded = heads.reshape(rows, keys.shape[1], -1, heads.shape[-1])
        logits = (folded.float() @ keys.float().transpose(-1, -2)).view(rows, num_heads, count, -1) * attention.scaling
        key_index = torch.arange(keys.shape[2], device=keys.device)
        visible = (key_index <= queries[..., None]) & tokens.valid[:, None]
        return logits.masked_fill(~visible[:, None], float("-inf")).softmax(-1)

    def block(self, index: int, hidden: Tensor, mask: Tensor | None, rope: Rope, cache: Any) -> Tensor:
        """Run block `index` (from 0) on `hidden` [B, T, D], appending to `cache`.

        Position ids travel in `rope` alone: given separately, gaps in them look like packed sequences to flash.
        """
        return self._blocks[index](
            hidden,
            attention_mask=mask,
            use_cache=True,
            position_embeddings=rope,
            **{self._cache_names[index]: cache},
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [B, vocab] of the last position of `hidden` [B, T, D]."""
        return self._head(self._model.norm(hidden[:, -1:]))[:, -1]

    def rope(self, hidden: Tensor, positions: Tensor) -> Rope:
        """Rotary tables (cos, sin) for position ids [B, T]."""
        return self._model.rotary_emb(hidden, position_ids=positions)

    def _mask(self, valid: Tensor, padded: bool, queries: int | None = None) -> Tensor | None:
        """The mask of `queries` last positions (default: all) over keys `valid` [B, S], in the kernel's own form.

        SDPA: None where its causal flag is right, else bool [B, 1, T, S]. Flash: bool [B, S], None without padding; it
        aligns to the bottom right by itself. Eager: always an additive [B, 1, T, S].
        """
        length = valid.shape[1]
        queries = length if queries is None else queries
        if self._attention == "flash_attention_2":
            return valid if padded else None
        if not padded and (queries == length or queries == 1) and self._attention == "sdpa":
            return None
        index = torch.arange(length, device=valid.device)
        own = index[length - queries :, None]
        # A padded query sees itself: a row without any key would turn to NaN.
        return self._additive((((index <= own) & valid[:, None]) | (index == own))[:, None])

    def _additive(self, mask: Tensor) -> Tensor:
        if self._attention != "eager":
            return mask
        dtype = self._model.embed_tokens.weight.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


@dataclass
class BlockState:
    """The view of one block boundary handed to a pruner (`hero_ray.methods.base.LayerState` in the flesh)."""

    blocks: Blocks
    tokens: LiveTokens
    index: int
    num_visual: Tensor
    cached_keys: Tensor | None = None

    @property
    def layer(self) -> int:
        return self.index + 1

    @property
    def num_layers(self) -> int:
        return self.blocks.num_layers

    @property
    def hidden(self) -> Tensor:
        return self.tokens.hidden

    @property
    def valid(self) -> Tensor:
        return self.tokens.valid

    @property
    def visual(self) -> Tensor:
        return self.tokens.visual

    @property
    def instruction(self) -> Tensor:
        return self.tokens.instruction

    @property
    def after_image(self) -> Tensor:
        return self.tokens.after_image

    @property
    def positions(self) -> Tensor:
        return self.tokens.positions

    def keys(self) -> Tensor:
        """Keys of this block after RoPE, [B, kv_heads, S, head_dim]; computed if the block has not run."""
        if self.cached_keys is None:
            self.cached_keys = self.blocks.block_keys(self.index, self.tokens)
        return self.cached_keys

    def attention_rows(self, queries: Tensor) -> Tensor:
        """Post-softmax rows [B, H, R, S] for query indices [B, R], fp32; a causal mask over the live keys."""
        return self.blocks.attention_rows(self.index, self.tokens, queries, self.keys())

    def rope_bias(self, queries: Tensor) -> Tensor:
        """Logits [B, R, S], fp32, of all-ones queries [B, R] and keys: what rotary positions alone favour."""
        cos, sin = (table.float() for table in self.blocks.rope(self.hidden, self.positions))
        half, width = cos.shape[-1] // 2, cos.shape[-1]
        ones = torch.cat([(cos - sin)[..., :half], (cos + sin)[..., half:]], -1)
        rows = ones.gather(1, queries[..., None].expand(-1, -1, width))
        return rows @ ones.mT * width**-0.5

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The language model's last norm."""
        return self.blocks.final_norm(hidden)


def rotate(heads: Tensor, rope: Rope) -> Tensor:
    """Rotary embedding in its half-split form on `[B, heads, S, head_dim]`."""
    cos, sin = rope[0].unsqueeze(1), rope[1].unsqueeze(1)
    half = heads.shape[-1] // 2
    turned = torch.cat((-heads[..., half:], heads[..., :half]), -1)
    return heads * cos + turned * sin
