"""InfographicVQA validation (Mathew et al. 2022): questions about long infographics, scored as DocVQA is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hero_ray.benchmarks.dataset import DatasetBenchmark
from hero_ray.benchmarks.docvqa_val import DocVqa
from hero_ray.benchmarks.sources import Source


class InfoVqa(DocVqa):
    """InfographicVQA validation."""

    name = "infovqa_val"
    aliases = ("infovqa", "InfoVQA_VAL", "InfographicVQA")
    flavours = ("head", "v0.2.0", "vlmevalkit")
    source = Source(
        ids=("lmms-lab-encoder/DocVQA", "lmms-lab/DocVQA"),
        config="InfographicVQA",
        split="validation",
        columns=("questionId", "question", "answers"),
        rows=2_801,
    )
    image_column = None
    num_pictures = None
    papers: ClassVar[Mapping[str, str]] = {}

    def _image_key(self, document: int, row: Mapping[str, Any]) -> str:
        return DatasetBenchmark._image_key(self, document, row)
