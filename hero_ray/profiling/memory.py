"""Peak device memory by phase, with what was resident before kept apart.

An encoder's peak can hide a smaller cache (HERO Table VIII's plateau of 17.4, 17.1, 16.9 GB), so phases have their own
high-water marks. A CPU's resident-set peak cannot be reset between phases: there the answer is None, not a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class PhaseMemory:
    """High-water marks of one request on one device; call `phase` at the end of each phase.

    Attributes:
        base_bytes: allocated before the request (weights, mostly), or None off CUDA.
        peaks: phase -> peak of allocated bytes, base included.
        reserved_bytes: held by the allocator at its highest.
    """

    device: torch.device
    base_bytes: int | None = None
    peaks: dict[str, int] = field(default_factory=dict)
    reserved_bytes: int | None = None

    @classmethod
    def start(cls, device: torch.device | str) -> PhaseMemory:
        """Forget earlier peaks and note what is resident."""
        memory = cls(torch.device(device))
        if memory.device.type == "cuda":
            torch.cuda.synchronize(memory.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(memory.device)
            memory.base_bytes = torch.cuda.memory_allocated(memory.device)
        return memory

    def phase(self, name: str) -> None:
        """Close a phase: take its peak and start the next from here."""
        if self.device.type != "cuda":
            return
        torch.cuda.synchronize(self.device)
        self.peaks[name] = torch.cuda.max_memory_allocated(self.device)
        self.reserved_bytes = max(self.reserved_bytes or 0, torch.cuda.max_memory_reserved(self.device))
        torch.cuda.reset_peak_memory_stats(self.device)

    @property
    def peak_bytes(self) -> int | None:
        """The highest of all phases, or None where the device cannot tell."""
        return max(self.peaks.values(), default=None)
