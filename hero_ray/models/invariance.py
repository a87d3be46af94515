"""Batch-invariance certificate: how often an answer changes with what it is batched with.

In exact arithmetic never. In fp32 logits move by rounding only; in half precision they move enough for a greedy token
to flip now and then, which is why sweeps fix the composition of their batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageDraw

from hero_ray.core.encoded import Needs, Selection, keep_all
from hero_ray.models.base import Adapter, Request

QUESTIONS = (
    "What colour is the background?",
    "How many shapes are in the image?",
    "Is there a circle in the image?",
    "What is in the top left corner of the image?",
)
_SIZES = ((640, 480), (480, 640), (672, 672), (900, 300))
_COLOURS = ("red", "blue", "green", "yellow", "white", "black", "purple", "orange")


@dataclass(frozen=True)
class Invariance:
    """Flip rates of one model in one dtype.

    Attributes:
        samples: answers compared in each setting.
        batched: share of answers that change when all run together instead of alone.
        neighbours: share that change with the order and size of the batch.
        shared: share that change when prefix and picture are computed once for their questions.
        logit_diff: largest first-token logit difference between alone and together, and `logit_std` its scale.
    """

    model: str
    revision: str
    device: str
    dtype: str
    attention: str
    torch: str
    samples: int
    new_tokens: int
    batched: float
    neighbours: float
    shared: float
    logit_diff: float
    logit_std: float

    @property
    def is_invariant(self) -> bool:
        """Whether no answer changed in any setting."""
        return self.batched == self.neighbours == self.shared == 0.0


def certify(adapter: Any, samples: int = 8, new_tokens: int = 16) -> Invariance:
    """Run the same requests alone, together, in another order, and with prefix reuse; compare their tokens.

    Requests are drawn pictures at full budget and at half of it, two questions to each.
    """
    requests = probe_requests(adapter, samples, new_tokens)

    def answers(order: Sequence[int], batch_size: int, share: bool) -> list[tuple[int, ...]]:
        made = adapter.generate([requests[i] for i in order], batch_size=batch_size, share_prefix=share)
        by_place = dict(zip(order, made, strict=True))
        return [by_place[index].token_ids for index in range(len(requests))]

    forward = range(len(requests))
    alone = answers(forward, 1, False)
    together = answers(forward, len(requests), False)
    reordered = answers(forward[::-1], max(2, len(requests) // 2), False)
    shared = answers(forward, len(requests), True)
    lone = torch.cat([adapter.decoder.prefill([request]).logits for request in requests]).float()
    grouped = adapter.decoder.prefill(requests, share_prefix=False).logits.float()
    info = adapter.info
    return Invariance(
        model=info.name,
        revision=info.revision,
        device=torch.cuda.get_device_name() if info.device == "cuda" else info.device,
        dtype=info.dtype,
        attention=info.attention,
        torch=torch.__version__,
        samples=len(requests),
        new_tokens=new_tokens,
        batched=_flips(alone, together),
        neighbours=_flips(together, reordered),
        shared=_flips(together, shared),
        logit_diff=float((lone - grouped).abs().max()),
        logit_std=float(lone.std()),
    )


def probe_requests(adapter: Adapter, samples: int, new_tokens: int) -> list[Request]:
    """Deterministic requests of unlike lengths: drawn pictures, each with two questions, every second one halved."""
    requests: list[Request] = []
    for index in range(-(-samples // 2)):
        encoded = adapter.encode(adapter.prepare(drawn_picture(index), f"probe-{index}"), Needs())
        keep = encoded.layout.valid.clone()
        if index % 2:
            keep[:, ::2] = False
        selection = Selection(keep) if index % 2 else keep_all(encoded.layout)
        visual = adapter.assemble(encoded, selection, "unpadded_rows")
        for question in (QUESTIONS[index % 4], QUESTIONS[(index + 1) % 4]):
            requests.append(Request(adapter.prompt(question), visual, new_tokens))
    return requests[:samples]


def drawn_picture(index: int) -> Image.Image:
    """A plain background with a few shapes; the same for the same index on every machine."""
    width, height = _SIZES[index % len(_SIZES)]
    image = Image.new("RGB", (width, height), _COLOURS[index % 8])
    pen = ImageDraw.Draw(image)
    for shape in range(2 + index % 4):
        left, top = (37 * (shape + 1) * (index + 3)) % (width - 90), (53 * (shape + 2) * (index + 1)) % (height - 90)
        box = (left, top, left + 80, top + 80)
        (pen.ellipse if shape % 2 else pen.rectangle)(box, fill=_COLOURS[(index + shape + 1) % 8])
    return image


def _flips(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> float:
    return sum(a != b for a, b in zip(one, other, strict=True)) / len(one)
