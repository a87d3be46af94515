"""A model that sleeps: real rooms around it, so that what is measured is the rooms.

It implements the adapter protocol with a one-view layout; `generate` sleeps a fixed time for each request and answers
with a word that depends on the prompt alone.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hero_ray.core.encoded import Encoded, ImagePlan, Needs, Selection, VisionInfo
from hero_ray.core.layout import Layout, NewlinePolicy
from hero_ray.models.base import Generation, LanguageShape, ModelInfo, Prepared, Prompt, Request, VisionShape

SIDE = 4
WORDS = ("yes", "no", "red", "star", "three", "cat")


class SleepingModel:
    """Sleeps `work_ms` per answer; other options are ignored.

    Args:
        work_ms: sleep per answer.
        die_on: file that names a picture; the process that meets this picture kills itself while the file exists.
        hang_on: likewise, but the process hangs.
        slow: factor on `work_ms` for the picture named by `slow_on`.
    """

    def __init__(
        self, work_ms: float = 0.0, control: str | None = None, slow_on: str = "", slow: float = 1.0, dtype: str = ""
    ) -> None:
        self.work_ms, self.control, self.slow_on, self.slow = float(work_ms), control, slow_on, float(slow)
        self.vision = VisionInfo(num_layers=4, feature_layer=3)
        self.clip = None
        self.decoder = None  # nothing of ours makes its answers, so there is nothing to certify
        self.info = ModelInfo(
            name="sleeping",
            family="llava-1.5",
            revision="sleeping-1",
            random_weights=False,
            language=LanguageShape(2, 8, 16, 2, 2, 4, 32),
            vision=VisionShape(4, 3, 8, 16, 2, SIDE * SIDE + 1, 8, (8, 8)),
            dtype="float32",
            device="cpu",
            attention="sdpa",
            context=4096,
        )

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        self._misbehave(image_id)
        side = plan.side if plan else SIDE
        layout = Layout(
            grid=(0, 0),
            side=(side, side),
            sequence=torch.arange(side * side),
            valid=torch.ones(1, side * side, dtype=torch.bool),
        )
        return Prepared(image_id, torch.zeros(1, 3, 8, 8), layout, image.size)

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        return tuple(ImagePlan((0, 0), side, side * side) for side in range(SIDE, 0, -1))

    def encode(self, prepared: Prepared, needs: Needs) -> Encoded:
        tokens = prepared.layout.tokens_per_view
        noise = torch.Generator().manual_seed(int(hashlib.sha256(prepared.image_id.encode()).hexdigest()[:8], 16))
        return Encoded(
            image_id=prepared.image_id,
            layout=prepared.layout,
            vision=self.vision,
            features=torch.rand(1, tokens, 8, generator=noise),
            cls_attention={layer: torch.rand(1, 2, tokens, generator=noise) for layer in sorted(needs.cls_attention)},
            cls_embedding={source: torch.rand(1, 8, generator=noise) for source in sorted(needs.cls_embedding)},
        )

    def ask(self, encoded: Encoded, question: str, needs: Needs, prompt: Prompt) -> Encoded:
        return encoded

    def prompt(self, text: str, question: str | None = None) -> Prompt:
        ids = tuple(ord(letter) % 32 for letter in text)
        return Prompt((1,), ids, (0, len(ids)))

    def assemble(self, encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> torch.Tensor:
        order = selection.sequence(encoded.layout, policy)
        return encoded.features.reshape(-1, 8)[order.clamp(min=0)]

    def generate(self, requests: Sequence[Request], pruner: Any = None, **_: Any) -> list[Generation]:
        time.sleep(self.work_ms * self._factor * len(requests) / 1000)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Generation:
        key = repr((request.prompt.suffix, request.visual.sum(-1).tolist()))
        word = WORDS[int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % len(WORDS)]
        tokens = request.visual.shape[0]
        return Generation(word, (1, 2), (tokens, tokens), 64 * tokens, "stop")

    def _misbehave(self, image_id: str) -> None:
        self._factor = self.slow if image_id and image_id == self.slow_on else 1.0
        if self.control is None:
            return
        folder = Path(self.control)
        if (folder / "die").is_file() and image_id in (folder / "die").read_text().split():
            if (folder / "once").exists():
                (folder / "die").unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if (folder / "hang").is_file() and image_id in (folder / "hang").read_text().split():
            time.sleep(3600)


def load(name: str, **options: Any) -> SleepingModel:
    """Loader for `WorkerJob.loader`; the model's name is ignored."""
    return SleepingModel(**options)
