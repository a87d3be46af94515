"""A pretended accelerator: CPU numbers under tensors that say they lie on `cuda:0`.

It refuses what a real device would refuse (a tensor left on the CPU among those on the device, `numpy()` without
`cpu()`) and names the line, and it counts what would make the host wait (`item`, `tolist`, `cpu`, a shape that hangs on
values) or copy something up. What cannot be seen here: kernels, streams, memory, the rounding of a real device.

Moves between devices are seen at the Python surface, where the device is named; everything else below, operator by
operator. A wait is counted where PyTorch's CUDA kernels wait: `bincount` reads its largest value, a mask as an index is
turned into places, `isin` of many elements sorts and takes what is unique.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda:0")
aten = torch.ops.aten
ROOT = Path(__file__).resolve().parents[1]
_WAITING = {
    aten._local_scalar_dense.default: "one value read",
    aten.equal.default: "equal",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "mask as index",
    aten.bincount.default: "bincount",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.unique_consecutive.default: "unique",
    aten.repeat_interleave.Tensor: "repeat_interleave",
}
_INDEXED = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._unsafe_index.Tensor,
    aten._index_put_impl_.default,
}
_FACTORIES = ("empty", "zeros", "ones", "arange", "full", "rand", "randn", "randint", "eye", "linspace", "randperm")
_FROM_HOST = ("tensor", "as_tensor", "asarray")
_SEEN = frozenset({*_FACTORIES, *_FROM_HOST, "to", "cpu", "cuda", "tolist", "numpy", "__array__"})


class DeviceMixError(RuntimeError):
    """A tensor on the CPU where the device's own are asked for, with the line that put it there."""


@dataclass
class Device:
    """What was asked of the pretended device, by (call, line)."""

    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    copies: Counter[tuple[str, str]] = field(default_factory=Counter)

    def wait(self, cause: str) -> None:
        self.waits[cause, caller()] += 1

    def copy(self, cause: str) -> None:
        self.copies[cause, caller()] += 1

    def clear(self) -> None:
        self.waits.clear()
        self.copies.clear()

    def told(self) -> str:
        """Every wait with its line, most frequent first."""
        return "\n".join(f"{count:4d} {cause:16s} {line}" for (cause, line), count in self.waits.most_common())


_current: list[Device] = [Device()]


def caller() -> str:
    """The innermost line of ours that is running, else of transformers; of a shared look, the line that asked."""
    frame: Any = sys._getframe(1)
    foreign = "?"
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith((f"{ROOT}/hero_ray/", f"{ROOT}/perf/")) and not file.endswith("/core/looks.py"):
            return f"{Path(file).relative_to(ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        if foreign == "?" and file != __file__ and "/torch/" not in file:
            foreign = f"{'/'.join(Path(file).parts[-3:])}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return foreign


class Pretended(torch.Tensor):
    """A tensor whose values lie on the CPU and whose device is `cuda:0`."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Pretended:
        shape, strides = inner.size(), inner.stride()
        made = torch.Tensor._make_wrapper_subclass(cls, shape, strides, inner.storage_offset(), dtype=inner.dtype)
        made.inner = inner
        return made  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Pretended({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _operate(func, args, kwargs or {})


def up(value: Any) -> Any:
    """A tensor, or every tensor of a list or tuple, on the pretended device."""
    if isinstance(value, (list, tuple)):
        return type(value)(up(one) for one in value)
    return Pretended(value) if _plain(value) else value


def down(value: Any) -> Any:
    """The same on the CPU; nothing is counted."""
    if isinstance(value, (list, tuple)):
        return type(value)(down(one) for one in value)
    return value.inner if isinstance(value, Pretended) else value


def _plain(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, Pretended)


def _operate(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """One operator on at least one of the device's tensors; a device named at this depth is theirs."""
    plain: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()):
        plain += filter(_plain, value if isinstance(value, (list, tuple)) else (value,))
    _refuse_mix(func, args, plain)
    _count_wait(func, args)
    if func is aten.copy_.default:
        return _copied(args)
    out = func(*map(down, args), **{name: down(value) for name, value in kwargs.items()})
    if "out" in kwargs:
        return kwargs["out"]
    return args[0] if _writes(func) else up(out)


@cache
def _writes(func: Any) -> bool:
    """Whether an operator writes into its first argument and gives it back."""
    first = func._schema.arguments[0].alias_info if func._schema.arguments else None
    return first is not None and bool(first.is_write)


