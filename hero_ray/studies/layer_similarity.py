"""HERO Fig. 2: how alike the CLS attention maps of all vision layers are, and where they part into two stages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hero_ray.core.encoded import Needs
from hero_ray.studies import asking
from hero_ray.studies.records import FigureTable, Study, StudyRequest, heat

NAME = "layer-similarity"
TASKS = ("synth-scene",)


@dataclass(frozen=True)
class Stages:
    """A cut of the layers into 1..`boundary` and the rest.

    `within` and `between` are mean similarities of layer pairs on one side and on both; `contrast` their difference.
    """

    boundary: int
    within: float
    between: float

    @property
    def contrast(self) -> float:
        return self.within - self.between


def similarity(maps: Tensor) -> Tensor:
    """Cosine of every layer's map with every other's: [L, N] -> [L, L]."""
    unit = torch.nn.functional.normalize(maps.double(), dim=-1)
    return unit @ unit.T


def two_stages(matrix: Tensor) -> Stages:
    """The cut with the largest contrast; both sides hold at least two layers."""
    depth = matrix.shape[0]
    off = ~torch.eye(depth, dtype=torch.bool)
    found = []
    for boundary in range(2, depth - 1):
        early = torch.arange(depth) < boundary
        same = (early[:, None] == early[None]) & off
        found.append(Stages(boundary, float(matrix[same].mean()), float(matrix[early][:, ~early].mean())))
    return max(found, key=lambda stages: stages.contrast)


def run(request: StudyRequest) -> Study:
    """Mean similarity over the thumbnails of `limit` pictures."""
    adapter = request.adapter
    layers = range(1, adapter.vision.num_layers + 1)
    matrices = []
    for image, _ in asking.pictures(asking.opened(request, TASKS), request.limit):
        encoded = adapter.encode(adapter.prepare(image), Needs(cls_attention=frozenset(layers)))
        maps = torch.stack([encoded.cls_attention[layer][0].mean(0) for layer in layers])
        matrices.append(similarity(maps.cpu()))
    mean = torch.stack(matrices).mean(0)
    stages = two_stages(mean)
    note = (
        f"Cosine of head-averaged CLS attention on the thumbnails of {len(matrices)} pictures, {adapter.info.name}. "
        f"The clearest cut lies after layer {stages.boundary}: {stages.within:.2f} within, {stages.between:.2f} across."
    )
    rows = tuple((layer, *(round(float(value), 4) for value in mean[layer - 1])) for layer in layers)
    return Study(
        NAME,
        "Likeness of CLS attention between vision layers (HERO Fig. 2)",
        note,
        charts=(heat("Cosine of CLS attention maps", layers, layers, mean.tolist(), "cosine"),),
        tables=(FigureTable("Cosine similarity", ("layer", *(str(layer) for layer in layers)), rows),),
        findings={"boundary": stages.boundary, "within": stages.within, "between": stages.between, "n": len(matrices)},
    )
