"""The parts every training stage shares: optimiser, learning-rate curve, running averages."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

MAX_GRADIENT_NORM = 1.0
FLOOR = 0.03


@dataclass
class Progress:
    """Running averages of what a stage reports, printed now and then."""

    stage: str
    steps: int
    decay: float = 0.97
    averages: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    started_cpu: float = field(default_factory=time.process_time)

    def summary(self) -> dict[str, Any]:
        """Steps, seconds so far and the running averages, for the model card."""
        return {
            "stage": self.stage,
            "steps": self.steps,
            "wall_s": round(time.perf_counter() - self.started),
            "cpu_s": round(time.process_time() - self.started_cpu),
            "averages": {name: round(value, 3) for name, value in self.averages.items()},
        }

    def update(self, step: int, figures: dict[str, float], report: Callable[[str], None], every: int = 50) -> None:
        for name, value in figures.items():
            self.averages[name] = self.decay * self.averages.get(name, value) + (1 - self.decay) * value
        if step % every == 0 or step == self.steps:
            now = self.summary()
            text = " ".join(f"{name}={value:.3f}" for name, value in now["averages"].items())
            report(f"{self.stage} {step}/{self.steps} wall={now['wall_s']}s cpu={now['cpu_s']}s {text}")


class Optimiser:
    """AdamW with decay on matrices only, linear warm-up, cosine down to 3 % of the peak."""

    def __init__(self, parameters: Iterable[nn.Parameter], peak: float, steps: int, warm_up: int = 60) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        matrices = [p for p in self.parameters if p.ndim > 1]
        vectors = [p for p in self.parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
        self._adam = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
        self._peak, self._steps, self._warm_up = peak, steps, warm_up

    def step(self, loss: torch.Tensor, step: int) -> None:
        """One update; `step` counts from 1."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self._steps))
        rate = self._peak * min(1.0, step / self._warm_up) * (FLOOR + (1 - FLOOR) * cosine)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
        self._adam.step()