def _refuse_mix(func: Any, args: tuple[Any, ...], plain: list[torch.Tensor]) -> None:
    mixed = [tensor for tensor in plain if tensor.dim()]  # a scalar on the CPU goes along as an argument of the kernel
    if not mixed or func is aten.copy_.default:
        return
    if func in _INDEXED and isinstance(args[0], Pretended):
        values = args[2:3] if len(args) > 2 else ()
        if not any(_plain(value) and value.dim() for value in values):
            _current[-1].copy("index on the CPU")
            return
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in mixed)
    raise DeviceMixError(f"{func} got tensors on cuda:0 and, on the CPU, {shapes}; at {caller()}")


def _count_wait(func: Any, args: tuple[Any, ...]) -> None:
    device = _current[-1]
    if func in _WAITING:
        device.wait(_WAITING[func])
    elif func in _INDEXED and any(_is_mask(index) for index in args[1]):
        device.wait("mask as index")
    elif func is aten.isin.Tensor_Tensor and args[1].numel() >= 10 * args[0].numel() ** 0.145:
        device.wait("isin of many")


def _is_mask(index: Any) -> bool:
    return isinstance(index, Pretended) and index.dtype in (torch.bool, torch.uint8)


def _copied(args: tuple[Any, ...]) -> Any:
    target, source = args[:2]
    if not isinstance(target, Pretended):
        _current[-1].wait("copy to the host")
    elif _plain(source) and source.dim():
        _current[-1].copy("copy to the device")
    down(target).copy_(down(source))
    return target


class _Surface(TorchFunctionMode):
    """Where a device is named: moves, factories, and what reads a tensor's memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in _SEEN and not name.startswith("new_"):
            return func(*args, **kwargs)
        kwargs, own = dict(kwargs), bool(args) and isinstance(args[0], Pretended)
        if name in _FACTORIES + _FROM_HOST:
            return _factory(name, func)(*args, **kwargs)
        if name in ("to", "cpu", "cuda") and isinstance(args[0], torch.Tensor):
            return _moved(func, name, args, kwargs)
        if own and name == "tolist":
            _current[-1].wait("tolist")
            return args[0].inner.tolist()
        if own and name in ("numpy", "__array__"):
            raise DeviceMixError(f"a tensor on cuda:0 has no numpy array, use cpu() first; at {caller()}")
        if own and name == "new_tensor":
            _current[-1].copy("copy to the device")
            return up(args[0].inner.new_tensor(*args[1:], **kwargs))
        if own and name.startswith("new_"):
            kwargs.pop("device", None)
        return func(*args, **kwargs)


def _factory(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
    """A factory that knows the device; torch's own Python functions call it too, where no mode looks."""

    def make(*args: Any, **kwargs: Any) -> Any:
        if not _is_cuda(kwargs.get("device")):
            return made(*args, **kwargs)
        kwargs.pop("device")
        if name in _FROM_HOST:
            _current[-1].copy("copy to the device")
        return up(made(*down(args), **kwargs))

    return make


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _moved(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`to`, `cpu` and `cuda`: what changes the type is done where the tensor lies, then it is moved."""
    tensor, device, dtype = args[0], kwargs.get("device"), kwargs.get("dtype")
    for value in args[1:] if name == "to" else ():
        if isinstance(value, torch.Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, (str, torch.device)):
            device = value
    device = {"cpu": "cpu", "cuda": "cuda"}.get(name, device)
    if dtype is not None and dtype != tensor.dtype:
        tensor = tensor.type(dtype)
    if device is None or torch.device(device).type == tensor.device.type:
        return tensor.clone() if kwargs.get("copy") and tensor is args[0] else tensor
    if _is_cuda(device):
        _current[-1].copy("copy to the device")
        return Pretended(tensor)
    _current[-1].wait("copy to the host")
    return tensor.inner.clone()


@contextmanager
def pretended() -> Iterator[Device]:
    """The device is there for the duration; gives the counts of what is asked of it."""
    _current.append(Device())
    try:
        with pytest.MonkeyPatch.context() as patch, _Surface():
            for name in _FACTORIES + _FROM_HOST:
                patch.setattr(torch, name, _factory(name, getattr(torch, name)))
            yield _current[-1]
    finally:
        _current.pop()
