"""DUTS-TE (Wang et al. 2017): pictures with salient-object masks, for the layer study (HERO, figure 4).

HERO takes the 50 of 576 patches with most CLS attention and reports their overlap with the mask. What it leaves open is
settled here: test split; picture and mask go through the same resize and centre crop; a cell is foreground if its mean
mask value is at least one half; pictures whose mask has no such cell are skipped and counted. With 50 cells chosen the
overlap of a large object cannot reach 1, so only the shape of a curve over layers is comparable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hero_ray.benchmarks import images
from hero_ray.benchmarks.dataset import DatasetBenchmark, Fields, PromptStyle, mean
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.tables import Locator
from hero_ray.core.types import Metric, Sample, Scored

GRID = 24
PIXELS = 336
THRESHOLD = 0.5


def clip_square(image: Image.Image, size: int = PIXELS) -> Image.Image:
    """CLIP's view of a picture or mask: shorter side to `size`, bicubic, centre crop."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


def foreground(mask: Image.Image, grid: int = GRID, threshold: float = THRESHOLD) -> np.ndarray:
    """Which of grid x grid cells are object, bool [grid, grid]; `mask` is square, 255 is object."""
    values = np.asarray(mask.convert("L"), dtype=np.float64) / 255
    rows, columns = (np.linspace(0, side, grid + 1).astype(int) for side in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows[:-1], axis=0), columns[:-1], axis=1)
    areas = np.diff(rows)[:, None] * np.diff(columns)[None, :]
    return np.asarray(sums / areas >= threshold)


def overlap(chosen: Iterable[int], cells: Iterable[int]) -> float:
    """Intersection over union of two sets of cell numbers; 0 if both are empty."""
    left, right = set(chosen), set(cells)
    return len(left & right) / len(left | right) if left | right else 0.0


class Duts(DatasetBenchmark):
    """DUTS-TE. A "prediction" is the chosen cells of a 24 x 24 grid as numbers 0..575 between spaces, raster order."""

    name = "duts"
    aliases = ("DUTS-TE", "duts_te")
    main_metric = "iou"
    source = Source(ids=("nobg/DUTS", "Voxel51/DUTS"), split="test", columns=(), also=("mask",), rows=5_019)

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields("", {})

    def _sample(self, document: int, locator: Locator, row: Mapping[str, Any], seen: dict[str, int]) -> Sample:
        made = super()._sample(document, locator, row, seen)
        return Sample(made.benchmark, made.key, "", {"mask": locator}, made.image_key, locator, "", made.extra)

    def load_mask(self, image_ref: Any) -> Image.Image:
        """The mask behind `Sample.image_ref`, mode L, 255 is object.

        Raises:
            ImageError: the bytes are not a usable picture.
        """
        data = self._encoded(self.table.cell(image_ref, "mask"))
        return images.decode(data, self.max_pixels, self.exif).convert("L")

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        return ""

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Overlap with the mask; `references` is {mask: locator} or {cells: [...]}. Text without numbers scores 0."""
        cells = references.get("cells")
        if cells is None:
            cells = np.flatnonzero(foreground(clip_square(self.load_mask(references["mask"])))).tolist()
        words = prediction.split()
        chosen = [int(word) for word in words] if all(word.isascii() and word.isdigit() for word in words) else []
        return {"iou": overlap(chosen, cells), "foreground": len(cells)}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Mean overlap over pictures with foreground; the others are counted."""
        if not scored:
            return []
        values = [float(item.scores["iou"]) for item in scored if item.scores["foreground"]]
        return [
            Metric("iou", mean(values), len(values)),
            Metric("empty_masks", float(len(scored) - len(values)), len(scored)),
        ]
