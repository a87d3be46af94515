"""What hardware is here, found without importing torch where there can be no GPU."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

GPU_NODES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu")
"""What Linux shows of a GPU driver: NVIDIA's, AMD's, Windows' below it, Jetson's."""


def processor() -> str:
    """What the processor calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cuda_here() -> bool:
    """Whether torch finds a CUDA device; it is only imported where a driver's node says that there may be one."""
    if sys.platform == "linux" and not any(Path(node).exists() for node in GPU_NODES):
        return False
    import torch

    return torch.cuda.is_available()


def gpus() -> list[str]:
    """Names of the CUDA devices."""
    if not cuda_here():
        return []
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def driver() -> str | None:
    """Version of the NVIDIA kernel driver; None without one."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    except OSError:
        return None
