"""LLaVA-OneVision: LLaVA-NeXT's tiles over a SigLIP tower without CLS, a large mosaic interpolated down."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hero_ray.core.encoded import Encoded, Selection, VisionInfo
from hero_ray.core.layout import NEWLINE, Layout, NewlinePolicy
from hero_ray.models.base import Prepared
from hero_ray.models.family import Parts
from hero_ray.models.geometry import Grid, anyres_layout, unpadded
from hero_ray.models.llava_next import LlavaNextAdapter
from hero_ray.models.taps import run_blocks


class LlavaOneVisionAdapter(LlavaNextAdapter):
    """`llava-hf/llava-onevision-qwen2-*`, one picture a question.

    A mosaic beyond 1.21 times the tokens of N views (`anyres_max_N`) is interpolated to those of N. Such a token stands
    in the place of its tile that its centre falls in, and everything captured of the tower (scores, keys, the
    projector's inputs) is interpolated as the tokens are. What a method merges before the projector is thus made of
    interpolated inputs, where the model interpolates projected ones; tokens it leaves as they are remain the model's.
    """

    family = "llava-onevision"

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.vision = VisionInfo(self.vision.num_layers, self.vision.feature_layer, tower="siglip")
        self._most = int(self.model.config.vision_aspect_ratio.removeprefix("anyres_max_"))

    def layout(self, size: tuple[int, int], grid: Grid, side: int) -> Layout:
        """Token order of a picture of (height, width)."""
        return anyres_layout(size, grid, side, most=self._most)

    def _run_tower(self, pixels: Tensor, taken: frozenset[int]) -> dict[int, Tensor]:
        tower = self._core.vision_tower
        hidden = tower.embeddings(pixels, interpolate_pos_encoding=pixels.shape[-1] != self._pixels)
        return run_blocks(hidden, list(tower.encoder.layers), taken, None)

    def _projector_input(self, features: Tensor) -> Tensor:
        return features

    def _encoded(self, prepared: Prepared, captured: Encoded, views: slice) -> Encoded:
        encoded = super()._encoded(prepared, captured, views)
        shrink = _Shrink.of(prepared)
        if shrink is None:
            return encoded
        inputs = encoded.projector_input
        return replace(
            encoded,
            features=shrink(encoded.features),
            projector_input=None if inputs is None else shrink(inputs),
            cls_attention={layer: shrink.last(row) for layer, row in encoded.cls_attention.items()},
            cls_logits={layer: shrink.last(row) for layer, row in encoded.cls_logits.items()},
            received={layer: shrink.last(row) for layer, row in encoded.received.items()},
            keys={layer: shrink.keys(keys) for layer, keys in encoded.keys.items()},
        )

    @torch.no_grad()
    def assemble(self, encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> Tensor:
        """As the base's; a token that was left as it is enters as the model has it, interpolated once projected."""
        visual, inputs = self._spliced(encoded, selection, policy), encoded.projector_input
        if selection.edited is None or selection.space != "projector_input" or inputs is None:
            return visual
        sequence = selection.sequence(encoded.layout, policy).to(inputs.device)
        places = (sequence >= 0).nonzero()[:, 0]
        tokens = sequence[places]
        own = (selection.edited.flatten(0, 1)[tokens] == inputs.flatten(0, 1)[tokens]).all(1)
        visual[places[own]] = encoded.features.flatten(0, 1)[tokens[own]]
        return visual

    def _view_size(self, view: int) -> dict[str, Any]:
        return {"size": {"height": view, "width": view}}

    @cached_property
    def _processor(self) -> Any:
        # The PIL class by name: with torchvision installed the default one changes pixels.
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil,
        )

        return LlavaOnevisionImageProcessorPil(**self._pixel_settings())


class _Shrink:
    """Brings what belongs to the places of a picture's tiles to its fewer tokens, as the model does its features.

    Args:
        layout: of a picture whose mosaic is interpolated.
        part: rows and columns of the mosaic that show the picture.
    """

    def __init__(self, layout: Layout, part: tuple[slice, slice]) -> None:
        self._grid, self._side, self._part = layout.grid, layout.side, part
        body = layout.sequence[layout.tokens_per_view :]
        self._places = body[body != NEWLINE]
        rows = int((body == NEWLINE).sum())
        self._size = (rows, len(self._places) // rows)

    @classmethod
    def of(cls, prepared: Prepared) -> _Shrink | None:
        """None for a picture whose tokens are those of the tower."""
        layout = prepared.layout
        if layout.grid == (0, 0):
            return None
        canvas = (layout.grid[0] * layout.side[0], layout.grid[1] * layout.side[1])
        part = unpadded((prepared.size[1], prepared.size[0]), canvas)
        seen = len(range(*part[0].indices(canvas[0]))) * len(range(*part[1].indices(canvas[1])))
        return None if seen == int(layout.valid[1:].sum()) else cls(layout, part)

    def __call__(self, tokens: Tensor) -> Tensor:
        """[V, N, C] with the interpolated mosaic in the places of its tokens, and nothing in the places between."""
        views = tokens[1:].reshape(*self._grid, *self._side, -1)
        mosaic = views.permute(4, 0, 2, 1, 3).contiguous().flatten(1, 2).flatten(2, 3)
        part = mosaic[(slice(None), *self._part)]
        small = torch.nn.functional.interpolate(part[None], self._size, mode="bilinear")[0]
        shrunk = torch.cat([tokens[:1], torch.zeros_like(tokens[1:])])
        shrunk.view(-1, tokens.shape[-1])[self._places.to(tokens.device)] = small.flatten(1).T
        return shrunk

    def last(self, rows: Tensor) -> Tensor:
        """The same of [V, H, N]."""
        return self(rows.transpose(1, 2)).transpose(1, 2)

    def keys(self, keys: Tensor) -> Tensor:
        """The same of keys [V, H, 1 + N, head_dim], whose first row stands for CLS."""
        heads = keys.shape[1]
        flat = keys[:, :, 1:].transpose(1, 2).flatten(2)
        return torch.cat([keys[:, :, :1], self(flat).unflatten(2, (heads, -1)).transpose(1, 2)], 2)
