"""A key-value cache with room set aside: a decode step writes one slot and copies nothing.

transformers' `DynamicCache` concatenates the whole cache at every step, which slows the unpruned baseline for a reason
that has nothing to do with attention and so flatters every pruned method. Layers may hold different lengths.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from hero_ray.core.errors import CheckpointError, PromptError

# What transformers calls the cache of a decoder block: since 5.24, and until 5.40 takes the older name away.
_NAMES = ("cache", "past_key_values")
_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def cache_argument(block: nn.Module) -> str:
    """The keyword by which a decoder block takes its cache.

    The signature is read below decorators: the older name still passes through transformers' deprecation wrapper, and
    either name passes into a `**kwargs`, where it would vanish and the block would run without a cache.

    Raises:
        CheckpointError: the block declares neither name.
    """
    declared = inspect.signature(block.forward)
    for name in _NAMES:
        if name in declared.parameters and declared.parameters[name].kind in _KEYWORD:
            return name
    raise CheckpointError(
        f"{type(block).__name__} takes ({', '.join(declared.parameters)}), no key-value cache; expected one of "
        f"{', '.join(_NAMES)}. Install a transformers release within the range that hero-ray requires"
    )


class KeyValueCache:
    """Keys and values of every block, `[rows, kv_heads, capacity, head_dim]`; quacks like transformers' `Cache`.

    Args:
        num_layers: blocks of the language model.
        room: slots kept free behind the first write of every block.
        prefix: what stands before these keys and is read elsewhere (`hero_ray.models.prefix.SharedPrefix`), or None.
    """

    def __init__(self, num_layers: int, room: int = 0, prefix: Any = None) -> None:
        self.room, self.prefix = room, prefix
        self._keys: list[Tensor | None] = [None] * num_layers
        self._values: list[Tensor | None] = [None] * num_layers
        self._lengths = [0] * num_layers

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append `[rows, kv_heads, new, head_dim]` to a block (0-based, as transformers counts); return all of it."""
        start, new = self._lengths[layer_idx], keys.shape[2]
        stored_keys, stored_values = self._keys[layer_idx], self._values[layer_idx]
        if stored_keys is None or stored_values is None:
            stored_keys = _with_room(keys, self.room)
            stored_values = _with_room(values, self.room)
            self._keys[layer_idx], self._values[layer_idx] = stored_keys, stored_values
        elif start + new > stored_keys.shape[2]:
            raise PromptError(
                f"the cache holds {stored_keys.shape[2]} positions and {start + new} are needed; "
                "ask for the room of all new tokens when the prompt is run"
            )
        else:
            stored_keys.narrow(2, start, new).copy_(keys)
            stored_values.narrow(2, start, new).copy_(values)
        self._lengths[layer_idx] = start + new
        return stored_keys.narrow(2, 0, start + new), stored_values.narrow(2, 0, start + new)

    def keys(self, index: int) -> Tensor:
        """Keys of a block after RoPE, `[rows, kv_heads, length, head_dim]`."""
        stored = self._keys[index]
        assert stored is not None, f"block {index} has not run"
        return stored[:, :, : self._lengths[index]]

    def values(self, index: int) -> Tensor:
        """Values of a block, `[rows, kv_heads, length, head_dim]`."""
        stored = self._values[index]
        assert stored is not None, f"block {index} has not run"
        return stored[:, :, : self._lengths[index]]

    @property
    def num_layers(self) -> int:
        return len(self._keys)

    def length(self, index: int) -> int:
        """Positions written in a block, padding included."""
        return self._lengths[index]

    def bytes_per_position(self, index: int) -> int:
        """Bytes that one position of one row takes in a block, keys and values."""
        keys, values = self._keys[index], self._values[index]
        assert keys is not None
        assert values is not None
        return sum(tensor.shape[1] * tensor.shape[3] * tensor.element_size() for tensor in (keys, values))

    def keep(self, order: Tensor) -> None:
        """Only the positions `order` [rows, kept] of every block that has run, in that order, room behind them anew."""
        for index, length in enumerate(self._lengths):
            keys, values = self._keys[index], self._values[index]
            if keys is None or values is None:
                continue
            chosen = order[:, None, :, None].expand(-1, keys.shape[1], -1, keys.shape[3])
            self._keys[index] = _with_room(keys[:, :, :length].gather(2, chosen), self.room)
            chosen = chosen[..., :1].expand(-1, -1, -1, values.shape[3])
            self._values[index] = _with_room(values[:, :, :length].gather(2, chosen), self.room)
            self._lengths[index] = order.shape[1]

    def branch(self, rows: Tensor, room: int) -> KeyValueCache:
        """A new cache whose row i starts as a copy of row `rows[i]`, with `room` free slots behind it."""
        branched = KeyValueCache(len(self._keys), room)
        for index, length in enumerate(self._lengths):
            keys, values = self._keys[index], self._values[index]
            assert keys is not None
            assert values is not None
            branched._keys[index] = _with_room(keys[:, :, :length], room, rows)
            branched._values[index] = _with_room(values[:, :, :length], room, rows)
            branched._lengths[index] = length
        return branched


def _with_room(source: Tensor, room: int, rows: Tensor | None = None) -> Tensor:
    count = source.shape[0] if rows is None else rows.shape[0]
    length = source.shape[2]
    buffer = source.new_empty(count, source.shape[1], length + room, source.shape[3])
    if rows is None:
        buffer.narrow(2, 0, length).copy_(source)
    else:
        torch.index_select(source, 0, rows, out=buffer[:, :, :length])  # straight in, without a copy between
    return buffer
