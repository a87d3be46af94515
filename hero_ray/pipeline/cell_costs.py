"""What the cells of one model cost, from configurations: FLOPs, visual tokens, memory of the hungriest batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hero_ray.core import hub
from hero_ray.core.engines import IN_PLACE, prefix_of
from hero_ray.core.plan import ModelFact
from hero_ray.core.types import Cell
from hero_ray.costs.costs import ELEMENT_BYTES
from hero_ray.costs.ledger import ledger
from hero_ray.costs.memory import MemoryForecast, batch_memory
from hero_ray.costs.times import FLOPS_SHARE
from hero_ray.models.base import LanguageShape, VisionShape
from hero_ray.models.registry import tower_of
from hero_ray.models.shapes import limited, shape
from hero_ray.models.sources import find_folder
from hero_ray.pipeline.facts import Plan

TEXT_TOKENS = 64
"""Prompt and answer, assumed."""
NEW_TOKENS = TEXT_TOKENS // 4
GPU_TFLOPS = 312.0
GPUS = 8
"""The machine of a forecast without earlier runs: eight A100 (312 TFLOP/s dense bfloat16 each), assumed."""


@dataclass(frozen=True)
class CellForecast:
    """Upper estimates for one model.

    Attributes:
        petaflops: of all its cells.
        memory: of its hungriest batch, by the number of rows; the questions of a picture share its prefix.
        language, vision: the model's sizes.
        views: of its largest picture.
        visual: visual tokens of an answer, by cell.
    """

    petaflops: float
    memory: Callable[[int], MemoryForecast]
    language: LanguageShape
    vision: VisionShape
    views: int
    visual: Mapping[str, int]

    @property
    def hours(self) -> float:
        """On `GPUS` cards under the stated assumption."""
        return self.petaflops * 1000 / (GPUS * GPU_TFLOPS * FLOPS_SHARE) / 3600


def forecast(plan: Plan, model: ModelFact) -> CellForecast:
    """FLOPs of a model's cells and memory of its hungriest batch."""
    with hub.pinned(plan.commits):
        name = model.name if not model.name.count("/") else str(find_folder(model.name))
    sizes = limited(shape(name), model.options)
    language, vision = sizes.language, sizes.vision
    cells = plan.cells_of(model.name)
    visual = {cell.id: _visual_tokens(cell, model) for cell in cells}
    rows = ledger(name, list(visual.values()), TEXT_TOKENS, views=1, dtype=model.dtype)
    per_view = rows[0]["tflops_encoder"] or 0.0
    views = max(1, model.max_tokens * (vision.projector[0] // vision.hidden) // vision.patches)
    answers = sum(plan.expected[cell.id] * row["tflops_model"] for cell, row in zip(cells, rows, strict=True))
    most = max(visual.values())
    listed = Counter(sample.image_key for sample in plan.samples).values()
    in_place = prefix_of(plan.config.model_args) == IN_PLACE
    questions = max([*listed, math.ceil(sum(plan.asked.values()) / max(1, plan.pictures))])

    def memory(rows: int) -> MemoryForecast:
        return batch_memory(
            language,
            vision,
            views=views,
            visual=most,
            prefix=TEXT_TOKENS // 2,
            suffix=TEXT_TOKENS // 2,
            room=NEW_TOKENS,
            rows=rows,
            groups=-(-rows // questions),
            in_place=in_place,
            element=ELEMENT_BYTES[model.dtype],
            tower=tower_of(model.family),
        )

    petaflops = (answers + plan.pictures * views * per_view) / 1000
    return CellForecast(petaflops, memory, language, vision, views, visual)


def _visual_tokens(cell: Cell, model: ModelFact) -> int:
    asked = cell.tokens or cell.retention_ratio * model.max_tokens
    return max(1, round(min(asked, model.max_tokens)))  # there is nothing more to keep
