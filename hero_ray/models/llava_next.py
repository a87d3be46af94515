"""LLaVA-NeXT (1.6): AnyRes tiles and thumbnail, CLIP tower, mosaic order with newlines."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hero_ray.core.encoded import ImagePlan, VisionInfo
from hero_ray.core.errors import ImageError
from hero_ray.core.layout import Layout
from hero_ray.models.base import Prepared
from hero_ray.models.cls_block import cls_output
from hero_ray.models.family import FamilyAdapter, Parts
from hero_ray.models.geometry import Grid, anyres_layout, best_canvas, smaller_sides
from hero_ray.models.taps import TapPoint, run_blocks


class ClipTowerAdapter(FamilyAdapter):
    """What the LLaVA families share: a CLIP tower whose CLS is dropped and whose patches are projected one by one."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.model.config
        depth = config.vision_config.num_hidden_layers
        layer = config.vision_feature_layer
        self.vision = VisionInfo(depth, layer if layer >= 0 else depth + 1 + layer)
        self._patch: int = config.vision_config.patch_size
        self._pixels: int = config.vision_config.image_size
        self._side: int = self._pixels // self._patch
        self._settings: dict[str, Any] = dict(parts.settings)

    def _pixel_settings(self) -> dict[str, Any]:
        """What the checkpoint says of pixel values; sizes follow from the tower and the plan."""
        known = {"image_mean", "image_std", "rescale_factor", "resample"}
        known |= {"do_rescale", "do_normalize", "do_convert_rgb"}
        return {key: value for key, value in self._settings.items() if key in known}

    def _view(self, side: int) -> int:
        """Pixels along the edge of a view of `side` tokens; the tower's own need not be a multiple of its patches."""
        return self._pixels if side == self._side else side * self._patch

    def _tap_points(self, pixels: Tensor) -> dict[int, TapPoint]:
        layers = self._core.vision_tower.encoder.layers
        return {
            number: TapPoint(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.num_heads)
            for number, layer in enumerate(layers, start=1)
        }

    def _run_tower(self, pixels: Tensor, taken: frozenset[int]) -> dict[int, Tensor]:
        tower = self._core.vision_tower
        resized = pixels.shape[-1] != self._pixels
        hidden = tower.pre_layrnorm(tower.embeddings(pixels, interpolate_pos_encoding=resized))
        blocks, last = list(tower.encoder.layers), max(taken)
        if last <= self.vision.feature_layer:
            return run_blocks(hidden, blocks, taken, None)
        # Nothing but the CLS row is read behind the feature block.
        outputs = run_blocks(hidden, blocks, (taken - {last}) | {last - 1}, None)
        outputs[last] = cls_output(blocks[last - 1], outputs[last - 1])
        return outputs

    def _projector_input(self, features: Tensor) -> Tensor:
        return features[:, 1:]

    def _post_norm(self, states: Tensor) -> Tensor:
        return self._core.vision_tower.post_layernorm(states)


class LlavaNextAdapter(ClipTowerAdapter):
    """`llava-hf/llava-v1.6-*` and the original layout (`liuhaotian/llava-v1.6-*`), and the embedded hero-tiny."""

    family = "llava-next"

    @cached_property
    def _grids(self) -> tuple[Grid, ...]:
        """(rows, columns) of the canvases, in the checkpoint's order, which decides ties."""
        size = self._pixels
        return tuple((height // size, width // size) for height, width in self.model.config.image_grid_pinpoints)

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        """Views of a picture, thumbnail first; equal to the stock PIL processor when `plan` is None.

        Raises:
            ImageError: a picture that cannot be tiled.
        """
        size = (image.height, image.width)
        grid, side = (self._stock_grid(size), self._side) if plan is None else (plan.grid, plan.side)
        layout = self.layout(size, grid, side)
        pixels = self._cut(image.convert("RGB"), grid, self._view(side))
        return Prepared(image_id, pixels[: layout.num_views], layout, (image.width, image.height))

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        """The stock look, then smaller grids and smaller views, down to one token; most tokens first."""
        height_width = (size[1], size[0])
        stock = self._stock_grid(height_width)
        grids = [grid for grid in self._grids if grid[0] * grid[1] < stock[0] * stock[1]]
        looks = [(stock, self._side), *((grid, self._side) for grid in grids), ((0, 0), self._side)]
        looks += [(stock, side) for side in smaller_sides(self._side, self._side // 2)]
        looks += [((0, 0), side) for side in smaller_sides(self._side)]
        plans = {
            count: ImagePlan(grid, side, count)
            for grid, side in reversed(looks)
            for count in [self.layout(height_width, grid, side).num_patches]
        }
        most = self.layout(height_width, stock, self._side).num_patches
        first = ImagePlan(stock, self._side, most)
        return (first, *sorted((p for p in plans.values() if p.num_tokens < most), key=lambda p: -p.num_tokens))

    def layout(self, size: tuple[int, int], grid: Grid, side: int) -> Layout:
        """Token order of a picture of (height, width)."""
        return anyres_layout(size, grid, side, None if self._settings.get("original_layout") else 7)

    def _stock_grid(self, size: tuple[int, int]) -> Grid:
        view = self._pixels
        canvas = best_canvas(size, ((rows * view, columns * view) for rows, columns in self._grids))
        return canvas[0] // view, canvas[1] // view

    def _cut(self, image: Image.Image, grid: Grid, view: int) -> Tensor:
        # With the one canvas that was chosen, the stock processor does the cutting at any view size.
        rows, columns = grid if grid != (0, 0) else (1, 1)
        try:
            pixels = self._processor(
                image,
                image_grid_pinpoints=[[rows * view, columns * view]],
                **self._view_size(view),
                return_tensors="pt",
            )["pixel_values"][0]
        except ValueError as error:
            raise ImageError(f"a picture of {image.width} x {image.height} pixels cannot be tiled: {error}") from error
        return pixels.to(torch.float32)

    def _view_size(self, view: int) -> dict[str, Any]:
        """How the family's processor is told the side of a view."""
        return {"size": {"shortest_edge": view}, "crop_size": {"height": view, "width": view}}

    @cached_property
    def _processor(self) -> Any:
        # The PIL class by name: with torchvision installed the default one changes pixels.
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

        return LlavaNextImageProcessorPil(**self._pixel_settings())
