"""Stock transformers `generate()` on the same weights and picture: the reference beside our own engine."""

from __future__ import annotations

from typing import Any

import torch

from hero_ray.models.base import Adapter
from hero_ray.models.registry import NATIVE
from hero_ray.profiling.marks import Marks
from hero_ray.profiling.requests import Probe
from hero_ray.profiling.timing import TimedCall

ENGINE, CACHE = "transformers", "dynamic"
STAGES = ("first", "whole")


def stock_inputs(adapter: Any, probe: Probe, batch_size: int) -> dict[str, Any]:
    """What the processor would hand to `generate()`: ids with one image token per visual token, and pixels."""
    prepared, prompt = adapter.prepare(probe.image, probe.image_id), adapter.prompt(probe.text, probe.question)
    config = adapter.model.config
    image_token = getattr(config, "image_token_id", None)
    image_token = config.image_token_index if image_token is None else image_token
    ids = [*prompt.prefix, *[image_token] * prepared.layout.sequence.shape[0], *prompt.suffix]
    device, pixels = adapter.info.device, prepared.pixels.to(adapter.info.device, adapter.model.dtype)
    inputs: dict[str, Any] = {"input_ids": torch.tensor([ids] * batch_size, device=device)}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if adapter.info.family in NATIVE:
        asked = adapter.stock_inputs(prepared, inputs["input_ids"])
        inputs |= asked | {"pixel_values": asked["pixel_values"].to(device, adapter.model.dtype)}
    elif adapter.info.family in ("llava-next", "llava-onevision"):
        width, height = prepared.size
        inputs["pixel_values"] = torch.stack([pixels] * batch_size)
        inputs["image_sizes"] = torch.tensor([[height, width]] * batch_size, device=device)
    else:
        # InternVL2 puts the thumbnail last; with a single view rolling changes nothing.
        inputs["pixel_values"] = torch.cat([pixels.roll(-1, 0)] * batch_size)
    return inputs


@torch.no_grad()
def stock_generate(adapter: Any, inputs: dict[str, Any], new_tokens: int) -> torch.Tensor:
    """Greedy ids [B, new_tokens]; the end token is forbidden so that the length is fixed."""
    ids = adapter.model.generate(
        **inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, pad_token_id=0
    )
    return ids[:, -new_tokens:]


def stock_call(adapter: Adapter, probe: Probe, batch_size: int, new_tokens: int) -> TimedCall:
    """Time to the first token (an answer of one), then a whole answer: `generate()` shows no stages inside."""
    inputs = stock_inputs(adapter, probe, batch_size)

    def call(marks: Marks) -> None:
        marks.stamp("start")
        stock_generate(adapter, inputs, 1)
        marks.stamp("first")
        stock_generate(adapter, inputs, new_tokens)
        marks.stamp("whole")

    return call
