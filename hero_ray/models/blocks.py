"""The language model's blocks one at a time, and what a pruner sees of the boundary between two.

Shape letters: B rows, S positions, D width, H heads, R queries, T positions of one pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hero_ray.models.cache import cache_argument
from hero_ray.models.heads import Rope, grouped_products, projected, rotate, turning_point, windows
from hero_ray.models.lean import LeanBlock
from hero_ray.models.live import LiveTokens, taken

Moved = tuple[Tensor, Tensor]
"""What a part of a block was given, after its norm, and what it gave, before it is added: [B, S, D] each."""
Masks = dict[int | None, Tensor | None]
"""The attention mask of blocks by their sliding window; None is a block without one."""


class Blocks:
    """Transformers' own blocks of a language model, as weight holders and as functions.

    Args:
        language_model: transformers' Llama, Mistral, Qwen2, Qwen3 or Phi-3 model, without its head.
        head: the output projection.
        attention: the kernel set on the model: `sdpa`, `flash_attention_2` or `eager`.

    Attributes:
        turning: position from which the rotary frequencies are others, or None.

    Raises:
        CheckpointError: a block that takes no key-value cache by a name we know.
    """

    def __init__(self, language_model: Any, head: nn.Module, attention: str = "sdpa") -> None:
        self._model = language_model
        self._blocks = list(language_model.layers)
        self._cache_names = [cache_argument(block) for block in self._blocks]
        self._lean = [LeanBlock.of(block, attention) for block in self._blocks]
        self._head = head
        self._attention = attention
        config = getattr(language_model, "config", None)
        self._windows = windows(config, len(self._blocks))
        self.turning = turning_point(config)
        self._dynamic = (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "dynamic"

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
        normed = self._normed(index, tokens.hidden)
        keys = projected(self._blocks[index].self_attn, normed, "k").transpose(1, 2)
        return rotate(keys, self.rope(tokens.hidden, tokens.positions))

    def block_values(self, index: int, tokens: LiveTokens) -> Tensor:
        """Values of a block, computed from its input: [B, kv_heads, S, head_dim]."""
        return projected(self._blocks[index].self_attn, self._normed(index, tokens.hidden), "v").transpose(1, 2)

    def unturned_logits(self, index: int, tokens: LiveTokens, queries: Tensor) -> Tensor:
        """Logits [B, H, R, S], fp32, of queries [B, R] over all keys of a block before RoPE, its scale applied."""
        attention, normed = self._blocks[index].self_attn, self._normed(index, tokens.hidden)
        chosen = taken(normed, queries)
        heads, keys = projected(attention, chosen, "q"), projected(attention, normed, "k")
        return grouped_products(heads.transpose(1, 2), keys.transpose(1, 2)) * attention.scaling

    @contextmanager
    def watching(self, index: int) -> Iterator[dict[str, Moved]]:
        """Notes what attention and MLP of a block make of their (normed) inputs while it runs: name -> (in, out)."""
        seen: dict[str, Moved] = {}

        def note(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, given: Any, named: dict[str, Any], result: Any) -> None:
                source = given[0] if given else named["hidden_states"]
                seen[name] = (source, result[0] if isinstance(result, tuple) else result)

            return hook

        parts = {"attention": self._blocks[index].self_attn, "mlp": self._blocks[index].mlp}
        hooks = [part.register_forward_hook(note(name), with_kwargs=True) for name, part in parts.items()]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def _normed(self, index: int, hidden: Tensor) -> Tensor:
        return self._blocks[index].input_layernorm(hidden)  # type: ignore[no-any-return]

    def attention_rows(self, index: int, tokens: LiveTokens, queries: Tensor, keys: Tensor) -> Tensor:
        """Post-softmax attention of the chosen queries [B, R] over the live keys: [B, H, R, S], fp32.

        Recomputed from the block's input, so the model itself can keep a kernel that returns no weights.
        """
        attention = self._blocks[index].self_attn
        chosen = taken(tokens.hidden, queries)
        heads = projected(attention, self._normed(index, chosen), "q").transpose(1, 2)
        asked = taken(tokens.positions, queries)
        heads = rotate(heads, self.rope(tokens.hidden, asked, tokens.positions))
        logits = grouped_products(heads, keys) * attention.scaling
        key_index = torch.arange(keys.shape[2], device=keys.device)
        visible = (key_index <= queries[..., None]) & tokens.valid[:, None]
        if (window := self._windows[index]) is not None:
            visible &= asked[..., None] - tokens.positions[:, None] < window
        return logits.masked_fill(~visible[:, None], float("-inf")).softmax(-1)

    def block(self, index: int, hidden: Tensor, masks: Masks, rope: Rope, cache: Any) -> Tensor:
        """Run block `index` (from 0) on `hidden` [B, T, D] under its mask of `masks`, appending to `cache`.

        Position ids travel in `rope` alone: given separately, gaps in them look like packed sequences to flash.
        """
        return self._blocks[index](
            hidden,
            attention_mask=masks[self._windows[index]],
            use_cache=True,
            position_embeddings=rope,
            **{self._cache_names[index]: cache} | ({} if cache.prefix is None else {"prefix": cache.prefix}),
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [B, vocab] of the last position of `hidden` [B, T, D]."""
        return self._head(self._model.norm(hidden[:, -1:]))[:, -1]

    def rope(self, hidden: Tensor, positions: Tensor, reach: Tensor | None = None) -> Rope:
        """Rotary tables (cos, sin) for position ids [B, T], or [B, T, 3] in time, row and column, of rows that reach as
        far as `reach` (default: as these).

        Phi-3's long variant has other frequencies for a prompt beyond its original context. Stock asks the longest
        row of a batch; here every row is asked alone, so that no answer depends on its neighbours.
        """
        rotary = self._model.rotary_emb
        positions = positions if positions.dim() == 2 else positions.movedim(-1, 0)  # as transformers wants planes
        if self._dynamic or (hidden.is_meta and self.turning is not None):
            # Past what looks at the positions: shapes have none, and no prompt gets where dynamic scaling begins.
            return inspect.unwrap(type(rotary).forward)(rotary, hidden, positions)  # type: ignore[no-any-return]
        if self.turning is None:
            return rotary(hidden, position_ids=positions)  # type: ignore[no-any-return]
        last = (positions if reach is None else reach).amax(1, keepdim=True)
        # One more column decides which frequencies stock takes for all of the call.
        tables = []
        for far in (False, True):
            limit = torch.full_like(last, self.turning if far else 0)
            own = torch.cat([positions.clamp(max=positions if far else self.turning - 1), limit], 1)
            tables.append(rotary(hidden, position_ids=own))
        beyond = (last >= self.turning)[..., None]
        cos, sin = (torch.where(beyond, long, short)[:, :-1] for short, long in zip(*tables, strict=True))
        return cos, sin

    def masks(self, valid: Tensor, positions: Tensor, padded: bool, queries: int | None = None) -> Masks:
        """Every block's mask of `queries` last positions (default: all) over keys `valid` [B, S]: {window: mask}.

        Args:
            positions: [B, S] position ids of the keys; a window of W shows a query what is less than W behind it.
        """
        found: Masks = {None: self._mask(valid, padded, queries)} if None in self._windows else {}
        for window in self.sizes:
            near = None
            # Flash cuts its window by itself.
            if self._attention != "flash_attention_2" and not valid.is_meta and int(positions.max()) >= window:
                own = positions if queries is None else positions[:, positions.shape[1] - queries :]
                near = (own[..., None] - positions[:, None] < window)[:, None]
            found[window] = self._mask(valid, padded, queries, near)
        return found

    @property
    def sizes(self) -> list[int]:
        """The sliding windows of this model's blocks, each once."""
        return sorted({window for window in self._windows if window is not None})

    def _mask(
        self, valid: Tensor, padded: bool, queries: int | None = None, near: Tensor | None = None
    ) -> Tensor | None:
        """The mask of `queries` last positions (default: all) over keys `valid` [B, S], in the kernel's own form.

        SDPA: None where its causal flag is right, else bool [B, 1, T, S]. Flash: bool [B, S], None without padding; it
        aligns to the bottom right by itself. Eager: always an additive [B, 1, T, S]. `near`, bool [B, 1, T, S], is what
        a sliding window leaves.
        """
        length = valid.shape[1]
        queries = length if queries is None else queries
        if self._attention == "flash_attention_2":
            return valid if padded else None
        if near is None and not padded and (queries == length or queries == 1) and self._attention == "sdpa":
            return None
        index = torch.arange(length, device=valid.device)
        own = index[length - queries :, None]
        # A padded query sees itself: a row without any key would turn to NaN.
        seen = ((index <= own) & valid[:, None])[:, None]
        return self._additive((seen if near is None else seen & near) | (index == own))

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
    moves: Mapping[str, Moved] | None = None

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

    def values(self) -> Tensor:
        """Values of this block, [B, kv_heads, S, head_dim]."""
        return self.blocks.block_values(self.index, self.tokens)

    def moved(self, part: Literal["attention", "mlp"]) -> Moved:
        """What a part of the block just run was given and what it gave; only where the pruner `watches` the block."""
        assert self.moves is not None, f"block {self.layer} was not watched"
        return self.moves[part]

    def attention_rows(self, queries: Tensor) -> Tensor:
        """Post-softmax rows [B, H, R, S] for query indices [B, R], fp32; a causal mask over the live keys."""
        return self.blocks.attention_rows(self.index, self.tokens, queries, self.keys())

    def unturned_logits(self, queries: Tensor) -> Tensor:
        """Logits [B, H, R, S] of query indices [B, R] over all keys without RoPE, scaled, fp32; no mask."""
        return self.blocks.unturned_logits(self.index, self.tokens, queries)

    def rope(self) -> Rope:
        """Rotary tables (cos, sin) of every position, [B, S, turned width] each."""
        return self.blocks.rope(self.hidden, self.positions)

    def rope_bias(self, queries: Tensor) -> Tensor:
        """Logits [B, R, S], fp32, of all-ones queries [B, R] and keys: what rotary positions alone favour."""
        cos, sin = (table.float() for table in self.rope())
        half, width = cos.shape[-1] // 2, cos.shape[-1]
        ones = torch.cat([(cos - sin)[..., :half], (cos + sin)[..., half:]], -1)
        rows = ones.gather(1, queries[..., None].expand(-1, -1, width))
        return rows @ ones.mT * width**-0.5

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The language model's last norm."""
        return self.blocks.final_norm(hidden)
