"""Achieved FLOP/s and bytes/s over what this device reaches in a matrix product and in a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hero_ray.costs import costs
from hero_ray.models.base import LanguageShape, torch_dtype
from hero_ray.profiling.marks import Marks


@dataclass(frozen=True)
class Peaks:
    """Best rates seen in a short test: FLOP/s of a square matrix product, bytes/s of a copy (read plus write)."""

    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Roofline:
    """One phase of a request against the device's peaks.

    Traffic is the least the phase can do with (weights once, cache once), so `bandwidth_share` is a lower bound.
    """

    phase: str
    flops_per_s: float
    bytes_per_s: float
    compute_share: float
    bandwidth_share: float

    @property
    def bound(self) -> str:
        """The nearer roof: `compute` or `memory`."""
        return "compute" if self.compute_share >= self.bandwidth_share else "memory"


def measure_peaks(device: str, dtype: str, repeats: int = 5) -> Peaks:
    """Copy and matrix-product rates of a device; about half a second on a GPU, two on a CPU."""
    on_gpu = torch.device(device).type == "cuda"
    side, elements = (8192, 2**28) if on_gpu else (768, 2**23)
    kind = torch_dtype(dtype)
    left, right = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    source = torch.zeros(elements, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = _best_seconds(lambda: torch.mm(left, right), device, repeats)
    copy = _best_seconds(lambda: target.copy_(source), device, repeats)
    return Peaks(2 * side**3 / product, 2 * elements / copy)


def _best_seconds(call: Callable[[], Any], device: str, repeats: int) -> float:
    call()
    marks = Marks(device)
    marks.stamp("start")
    for index in range(repeats):
        call()
        marks.stamp(str(index))
    return max(min(marks.intervals().values()), 1e-6) / 1e3


def phase_rooflines(
    language: LanguageShape,
    dtype: str,
    per_layer: Sequence[int],
    batch_size: int,
    new_tokens: int,
    prefill_ms: float,
    tpot_ms: float,
    peaks: Peaks,
) -> tuple[Roofline, Roofline]:
    """Prefill and decode of one measured request.

    Args:
        per_layer: prompt tokens (visual and text) alive in each block.
        prefill_ms, tpot_ms: measured medians for the whole batch.
    """
    element = costs.ELEMENT_BYTES[dtype]
    weights = costs.weight_bytes(language, element)
    cache = batch_size * costs.kv_bytes(language, per_layer, element)
    prefill = batch_size * costs.prefill_flops(language, per_layer)
    steps = max(1, new_tokens - 1)
    decode = batch_size * costs.decode_flops(language, per_layer, steps + 1) / steps
    return (
        _against("prefill", prefill, weights + cache, prefill_ms / 1e3, peaks),
        _against("decode", decode, weights + cache, tpot_ms / 1e3, peaks),
    )


def _against(phase: str, flops: float, traffic: float, seconds: float, peaks: Peaks) -> Roofline:
    flop_rate, byte_rate = flops / seconds, traffic / seconds
    return Roofline(phase, flop_rate, byte_rate, flop_rate / peaks.flops_per_s, byte_rate / peaks.bytes_per_s)
