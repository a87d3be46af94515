"""Find the calls that make the host wait for the device: what turns a fast selection into a slow one.

`.item()`, `.tolist()`, `bool(tensor)`, `nonzero` and boolean indexing cost a round trip each on CUDA. They are seen
here at the Python surface, so a method can be checked on a machine without a GPU; there every tensor counts as if it
lay on one, and a wait inside compiled operators stays unseen.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_READS = frozenset({"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "__array__"})
_DATA_SHAPED = frozenset({"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "equal", "allclose"})


@dataclass(frozen=True)
class HostSync:
    """One wait: the call and the line it was made from."""

    call: str
    where: str


class _Watch(TorchFunctionMode):
    def __init__(self, on_gpu: bool) -> None:
        super().__init__()
        self.on_gpu = on_gpu
        self.found: list[HostSync] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if _waits(name, args, kwargs, self.on_gpu) and _on_device(args, self.on_gpu):
            self.found.append(HostSync(name, _caller()))
        return func(*args, **kwargs)


def _waits(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], on_gpu: bool) -> bool:
    if name in _READS or name in _DATA_SHAPED:
        return True
    if name == "where":
        return len(args) + len(kwargs) == 1
    if name == "__getitem__":
        return _has_mask(args[1])
    if name == "to":  # without a GPU, "to the CPU" says nothing: there it is the model's own device
        to_host = any(str(value).startswith("cpu") for value in (*args[1:], *kwargs.values()) if _names_device(value))
        return to_host and on_gpu
    return name == "repeat_interleave" and "output_size" not in kwargs and any(map(torch.is_tensor, args[1:]))


def _has_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(torch.is_tensor(part) and part.dtype == torch.bool for part in parts)


def _names_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))


def _on_device(args: tuple[Any, ...], on_gpu: bool) -> bool:
    """For a model on a GPU only its own tensors make the host wait; elsewhere any tensor stands for one."""
    tensors = [value for value in args if torch.is_tensor(value)]
    return any(tensor.is_cuda for tensor in tensors) if on_gpu else bool(tensors)


def _caller() -> str:
    for frame in reversed(traceback.extract_stack()[:-2]):
        if "/torch/" not in frame.filename and frame.filename != __file__:
            return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"
    return "unknown"


def host_syncs(call: Callable[[], Any], device: str = "cpu") -> list[HostSync]:
    """Run `call` and list its host synchronisations, in order.

    Args:
        device: where the model stands. On CUDA only waits for it count; elsewhere every tensor stands for one on a GPU.
    """
    with _Watch(device.startswith("cuda")) as watch:
        call()
    return watch.found
