"""Energy of repeated requests from the device's own counter (NVML); None where there is none.

The counter ticks every few tens of milliseconds, so single requests are below its resolution: a request is repeated
until at least `MINIMUM_S` seconds have passed, and the mean is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

MINIMUM_S = 2.0


def joules_per_call(call: Callable[[], Any], device: str, minimum_s: float = MINIMUM_S) -> float | None:
    """Mean energy of one `call` in joules, idle power of the device included."""
    read = _counter(torch.device(device))
    if read is None:
        return None
    torch.cuda.synchronize(device)
    calls, start, before = 0, time.perf_counter(), read()
    while time.perf_counter() - start < minimum_s:
        call()
        torch.cuda.synchronize(device)
        calls += 1
    return (read() - before) / 1e3 / calls


def _counter(device: torch.device) -> Callable[[], float] | None:
    """A reader of the device's energy counter in millijoules, if NVML and the device offer one."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
