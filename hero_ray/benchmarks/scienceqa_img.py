"""ScienceQA, questions with a picture (Lu et al. 2022): school science, two to five options.

`v0.2.3` reproduces an upstream bug (the prediction was lower-cased before a test for an upper-case letter): only the
bare letter counts there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hero_ray.benchmarks.choices import gold_and_options, match_option_vlmevalkit
from hero_ray.benchmarks.dataset import LETTER, DatasetBenchmark, Fields, PromptStyle, lettered
from hero_ray.benchmarks.sources import Source
from hero_ray.core.types import Sample


class ScienceQaImage(DatasetBenchmark):
    """ScienceQA-IMG test."""

    name = "scienceqa_img"
    aliases = ("scienceqa", "SQA", "SQA-I", "SQA-IMG", "ScienceQA_TEST", "sqa_img")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    source = Source(
        ids=("lmms-lab-encoder/ScienceQA", "lmms-lab/ScienceQA"),
        config="ScienceQA-IMG",
        split="test",
        columns=("question", "choices", "answer", "hint", "subject"),
        rows=2_017,
    )
    papers: ClassVar[Mapping[str, str]] = {"hero": "exact_match", "hired": "exact_match", "ptp": "exact_match"}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        choices = list(row["choices"])
        references = {"answer": chr(65 + int(row["answer"])), "options": choices}
        extra = {"hint": row["hint"] or "", "options": choices}
        return Fields(row["question"], references, row["subject"] or "", extra)

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        hint = sample.extra["hint"]
        context = (f"Context: {hint}\n" if style == "lmms-eval" else f"{hint}\n") if hint else ""
        return f"{context}{sample.question}\n{lettered(sample.extra['options'])}{LETTER}"

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """`references` is the gold letter, or {answer, options}."""
        gold, options = gold_and_options(references)
        text = prediction.strip()
        if self.flavour == "vlmevalkit":
            found = match_option_vlmevalkit(prediction, {chr(65 + i): option for i, option in enumerate(options)})
            return {"exact_match": float(found == gold)}
        fold = str if self.flavour in ("v0.2.0", "hired") else str.lower
        hit = fold(text) == fold(gold)
        if not hit and self.flavour != "v0.2.3" and len(text) >= 2 and text[0].isupper() and text[1] == ".":
            hit = text[0] == gold
        return {"exact_match": float(hit)}
