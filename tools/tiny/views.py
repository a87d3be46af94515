"""Scenes as the model sees them: thumbnail first, then padded tiles, each with its patch labels.

The pixels equal those of transformers' PIL image processor for LLaVA-NeXT, for scene sizes that fit a pinpoint without
rescaling. Training goes through this shorter path; a test compares the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hero_ray.benchmarks.synthetic.labels import PADDING, Labels, patch_labels
from hero_ray.benchmarks.synthetic.scenes import Scene
from tools.tiny.architecture import IMAGE_MEAN, IMAGE_STD, PATCH, TILE

_SIDE = TILE // PATCH


@dataclass(frozen=True, eq=False)
class View:
    """One 64-pixel picture that goes through the vision tower.

    Attributes:
        pixels: RGB, uint8 `[64, 64, 3]`.
        labels: Patch labels, int64 `[heads, 64]`.
        owners: The `Scene.owner` values that are visible here.
        fine: Whether digits and words can be read (tiles) or not (thumbnail).
    """

    pixels: NDArray[np.uint8]
    labels: Labels
    owners: frozenset[int]
    fine: bool


def tile_views(scene: Scene) -> list[View]:
    """The local tiles in raster order: the scene centred on black up to whole tiles, then cut."""
    rows, columns = -(-scene.height // TILE), -(-scene.width // TILE)
    top, left = (rows * TILE - scene.height) // 2, (columns * TILE - scene.width) // 2
    inner = slice(top, top + scene.height), slice(left, left + scene.width)
    pixels = np.zeros((rows * TILE, columns * TILE, 3), np.uint8)
    owner = np.full(pixels.shape[:2], PADDING, np.int16)
    plates = np.zeros(pixels.shape[:2], bool)
    pixels[inner], owner[inner], plates[inner] = scene.image, scene.owner, scene.plates
    return cut_tiles(scene, pixels, owner, plates)


def cut_tiles(
    scene: Scene, pixels: NDArray[np.uint8], owner: NDArray[np.int16], plates: NDArray[np.bool_]
) -> list[View]:
    """Tiles of a canvas of whole tiles, with its owner map and digit plates, in raster order."""
    rows, columns = pixels.shape[0] // TILE, pixels.shape[1] // TILE
    views = []
    for row in range(rows):
        for column in range(columns):
            cut = slice(row * TILE, (row + 1) * TILE), slice(column * TILE, (column + 1) * TILE)
            labels = patch_labels(scene, owner[cut], plates[cut], _SIDE, _SIDE, fine=True)
            views.append(_view(pixels[cut], labels, owner[cut], fine=True))
    return views


def thumbnail_view(scene: Scene) -> View:
    """The whole scene squashed to one tile."""
    small = Image.fromarray(scene.image).resize((TILE, TILE), Image.Resampling.BICUBIC)
    labels = patch_labels(scene, scene.owner, scene.plates, _SIDE, _SIDE, fine=False)
    return _view(np.asarray(small), labels, scene.owner, fine=False)


def anyres_views(scene: Scene) -> list[View]:
    """Thumbnail, then tiles: the order of LLaVA-NeXT."""
    return [thumbnail_view(scene), *tile_views(scene)]


def _view(pixels: NDArray[np.uint8], labels: Labels, owner: NDArray[np.int16], fine: bool) -> View:
    visible = frozenset(int(value) for value in np.unique(owner) if value >= 0)
    return View(pixels, labels.reshape(len(labels), -1), visible, fine)


def pixel_values(views: Sequence[View]) -> torch.Tensor:
    """Normalised pixels `[views, 3, 64, 64]`."""
    stacked = torch.from_numpy(np.stack([view.pixels for view in views]))
    return (stacked.permute(0, 3, 1, 2).float() / 255 - IMAGE_MEAN) / IMAGE_STD
