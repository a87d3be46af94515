"""What a call allocates on the meta device, by size and lifetime: memory of a model of any size without any."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hero_ray import models


@cache
def weightless(name: str) -> Any:
    """A named model in its true size on the meta device, in the type it is published in."""
    return models.load(name, device="meta", dtype="bfloat16")


class _Attention(TorchFunctionMode):
    """Attention as a kernel that holds no square: an output laid out [B, S, H, D], and nothing else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") != "scaled_dot_product_attention":
            return func(*args, **(kwargs or {}))
        rows, heads, length, _ = args[0].shape
        width = args[2].shape[-1]
        return torch.empty(rows, length, heads, width, dtype=args[0].dtype, device=args[0].device).transpose(1, 2)


class _Tracker(TorchDispatchMode):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
        self._alive: dict[int, Any] = {}
        self.live = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive or key in self._known:
            return

        def gone(_: Any) -> None:
            del self._alive[key]
            self.live -= size

        self._alive[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def peak_of(model: torch.nn.Module, call: Callable[[], Any]) -> int:
    """Most bytes alive at once during a call, a model's own weights apart."""
    with _Attention(), _Tracker(model) as tracker:
        kept = call()
    del kept
    return tracker.peak
