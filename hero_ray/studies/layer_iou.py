"""HERO Fig. 4: overlap of each vision layer's most attended patches with the salient object.

The paper takes the top 50 of 576 patches on DUTS; here the same share of whatever grid the model has. With so few
patches a large object cannot reach 1, so the shape of the curve counts, and chance is drawn beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hero_ray import benchmarks
from hero_ray.benchmarks.duts import Duts, clip_square, foreground, overlap
from hero_ray.core.encoded import Needs
from hero_ray.core.errors import InputError
from hero_ray.models.base import Adapter
from hero_ray.models.registry import NATIVE
from hero_ray.stats import mean_interval
from hero_ray.studies.records import FigureTable, Study, StudyRequest, curve, figures, lines

NAME = "layer-iou"
TASKS = ("synth-scene",)
TOP_OF = (50, 576)


def top_patches(scores: Tensor, count: int) -> list[int]:
    """Numbers of the `count` largest of [N] scores, ties to the lower number."""
    return scores.argsort(descending=True, stable=True)[:count].tolist()


def layer_overlaps(maps: Tensor, object_cells: Sequence[int], count: int) -> list[float]:
    """Intersection over union of every layer's top patches with the object: [L, N] -> L shares."""
    return [overlap(top_patches(scores, count), object_cells) for scores in maps]


def chance(num_patches: int, num_object: int, count: int) -> float:
    """Expected intersection over union of `count` patches drawn at random."""
    from scipy.stats import hypergeom

    hits = np.arange(max(0, count + num_object - num_patches), min(count, num_object) + 1)
    weights = hypergeom.pmf(hits, num_patches, num_object, count)
    return float((weights * hits / (count + num_object - hits)).sum())


def scene_mask(split: str, seed: int, index: int) -> Image.Image:
    """The objects and signs of a generated picture, mode L, 255 is object."""
    from hero_ray.benchmarks.synthetic.documents import scene_at

    return Image.fromarray(((scene_at(split, index, seed).owner >= 0) * 255).astype(np.uint8))


def masked_pictures(request: StudyRequest) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Pictures with their salient masks: `duts`, or generated scenes, whose owner map is known.

    Raises:
        InputError: a benchmark without masks.
    """
    benchmark = benchmarks.get((request.tasks or TASKS)[0], **request.sources)
    seen: set[str] = set()
    for sample in benchmark.samples():
        if len(seen) >= request.limit:
            return
        if sample.image_key in seen:
            continue
        seen.add(sample.image_key)
        if isinstance(benchmark, Duts):
            mask = benchmark.load_mask(sample.image_ref)
        elif benchmark.name.startswith("synth-"):
            mask = scene_mask(*sample.image_ref)
        else:
            raise InputError(f"{benchmark.name} has no salient masks; use --tasks duts or a synth- benchmark")
        yield benchmark.load_image(sample.image_ref), mask


def view_edge(adapter: Adapter) -> int:
    """Pixels along one edge of a view."""
    return int(adapter.prepare(Image.new("RGB", (8, 8))).pixels.shape[-1])


def run(request: StudyRequest) -> Study:
    """Mean overlap per layer on the thumbnail of pictures cropped to a square, as CLIP does.

    Raises:
        InputError: no picture with a salient mask, or a model that has no view of one size.
    """
    adapter = request.adapter
    if adapter.info.family in NATIVE:
        raise InputError(
            f"{NAME} crops pictures to the model's one view and compares its blocks; {adapter.info.name} looks at each "
            "picture in its own size and through windows in most blocks; take another model"
        )
    layers, edge = range(1, adapter.vision.num_layers + 1), view_edge(request.adapter)
    found: list[list[float]] = []
    random: list[float] = []
    for image, mask in masked_pictures(request):
        encoded = adapter.encode(adapter.prepare(clip_square(image, edge)), Needs(cls_attention=frozenset(layers)))
        side = encoded.layout.side[0]
        cells = np.flatnonzero(foreground(clip_square(mask, edge), side)).tolist()
        if not cells:
            continue
        count = max(1, round(side * side * TOP_OF[0] / TOP_OF[1]))
        maps = torch.stack([encoded.cls_attention[layer][0].mean(0) for layer in layers])
        found.append(layer_overlaps(maps.cpu(), cells, count))
        random.append(chance(side * side, len(cells), count))
    if not found:
        raise InputError("no picture has a salient cell; give more pictures with --limit")
    return _study(adapter, np.array(found), float(np.mean(random)), list(layers))


def _study(adapter: Adapter, found: NDArray[np.float64], random: float, layers: list[int]) -> Study:
    intervals = [mean_interval(column) for column in found.T]
    flat = {"name": "patches drawn at random", "x": [layers[0], layers[-1]], "y": [random, random]}
    best = layers[int(found.mean(0).argmax())]
    note = (
        f"The {TOP_OF[0]}/{TOP_OF[1]} most attended patches of the thumbnail against the object's patches, "
        f"{len(found)} pictures, {adapter.info.name}. Highest at layer {best}; drawn at random: {random:.3f}."
    )
    rows = tuple((layer, *figures(item)) for layer, item in zip(layers, intervals, strict=True))
    return Study(
        NAME,
        "Which vision layer looks at objects (HERO Fig. 4)",
        note,
        charts=(
            lines(
                "Overlap with salient objects",
                [curve(adapter.info.name, layers, intervals), flat],
                "vision layer",
                "intersection over union",
            ),
        ),
        tables=(FigureTable("Intersection over union", ("layer", "IoU", "low", "high"), rows),),
        findings={"best_layer": best, "iou": [item.value for item in intervals], "chance": random, "n": len(found)},
    )
