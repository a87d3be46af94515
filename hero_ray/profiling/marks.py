"""Time stamps that cost nothing: CUDA events on a GPU, the monotonic clock on a CPU.

Marks never wait. Events are put into the stream and read after one synchronisation at the end, so the device works on
exactly as it would unobserved; a timer that waits at every stage would hide launch overlap and invent stalls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


class Marks:
    """Stamps of one request, in order.

    Args:
        device: where the work runs; decides the clock.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._names: list[str] = []
        self._stamps: list[Any] = []

    def stamp(self, name: str) -> None:
        """Note that everything enqueued so far belongs to the stage that ends here."""
        self._names.append(name)
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            self._stamps.append(event)
        else:
            self._stamps.append(time.perf_counter())

    def around(self, stage: str, work: Callable[[], Any]) -> Any:
        """Run the work of a stage and stamp its end."""
        done = work()
        self.stamp(stage)
        return done

    def intervals(self) -> dict[str, float]:
        """Milliseconds between neighbouring stamps, named by the later one. Waits for the device, once."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            spans = [a.elapsed_time(b) for a, b in zip(self._stamps, self._stamps[1:], strict=False)]
        else:
            spans = [(b - a) * 1e3 for a, b in zip(self._stamps, self._stamps[1:], strict=False)]
        return dict(zip(self._names[1:], spans, strict=True))


def percentile(values: list[float], share: float) -> float:
    """Linear interpolation between order statistics; `share` in [0, 1]."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
