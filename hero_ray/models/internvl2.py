"""InternVL2 to 3.5: dynamic tiles with the thumbnail last, pixel shuffle of four patches to a token, no newline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hero_ray.core.encoded import ImagePlan, VisionInfo
from hero_ray.models.base import Prepared
from hero_ray.models.family import FamilyAdapter, Parts
from hero_ray.models.geometry import Grid, single_layout, smaller_sides, tile_grid, tiled_layout
from hero_ray.models.taps import TapPoint, run_blocks

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class InternVL2Adapter(FamilyAdapter):
    """OpenGVLab's and transformers' own InternVL layouts over the native class, and the embedded hero-tiny-internvl.

    Options: `max_tiles`, tiles beside the thumbnail at most (the papers and InternVL's scripts use 6; the released
    configuration says 12).
    """

    family = "internvl2"

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.model.config
        vision = config.vision_config
        depth, layer = vision.num_hidden_layers, config.vision_feature_layer
        self._fold = round(1 / config.downsample_ratio)
        self.vision = VisionInfo(depth, layer if layer >= 0 else depth + 1 + layer, self._fold**2, "internvit")
        self._patch = _edge(vision.patch_size)
        self._side = _edge(vision.image_size) // self._patch // self._fold
        self.most_tiles = int(parts.settings["max_tiles"])
        self._heads: int = vision.num_attention_heads
        said = parts.settings
        self._mean, self._std = said.get("image_mean", IMAGENET_MEAN), said.get("image_std", IMAGENET_STD)
        self._resample = Image.Resampling(said.get("resample", Image.Resampling.BICUBIC))

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        """Views of a picture, thumbnail first; resized without keeping the aspect ratio, as the model was trained."""
        side = self._side if plan is None else plan.side
        grid = self._stock_grid(image) if plan is None else plan.grid
        rows, columns = grid if grid != (0, 0) else (1, 1)
        view = side * self._patch * self._fold
        rgb = image.convert("RGB")
        canvas = rgb.resize((columns * view, rows * view), self._resample)
        tiles = [
            canvas.crop((column * view, row * view, (column + 1) * view, (row + 1) * view))
            for row in range(rows)
            for column in range(columns)
        ]
        views = tiles if len(tiles) == 1 else [rgb.resize((view, view), self._resample), *tiles]
        pixels = torch.stack([self._normalised(tile) for tile in views])
        return Prepared(image_id, pixels, tiled_layout((rows, columns), side), image.size)

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        """The stock look, then fewer tiles, then one ever smaller view; most tokens first."""
        view = self._side * self._patch * self._fold
        plans = []
        for most in range(self.most_tiles, 0, -1):
            grid = tile_grid((size[1], size[0]), most, view)
            layout = tiled_layout(grid, self._side)
            plans.append(ImagePlan(layout.grid, self._side, layout.num_patches))
        plans += [ImagePlan((0, 0), side, single_layout(side).num_patches) for side in smaller_sides(self._side)]
        return tuple(dict.fromkeys(plans))

    def _stock_grid(self, image: Image.Image) -> Grid:
        return tile_grid((image.height, image.width), self.most_tiles, self._side * self._patch * self._fold)

    def _tap_points(self, pixels: Tensor) -> dict[int, TapPoint]:
        # The norms are identities where the model has none; their hooks fire all the same.
        return {
            number: TapPoint(layer.attention.q_norm, layer.attention.k_norm, self._heads)
            for number, layer in enumerate(self._core.vision_tower.encoder.layer, start=1)
        }

    def _run_tower(self, pixels: Tensor, taken: frozenset[int]) -> dict[int, Tensor]:
        tower = self._core.vision_tower
        return run_blocks(tower.embeddings(pixels), list(tower.encoder.layer), taken)

    def _projector_input(self, features: Tensor) -> Tensor:
        """Pixel shuffle, version 2: token (r, c) holds patches (2r, 2c), (2r, 2c+1), (2r+1, 2c), (2r+1, 2c+1)."""
        patches = features[:, 1:]
        side = round(patches.shape[1] ** 0.5)
        blocks = patches.unflatten(1, (side // self._fold, self._fold, side // self._fold, self._fold))
        return blocks.transpose(2, 3).flatten(3).flatten(1, 2)

    def _post_norm(self, states: Tensor) -> Tensor:
        return self._core.vision_tower.layernorm(states)

    def _clip_pixels(self, pixels: Tensor, side: int) -> Tensor:
        """Views in CLIP's own normalisation: no text tower pairs with InternViT, so CLIP looks at the crops itself."""
        return resized_for_clip(pixels, side, self._mean, self._std)

    def _normalised(self, image: Image.Image) -> Tensor:
        values = torch.from_numpy(np.asarray(image, dtype=np.float32) / np.float32(255)).permute(2, 0, 1)
        return (values - _channel(self._mean, values)) / _channel(self._std, values)


def resized_for_clip(pixels: Tensor, side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Views [V, 3, H, W] normalised by `mean` and `std`, as CLIP wants them: [V, 3, side, side] in its own."""
    raw = pixels.float() * _channel(std, pixels) + _channel(mean, pixels)
    resized = torch.nn.functional.interpolate(raw, size=(side, side), mode="bicubic", antialias=True)
    return (resized.clamp(0, 1) - _channel(_CLIP_MEAN, pixels)) / _channel(_CLIP_STD, pixels)


def _channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None]


def _edge(size: Any) -> int:
    return int(size[0] if isinstance(size, list | tuple) else size)
