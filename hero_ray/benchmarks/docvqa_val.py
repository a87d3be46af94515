"""DocVQA validation (Mathew et al. 2021): questions about scanned pages, scored by edit distance (ANLS).

The distance is divided by the longer of the *raw* strings, before white space collapses and measured in upper case:
upstream's order of operations, visible only with double spaces and letters such as ß.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hero_ray.benchmarks.dataset import SHORT, DatasetBenchmark, Fields, PromptStyle, spaced
from hero_ray.benchmarks.sources import Source
from hero_ray.core.errors import DatasetError
from hero_ray.core.types import Sample

THRESHOLD = 0.5


def levenshtein(left: str, right: str) -> int:
    """Edit distance; insertions, deletions and substitutions cost one."""
    if len(left) < len(right):
        left, right = right, left
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        current = [i]
        for j, b in enumerate(right, start=1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b)))
        previous = current
    return previous[-1]


def anls(prediction: str, answers: Sequence[str]) -> float:
    """1 minus the smallest normalised edit distance, cut to 0 below one half."""
    guess = " ".join(prediction.strip().lower().split())
    distances = []
    for answer in answers:
        longest = max(len(answer.upper()), len(prediction.upper()))
        distance = levenshtein(" ".join(answer.strip().lower().split()), guess)
        distances.append(distance / longest if longest else 0.0)
    value = 1 - min(distances)
    return value if value >= THRESHOLD else 0.0


class DocVqa(DatasetBenchmark):
    """DocVQA validation."""

    name = "docvqa_val"
    aliases: ClassVar[tuple[str, ...]] = ("docvqa", "DocVQA_VAL")
    flavours: ClassVar[tuple[str, ...]] = ("head", "v0.2.0", "hired", "vlmevalkit")
    main_metric = "anls"
    max_new_tokens = 32
    source = Source(
        ids=("lmms-lab-encoder/DocVQA", "lmms-lab/DocVQA"),
        config="DocVQA",
        split="validation",
        columns=("questionId", "question", "docId", "ucsf_document_id", "ucsf_document_page_no", "answers"),
        rows=5_349,
    )
    key_column = "questionId"
    image_column: ClassVar[str | None] = "page"
    num_pictures: ClassVar[int | None] = 1_286
    papers: ClassVar[Mapping[str, str]] = {"hired": "anls"}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], list(row["answers"] or ()))

    def _image_key(self, document: int, row: Mapping[str, Any]) -> str:
        if self.image_keys != "auto":
            return super()._image_key(document, row)
        # docId alone may name a document of several pages.
        return f"{self.name}:{row['docId']}:{row['ucsf_document_id']}:{row['ucsf_document_page_no']}"

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        return sample.question + (spaced(SHORT) if style == "internvl" else SHORT)

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """ANLS against the nearest of several answers."""
        answers = [references] if isinstance(references, str) else list(references or ())
        if not answers:
            raise DatasetError("docvqa: no reference answers; the test split hides them (use the RRC server)")
        return {"anls": anls(prediction if self.flavour == "vlmevalkit" else prediction.strip(), answers)}
