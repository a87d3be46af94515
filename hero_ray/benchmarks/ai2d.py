"""AI2D test (Kembhavi et al. 2016): school diagrams with letter labels drawn in (the "with mask" version)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from hero_ray.benchmarks.choices import gold_and_options, match_option_vlmevalkit
from hero_ray.benchmarks.dataset import LETTER, DatasetBenchmark, Fields, PromptStyle, lettered
from hero_ray.benchmarks.gqa import exact_match
from hero_ray.benchmarks.sources import Source
from hero_ray.core.types import Sample

_LEADING_LETTER = re.compile(r"\s*([A-Z])\.")


class Ai2d(DatasetBenchmark):
    """AI2D test, labels masked by letters."""

    name = "ai2d"
    aliases = ("AI2D_TEST", "AI2D")
    flavours = ("head", "v0.2.3", "v0.2.0", "vlmevalkit")
    source = Source(
        ids=("lmms-lab-encoder/ai2d", "lmms-lab/ai2d"),
        split="test",
        columns=("question", "options", "answer"),
        rows=3_088,
    )
    papers: ClassVar[Mapping[str, str]] = {"ptp": "exact_match"}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        options = list(row["options"])
        references = {"answer": chr(65 + int(row["answer"])), "options": options}
        return Fields(row["question"], references, extra={"options": options})

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        body = f"{sample.question}\n{lettered(sample.extra['options'])}"
        return body if style == "internvl" else body + LETTER

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """`references` is the gold letter, or {answer, options}."""
        gold, options = gold_and_options(references)
        if self.flavour == "vlmevalkit":
            named = {chr(65 + i): option for i, option in enumerate(options)}
            return {"exact_match": float(match_option_vlmevalkit(prediction, named) == gold)}
        text = prediction.strip()
        leading = _LEADING_LETTER.match(text)
        return {"exact_match": exact_match(leading.group(1) if leading else text, gold)}
