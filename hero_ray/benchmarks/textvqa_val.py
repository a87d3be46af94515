"""TextVQA validation (Singh et al. 2019): reading text in photographs, ten annotators, no OCR tokens in the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hero_ray.benchmarks.dataset import SHORT, Fields, PromptStyle, spaced
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.vqa import AnnotatedVqa
from hero_ray.core.types import Sample


class TextVqa(AnnotatedVqa):
    """TextVQA validation."""

    name = "textvqa_val"
    aliases = ("textvqa", "TextVQA_VAL", "VQA-Text")
    source = Source(
        ids=("lmms-lab-encoder/textvqa", "lmms-lab/textvqa"),
        split="validation",
        columns=("image_id", "question_id", "question", "answers"),
        rows=5_000,
    )
    key_column = "question_id"
    image_column = "image_id"
    max_new_tokens = 1024

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], list(row["answers"] or ()))

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        if style == "vlmevalkit":
            return sample.question + SHORT
        # Python's capitalize lower-cases the rest of the question; upstream does exactly this.
        return sample.question.capitalize() + (spaced(SHORT) if style == "internvl" else SHORT)
