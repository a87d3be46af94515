"""Our own pass over the language model's blocks: left-padded batches whose live tokens may shrink from block to block.

Stock `forward` hands every block one mask and one set of positions, so it cannot express different token sets per
block and per row. The blocks themselves are transformers' own; with nothing pruned the result equals stock
`generate()` bit for bit. Shape letters: B rows, S positions, D width, H heads, R queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hero_ray.core.errors import SelectionError
from hero_ray.models.batch import PromptBatch
from hero_ray.models.blocks import Blocks, BlockState, Masks
from hero_ray.models.cache import KeyValueCache
from hero_ray.models.decoding import DecodeState, Span, with_room
from hero_ray.models.heads import Rope
from hero_ray.models.lean import Turns, Wanted, turns
from hero_ray.models.live import LiveTokens, Positions
from hero_ray.models.prefix import ATTENTION, SharedPrefix

_MASKED = 2**22
"""Numbers of a mask that may stay for all of a pass, four times as large as the truths it is made of."""


class Runner(Blocks):
    """Prefill, prefix reuse and decode over the blocks of a language model."""

    @torch.no_grad()
    def prefill(
        self,
        batch: PromptBatch,
        pruner: Any = None,
        positions: Positions = "compact",
        room: int = 0,
        wanted: Wanted = "all",
    ) -> DecodeState:
        """Run whole prompts; `pruner` may drop visual tokens between blocks.

        Args:
            batch: left-padded prompts.
            pruner: an object with `before(state)` and `after(state)` (`hero_ray.methods.base.LayerPruner`), or None.
            positions: whether survivors are renumbered or keep their position ids.
            room: new tokens the cache must be able to take.
            wanted: `none` for what is only to be extended: nothing behind the last block's keys and values is run, and
                there are no logits.

        Raises:
            SelectionError: a pruner's answer does not fit the batch.
        """
        self.look()
        tokens = live_tokens(batch)
        hidden = tokens.hidden
        # Only a pruner asks.
        num_visual = torch.tensor(() if pruner is None else batch.num_visual, device=batch.embeds.device)
        cache = KeyValueCache(self.num_layers, room)
        spans: list[Span] = []
        span_of: list[int] = []
        fresh = True
        for index in range(self.num_layers):
            if pruner is not None:
                survivors = pruner.before(BlockState(self, tokens, index, num_visual))
                if survivors is not None:
                    if getattr(survivors, "everywhere", False):
                        self._forget(cache, spans, tokens, survivors, room)
                    tokens, fresh = self._survive(tokens, survivors, positions), True
                    hidden = tokens.hidden
            if fresh:
                masks = self.added(self.masks(tokens.valid, tokens.positions, tokens.padded), hidden, cache)
                rope = self.rope(hidden, tokens.positions)
                short = turns(*rope)
                spans.append(_span(tokens, room, bool(self.sizes)))
                fresh = False
            span_of.append(len(spans) - 1)
            watches = pruner is not None and hasattr(pruner, "watches") and pruner.watches(index + 1, self.num_layers)
            moves = None
            if watches:  # through its modules, which are listened to
                with self.watching(index) as moves:
                    hidden = self.block(index, hidden, masks, rope, cache)
            else:
                part = wanted if index + 1 == self.num_layers else "all"
                hidden = self.run(index, hidden, masks, rope, short, cache, part)
            if pruner is not None:
                pruner.after(BlockState(self, tokens, index, num_visual, cache.keys(index), moves))
            if wanted == "none" and index + 1 == self.num_layers:
                return DecodeState(hidden.new_empty(0), cache, spans, span_of)
            hidden = tokens.deepened(hidden, index)
            if pruner is not None:
                tokens = replace(tokens, hidden=hidden)
        return DecodeState(self.logits(hidden), cache, spans, span_of)

    @torch.no_grad()
    def extend(
        self,
        shared: DecodeState,
        rows: Tensor,
        batch: PromptBatch,
        room: int = 0,
        in_place: Sequence[int] | None = None,
    ) -> DecodeState:
        """Continue prefixes computed once: row i of `batch` follows row `rows[i]` of `shared`. Exact, not approximate.

        `shared` must come from a prefill without a pruner; it stays as it is and may be extended again.

        Args:
            in_place: real tokens of every row of `shared`, whose keys and values are then read where they lie, with
                answers that differ by rounding; None copies them for every row.
        """
        self.look()
        base = shared.spans[0]
        new = batch.embeds.shape[1]
        prefix = None if in_place is None else SharedPrefix(shared.cache, in_place, rows)
        rows = rows.to(batch.embeds.device)
        if prefix is None:
            cache = shared.cache.branch(rows, new + room)
            padded = base.padded or batch.padded
            valid = torch.cat([base.valid[rows, : base.length], batch.valid], 1)
        else:
            self._model.config._attn_implementation = ATTENTION  # for blocks that run through their own modules
            cache, padded, valid = KeyValueCache(self.num_layers, room, prefix), batch.padded, batch.valid
        positions = base.next_position[rows] + (batch.valid.long().cumsum(1) - 1).clamp(min=0)
        # Always an explicit mask: SDPA's causal flag aligns to the top left, which is wrong behind a cached prefix.
        seen = positions if base.positions is None else torch.cat([base.positions[rows], positions], 1)
        hidden = batch.embeds
        masks = self.added(self.masks(valid, seen, padded or prefix is not None, queries=new), hidden, cache)
        rope = self.rope(hidden, positions)
        short = turns(*rope)
        for index in range(self.num_layers):
            part: Wanted = "last" if index + 1 == self.num_layers else "all"
            hidden = self.run(index, hidden, masks, rope, short, cache, part)
        span = Span(
            valid=with_room(valid, room),
            length=valid.shape[1],
            padded=padded,
            next_position=positions[:, -1:] + 1,
            num_valid=base.num_valid[rows] + batch.valid.sum(1),
            num_visual=base.num_visual[rows],
            positions=seen if self.sizes else None,
        )
        return DecodeState(self.logits(hidden), cache, [span], [0] * self.num_layers)

    def look(self) -> None:
        """See that lean passes read the weights that the blocks have now."""
        for lean in self._lean:
            if lean is not None:
                lean.look()

    def run(
        self,
        index: int,
        hidden: Tensor,
        masks: Masks,
        rope: Rope,
        short: Turns,
        cache: Any,
        wanted: Wanted = "all",
    ) -> Tensor:
        """The same as `block` to the last bit, without its modules where that can be; `short` is `turns(*rope)`.

        Where less than `all` is wanted, no more of a lean block is run than that.
        """
        lean = self._lean[index]
        if lean is None:
            return self.block(index, hidden, masks, rope, cache)
        return lean(hidden, masks[self._windows[index]], short, cache, wanted)

    def added(self, masks: Masks, hidden: Tensor, cache: Any) -> Masks:
        """Masks as SDPA adds them to logits: made of truths once a pass, where SDPA would do so in every block."""
        if self._attention != "sdpa" or cache.prefix is not None:
            return masks
        return {window: _added(mask, hidden.dtype) for window, mask in masks.items()}

    def step(self, hidden: Tensor, tables: Sequence[tuple[Masks, Rope]], table_of: Sequence[int], cache: Any) -> Tensor:
        """All blocks on one new token a row, [B, 1, D], block i under the mask and rotary tables `table_of[i]`."""
        short = [turns(*rope) for _, rope in tables]
        shown = [self.added(masks, hidden, cache) for masks, _ in tables]
        for index, number in enumerate(table_of):
            hidden = self.run(index, hidden, shown[number], tables[number][1], short[number], cache)
        return hidden

    @torch.no_grad()
    def decode(self, state: DecodeState, token_ids: Tensor) -> Tensor:
        """One step: feed `token_ids` [B], advance `state`, return logits [B, vocab] (also left in `state.logits`)."""
        hidden = self.embed(token_ids[:, None])
        tables = [self._step_tables(span, hidden) for span in state.spans]
        hidden = self.step(hidden, tables, state.span_of, state.cache)
        for span in state.spans:
            span.length += 1
            if span.positions is not None:
                span.positions = torch.cat([span.positions, span.next_position], 1)
            span.next_position = span.next_position + 1
        state.logits = self.logits(hidden)
        return state.logits

    @torch.no_grad()
    def rows_of(self, batch: PromptBatch, layers: frozenset[int], queries: Tensor) -> dict[int, Tensor]:
        """Attention rows of an unpruned prompt at 1-based `layers`: {layer: [B, H, R, S]}, fp32.

        Blocks below the deepest one run in full, the deepest one only as far as its queries and keys.
        """
        self.look()
        tokens = live_tokens(batch)
        masks = self.masks(tokens.valid, tokens.positions, tokens.padded)
        rope = self.rope(tokens.hidden, tokens.positions)
        short, cache = turns(*rope), KeyValueCache(self.num_layers)
        found: dict[int, Tensor] = {}
        for index in range(max(layers)):
            if index + 1 in layers:
                keys = self.block_keys(index, tokens)
                found[index + 1] = self.attention_rows(index, tokens, queries, keys)
            if index + 1 < max(layers):
                hidden = self.run(index, tokens.hidden, masks, rope, short, cache)
                tokens = replace(tokens, hidden=tokens.deepened(hidden, index))
        return found

    def _step_tables(self, span: Span, hidden: Tensor) -> tuple[Masks, Rope]:
        valid, rope = span.valid[:, : span.length + 1], self.rope(hidden, span.next_position)
        if span.positions is not None:
            return self.masks(valid, torch.cat([span.positions, span.next_position], 1), span.padded, 1), rope
        mask = valid if span.padded else None
        if mask is not None and self._attention != "flash_attention_2":
            mask = self._additive(mask[:, None, None])
        return {None: mask}, rope

    @staticmethod
    def _forget(cache: KeyValueCache, spans: list[Span], tokens: LiveTokens, survivors: Any, room: int) -> None:
        """Take what a first cut drops out of the caches of the blocks already run, for the steps that follow."""
        if len(spans) > 1 or survivors.recycled is not None:
            raise SelectionError("a pruner drops everywhere after an earlier cut, or recycles; expected one plain cut")
        if not spans:
            return
        order, alive = tokens.places(survivors.keep)
        cache.keep(order)
        span = spans[0]
        span.valid, span.length = with_room(alive, room), order.shape[1]
        span.padded, span.num_valid = bool((~alive).any()), alive.sum(1)
        if span.positions is not None:
            span.positions = span.positions.gather(1, order)

    @staticmethod
    def _survive(tokens: LiveTokens, survivors: Any, positions: Positions) -> LiveTokens:
        if survivors.keep.shape != tokens.valid.shape:
            raise SelectionError(
                f"a pruner kept a mask of {tuple(survivors.keep.shape)} where {tuple(tokens.valid.shape)} tokens live"
            )
        return tokens.pack(survivors, positions)


def live_tokens(batch: PromptBatch) -> LiveTokens:
    """All tokens of a batch; positions count from 0 in every row, where the batch does not say them."""
    return LiveTokens(
        hidden=batch.embeds,
        positions=(batch.valid.long().cumsum(1) - 1).clamp(min=0) if batch.positions is None else batch.positions,
        valid=batch.valid,
        visual=batch.visual,
        instruction=batch.instruction,
        after_image=batch.after_image,
        padded=batch.padded,
        next_position=batch.next_position,
        deep=batch.deep,
    )


def _added(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None or mask.numel() > _MASKED:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


def _span(tokens: LiveTokens, room: int, with_positions: bool) -> Span:
    return Span(
        valid=with_room(tokens.valid, room),
        length=tokens.valid.shape[1],
        padded=tokens.padded,
        next_position=tokens.behind,
        num_valid=tokens.valid.sum(1),
        num_visual=tokens.visual.sum(1),
        positions=tokens.positions if with_positions else None,
    )
