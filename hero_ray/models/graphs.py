"""Decode steps of fixed shape, replayed as one CUDA graph: a batch-1 step is bound by kernel launches otherwise.

The prefilled cache is copied once into buffers of fixed capacity; a step then writes at an index that lives on the
device, and a mask built from that index hides what is not written yet. On other devices the same step runs uncaptured,
which is how it is tested. Greedy output is that of `Runner.decode`.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hero_ray.models.blocks import Masks
from hero_ray.models.decoding import DecodeState
from hero_ray.models.heads import Rope
from hero_ray.models.runner import Runner

_BUCKET = 256
_WARM_UP = 3


class FixedCache:
    """Keys and values of every block in buffers `[rows, kv_heads, capacity, head_dim]`, written at device indices."""

    prefix = None  # `graphs=True` and `prefix=in-place` are refused together

    def __init__(self, keys: list[Tensor], values: list[Tensor], slots: list[Tensor]) -> None:
        self.keys, self.values, self._slots = keys, values, slots

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one position and return the whole buffers; the mask hides the rest."""
        slot = self._slots[layer_idx]
        self.keys[layer_idx].index_copy_(2, slot, keys)
        self.values[layer_idx].index_copy_(2, slot, values)
        return self.keys[layer_idx], self.values[layer_idx]


@dataclass
class _FixedSpan:
    """A span with its length and positions on the device."""

    valid: Tensor  # bool [rows, capacity]
    slot: Tensor  # int64 [1], where the next token is written
    position: Tensor  # int64 [rows, 1]


class FixedSteps:
    """Buffers, and on CUDA the captured graph, for one batch size, capacity and pattern of spans."""

    def __init__(self, runner: Runner, state: DecodeState, capacity: int) -> None:
        self._runner, self._span_of, self._capacity = runner, list(state.span_of), capacity
        device, rows = state.logits.device, state.logits.shape[0]
        self._tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self._spans = [
            _FixedSpan(
                torch.ones(rows, capacity, dtype=torch.bool, device=device),
                torch.zeros(1, dtype=torch.long, device=device),
                torch.zeros(rows, 1, dtype=torch.long, device=device),
            )
            for _ in state.spans
        ]
        self._cache = FixedCache(
            # Zeros: a hidden slot is multiplied by a weight of 0, and 0 times uninitialised memory may be NaN.
            [self._buffer(state.cache.keys(index)) for index in range(len(self._span_of))],
            [self._buffer(state.cache.values(index)) for index in range(len(self._span_of))],
            [self._spans[span].slot for span in self._span_of],
        )
        self._graph: Any = None
        self._logits: Tensor | None = None

    def load(self, state: DecodeState) -> None:
        """Take over a freshly prefilled batch."""
        for index in range(len(self._span_of)):
            length = state.cache.length(index)
            self._cache.keys[index][:, :, :length] = state.cache.keys(index)
            self._cache.values[index][:, :, :length] = state.cache.values(index)
        for mine, span in zip(self._spans, state.spans, strict=True):
            mine.valid.fill_(True)
            mine.valid[:, : span.length] = span.valid[:, : span.length]
            mine.slot.fill_(span.length)
            mine.position.copy_(span.next_position)

    def step(self, token_ids: Tensor) -> Tensor:
        """Feed [rows] tokens; logits [rows, vocab], valid until the next step."""
        self._tokens.copy_(token_ids)
        if not self._tokens.is_cuda:
            return self._advance()
        if self._graph is None:
            self._capture()
        self._graph.replay()
        assert self._logits is not None
        return self._logits

    @torch.no_grad()
    def _advance(self) -> Tensor:
        runner = self._runner
        hidden = runner.embed(self._tokens[:, None])
        slots = torch.arange(self._capacity, device=hidden.device)
        masks = [(span.valid & (slots <= span.slot))[:, None, None] for span in self._spans]
        ropes = [runner.rope(hidden, span.position) for span in self._spans]
        tables: list[tuple[Masks, Rope]] = [({None: mask}, rope) for mask, rope in zip(masks, ropes, strict=True)]
        hidden = runner.step(hidden, tables, self._span_of, self._cache)
        for span in self._spans:
            span.slot += 1
            span.position += 1
        return runner.logits(hidden)

    def _capture(self) -> None:
        # Warm-up and capture advance the counters and write garbage ahead; both are put back.
        saved = [(span.slot.clone(), span.position.clone()) for span in self._spans]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._advance()
                self._restore(saved)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = self._advance()
        self._restore(saved)

    def _restore(self, saved: list[tuple[Tensor, Tensor]]) -> None:
        for span, (slot, position) in zip(self._spans, saved, strict=True):
            span.slot.copy_(slot)
            span.position.copy_(position)

    def _buffer(self, source: Tensor) -> Tensor:
        rows, heads, _, width = source.shape
        return source.new_zeros(rows, heads, self._capacity, width)


class GraphedDecode:
    """A drop-in for `Runner.decode` that keeps a few sets of fixed buffers, least recently used out first.

    Args:
        runner: the block loop; its attention must take boolean masks (`sdpa`).
        keep: sets of buffers kept.
    """

    def __init__(self, runner: Runner, keep: int = 2) -> None:
        self._runner, self._keep = runner, keep
        self._known: OrderedDict[tuple[int, int, tuple[int, ...]], FixedSteps] = OrderedDict()
        # Weak: held here, the last answer's cache would count in the next one's peak memory.
        self._current: tuple[weakref.ref[DecodeState], FixedSteps] | None = None

    def reserve(self, sets: int) -> None:
        """Keep at least `sets` sets: methods that are timed in turns must not capture anew at every turn."""
        self._keep = max(self._keep, sets)

    def release(self) -> None:
        """Let all buffers and graphs go: what is measured next must not find them in memory."""
        self._known.clear()
        self._current = None

    def __call__(self, state: DecodeState, token_ids: Tensor) -> Tensor:
        """One step; `state.logits` is advanced, the cache inside `state` is not."""
        if self._current is None or self._current[0]() is not state:
            self._current = (weakref.ref(state), self._steps_for(state))
            self._current[1].load(state)
        state.logits = self._current[1].step(token_ids)
        return state.logits

    def _steps_for(self, state: DecodeState) -> FixedSteps:
        longest = max(span.valid.shape[1] for span in state.spans)
        capacity = -(-longest // _BUCKET) * _BUCKET
        key = (state.logits.shape[0], capacity, tuple(state.span_of))
        if key not in self._known:
            while len(self._known) >= self._keep:
                self._known.popitem(last=False)
            self._known[key] = FixedSteps(self._runner, state, capacity)
        self._known.move_to_end(key)
        return self._known[key]
