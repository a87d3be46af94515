"""LLaVA-1.5 and ShareGPT4V: one view, the picture padded to a square, no newline."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from PIL import Image

from hero_ray.core.encoded import ImagePlan
from hero_ray.models.base import Prepared
from hero_ray.models.geometry import single_layout, smaller_sides
from hero_ray.models.llava_next import ClipTowerAdapter


class Llava15Adapter(ClipTowerAdapter):
    """`llava-hf/llava-1.5-*` and the original LLaVA layout.

    The picture is padded to a square with the mean colour, as the model was trained and its authors evaluate; every
    token counts as real, padding included, since the model always sees 576.
    """

    family = "llava-1.5"

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        """One view of the whole picture; equal to the stock PIL processor with padding when `plan` is None."""
        side = self._side if plan is None else plan.side
        view = side * self._patch
        pixels = self._processor(
            image.convert("RGB"),
            size={"shortest_edge": view},
            crop_size={"height": view, "width": view},
            return_tensors="pt",
        )["pixel_values"]
        return Prepared(image_id, pixels.to(torch.float32), single_layout(side), (image.width, image.height))

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        """The stock look, then ever smaller squares, down to one token."""
        return tuple(ImagePlan((0, 0), side, side * side) for side in (self._side, *smaller_sides(self._side)))

    @cached_property
    def _processor(self) -> Any:
        # By class: with torchvision installed the default backend changes pixels.
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

        return LlavaImageProcessorPil(**self._pixel_settings(), do_pad=True)
