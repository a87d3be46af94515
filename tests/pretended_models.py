"""Loaded models on the pretended device, and CUDA's clock and graphs where profiles ask for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hero_ray.models.graphs import FixedSteps
from tests.pretended import CUDA, Pretended, up


def lift(module: torch.nn.Module) -> None:
    """Put a module's weights on the pretended device, in place."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if not isinstance(weight, (Pretended, type(None))):
                part._parameters[name] = torch.nn.Parameter(Pretended(weight.data), requires_grad=False)
        for name, buffer in part._buffers.items():
            part._buffers[name] = up(buffer)


def on_device(adapter: Any) -> Any:
    """A loaded model, with its CLIP side, on the pretended device; in place, it is of no use on the CPU then."""
    clip = adapter.clip
    lift(adapter.model)
    for value in vars(clip).values() if clip is not None else ():
        if isinstance(value, torch.nn.Module):
            lift(value)
    if clip is not None:
        clip.visual_projection = up(clip.visual_projection)
        clip.forget()
    adapter._device, adapter.info = CUDA, replace(adapter.info, device="cuda")
    return adapter


class _Uncaptured:
    """Stands for a CUDA graph: the step itself."""

    def __init__(self, steps: FixedSteps) -> None:
        self._steps = steps

    def replay(self) -> None:
        self._steps._logits = self._steps._advance()


def stub_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's clock, allocator and graphs, which no pretence stands for: they tick, count and capture nothing."""

    def nothing(*_: Any, **__: Any) -> int:
        return 0

    ticks = itertools.count()

    class Event:
        def __init__(self, **_: Any) -> None: ...
        def record(self, _: Any = None) -> None:
            self.at = float(next(ticks)) ** 2  # every interval is longer than the one before

        def elapsed_time(self, later: Any) -> float:
            return float(later.at - self.at)

    stubs: dict[str, Callable[..., Any]] = dict.fromkeys(
        ("synchronize", "empty_cache", "reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"), nothing
    )
    stubs |= {"max_memory_reserved": nothing, "current_stream": nothing, "Event": Event}
    for name, stub in stubs.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    properties = SimpleNamespace(name="a pretended device", uuid="none", total_memory=2**37)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a pretended device")
    monkeypatch.setattr(FixedSteps, "_capture", lambda steps: setattr(steps, "_graph", _Uncaptured(steps)))
