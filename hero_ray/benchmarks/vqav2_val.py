"""VQAv2 validation (Goyal et al. 2017): open questions about COCO pictures, ten annotators each.

Since v0.4.1 lmms-eval normalises both sides alike; before, it did so only where the ten raw answers were not unanimous,
and sent the prediction through TextVQA's pre-tokeniser. The papers' VQAv2 column is the test-dev server's: compare
drops, not levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hero_ray.benchmarks.dataset import SHORT, Fields, PromptStyle, spaced
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.vqa import AnnotatedVqa
from hero_ray.benchmarks.vqa_text import normalise, normalise_plain, stage_d, stage_p, stage_w
from hero_ray.core.types import Sample


class VqaV2(AnnotatedVqa):
    """VQAv2 validation."""

    name = "vqav2_val"
    aliases = ("vqav2", "VQA-v2", "vqa_v2")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired")
    source = Source(
        ids=("lmms-lab-encoder/VQAv2", "lmms-lab/VQAv2"),
        split="validation",
        columns=("question_id", "image_id", "question", "answer_type", "answers"),
        rows=214_354,
    )
    key_column = "question_id"
    image_column = "image_id"
    num_pictures = 40_504
    papers: ClassVar[Mapping[str, str]] = {"hired": "exact_match"}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        answers = [answer["answer"] for answer in row["answers"] or ()]
        return Fields(row["question"], answers, row["answer_type"] or "")

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        return sample.question + (spaced(SHORT) if style == "internvl" else SHORT)

    def normalised(self, prediction: str, answers: Sequence[str]) -> tuple[str, list[str]]:
        if self.flavour == "head":
            return normalise_plain(prediction), [normalise_plain(answer) for answer in answers]
        text, plain = normalise(prediction), [stage_w(answer) for answer in answers]
        if len(set(plain)) > 1:
            return stage_d(stage_p(text)), [stage_d(stage_p(answer)) for answer in plain]
        return text, plain
