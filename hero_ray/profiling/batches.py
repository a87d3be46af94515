"""How many requests fit at once, and how fast they are together (the question of HiRED's Table 4)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hero_ray.core.config import ProfileSettings
from hero_ray.core.errors import DeviceMemoryError
from hero_ray.engine.cut import Pruning
from hero_ray.models.base import Adapter
from hero_ray.profiling.cells import profile_cells
from hero_ray.profiling.requests import Arrangement, Probe, arrange, run_request

Attempt = Callable[[Any, Arrangement, int, int], Any]


@dataclass(frozen=True)
class BatchEdge:
    """Where one item fills the device.

    Attributes:
        largest_batch: largest size that ran.
        out_of_memory_at: smallest size that did not; None if every size asked for ran.
    """

    largest_batch: int
    out_of_memory_at: int | None


def sweep_batches(
    adapter: Adapter,
    items: Mapping[str, Pruning],
    probe: Probe,
    sizes: Sequence[int],
    settings: ProfileSettings,
    progress: Callable[[str], None] = lambda message: None,
    attempt: Attempt = run_request,
    measure: Callable[..., list[dict[str, Any]]] = profile_cells,
) -> list[dict[str, Any]]:
    """Profile items at growing batch sizes; at every size those that still fit take turns.

    Args:
        sizes: batch sizes to report. The exact edge of an item that fails is searched between them.
        attempt: runs one batch, raising `torch.OutOfMemoryError` where it does not fit.
        measure: what profiles the items of one size.

    Returns:
        Profile records, smallest size first, each with its item's edge in `details.batch_sweep`.

    Raises:
        DeviceMemoryError: not even one request of an item fits.
    """
    arranged = {key: arrange(adapter, pruning, probe) for key, pruning in items.items()}
    ran: dict[str, int] = dict.fromkeys(arranged, 0)
    failed: dict[str, int] = {}
    records: list[dict[str, Any]] = []

    def fits(key: str, size: int) -> bool:
        try:
            attempt(adapter, arranged[key], size, settings.new_tokens)
        except torch.OutOfMemoryError:
            pass  # left at once: while it is handled, its frames keep the tensors that did not fit
        else:
            ran[key] = size
            return True
        _release()
        failed[key] = size
        return False

    for size in sorted(set(sizes)):
        alive = {key: pruning for key, pruning in items.items() if key not in failed and fits(key, size)}
        progress(f"batch size {size}: {len(alive)} of {len(items)} fit")
        if not alive:
            break
        try:
            records += measure(adapter, alive, [probe], settings.model_copy(update={"batch_size": size}))
        except torch.OutOfMemoryError:
            progress(f"batch size {size}: fits, but with no room to spare for timing; left out")
        _release()
    for key in failed:
        while failed[key] - ran[key] > 1:
            fits(key, (ran[key] + failed[key]) // 2)
        if not ran[key]:
            where = f"the memory of {adapter.info.device}"
            raise DeviceMemoryError(f"{key}: not even one request fits into {where}; take a smaller model or dtype")
    edges = {key: asdict(BatchEdge(ran[key], failed.get(key))) for key in arranged}
    return [
        record | {"details": record.get("details", {}) | {"batch_sweep": edges[record["key"]]}} for record in records
    ]


def _release() -> None:
    """Give the failed attempt's memory back before the next one."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
