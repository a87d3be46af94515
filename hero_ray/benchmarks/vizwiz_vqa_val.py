"""VizWiz-VQA validation (Gurari et al. 2018): blind people's own photographs, often unanswerable.

"Unanswerable" is an ordinary string to the metric. VLMEvalKit gives InternVL2 no hint that it is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hero_ray.benchmarks.dataset import SHORT, Fields, PromptStyle
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.vqa import AnnotatedVqa
from hero_ray.core.types import Sample

HINT = "When the provided information is insufficient, respond with 'Unanswerable'."


class VizWiz(AnnotatedVqa):
    """VizWiz-VQA validation."""

    name = "vizwiz_vqa_val"
    aliases = ("vizwiz", "vizwiz_val", "VizWiz")
    source = Source(
        ids=("lmms-lab-encoder/VizWiz-VQA", "lmms-lab/VizWiz-VQA"),
        split="val",
        columns=("question_id", "question", "answers", "category"),
        rows=4_319,
    )
    key_column = "question_id"
    image_column = "question_id"
    max_new_tokens = 1024
    papers: ClassVar[Mapping[str, str]] = {"ptp": "exact_match"}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], list(row["answers"] or ()), row["category"] or "")

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        if style == "vlmevalkit":
            return sample.question + SHORT
        if style == "internvl":
            return f"{sample.question} {HINT} {SHORT.strip()}"
        return f"{sample.question.capitalize()}\n{HINT}{SHORT}"
