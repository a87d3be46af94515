"""What VQAv2, TextVQA and VizWiz share: ten annotators, one accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from hero_ray.benchmarks.dataset import DatasetBenchmark
from hero_ray.benchmarks.vqa_text import normalise, normalise_vlmevalkit, vqa_accuracy
from hero_ray.core.types import Sample


class AnnotatedVqa(DatasetBenchmark):
    """Ten-annotator accuracy with both sides normalised."""

    flavours: ClassVar[tuple[str, ...]] = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    papers: ClassVar[Mapping[str, str]] = {"hero": "exact_match", "hired": "exact_match", "ptp": "exact_match"}

    def normaliser(self) -> Callable[[str], str]:
        """The flavour's normaliser."""
        return normalise_vlmevalkit if self.flavour == "vlmevalkit" else normalise

    def normalised(self, prediction: str, answers: Sequence[str]) -> tuple[str, list[str]]:
        """Prediction and answers in comparable form."""
        clean = self.normaliser()
        return clean(prediction), [clean(answer) for answer in answers]

    def complaint(self, sample: Sample) -> str:
        return "" if len(sample.references) == 10 else f"{len(sample.references)} answers instead of ten"

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """VQA accuracy against `references`, a list of answers."""
        answers = [references] if isinstance(references, str) else list(references or ())
        text, others = self.normalised(prediction.strip(), answers)
        return {"exact_match": vqa_accuracy(text, others)}
