"""How many requests fit at once, and how fast they are together (the question of HiRED's Table 4)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hero_ray.errors import DeviceMemoryError
from hero_ray.profiling.cells import ProfileSettings, profile_cells
from hero_ray.profiling.requests import Probe, ProfileItem


@dataclass(frozen=True)
class BatchSweep:
    """Records of the batch sizes that fit, and the edge.

    Attributes:
        records: one profile record per size, smallest first.
        largest_batch: largest size that ran.
        out_of_memory_at: smallest size seen to fail; None if every size asked for ran.
    """

    records: tuple[dict[str, Any], ...]
    largest_batch: int
    out_of_memory_at: int | None


def sweep_batches(
    adapter: Any,
    item: ProfileItem,
    probe: Probe,
    sizes: Sequence[int],
    settings: ProfileSettings | None = None,
    measure: Callable[..., list[dict[str, Any]]] = profile_cells,
) -> BatchSweep:
    """Profile one item at growing batch sizes until the device is full, then close in on the exact edge.

    Args:
        sizes: batch sizes to report; the search for the edge adds the sizes it tries.
        measure: what profiles one size; raises `torch.OutOfMemoryError` where it does not fit.

    Raises:
        DeviceMemoryError: not even one request fits.
    """
    settings = settings or ProfileSettings()
    found: dict[int, dict[str, Any]] = {}

    def fits(size: int) -> bool:
        try:
            (record,) = measure(adapter, [item], [probe], replace(settings, batch_size=size))
        except torch.OutOfMemoryError:
            pass  # left at once: while it is handled, its frames keep the tensors that did not fit
        else:
            found[size] = record
            return True
        _release()
        return False

    failed: int | None = None
    for size in sorted(set(sizes)):
        if not fits(size):
            failed = size
            break
    largest = max(found, default=0)
    while failed is not None and failed - largest > 1:
        middle = (largest + failed) // 2
        if fits(middle):
            largest = middle
        else:
            failed = middle
    if not found:
        raise DeviceMemoryError(
            f"{item.key}: not even one request fits into {adapter.info.device}'s memory; take a smaller model or dtype"
        )
    return BatchSweep(tuple(found[size] for size in sorted(found)), largest, failed)


def _release() -> None:
    """Give the failed attempt's memory back before the next one."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
