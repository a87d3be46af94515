"""OCRBench (Liu et al. 2023): a thousand reading tasks; a hit is a reference contained in the answer.

lmms-eval reports hits / 1000, HiRED's copy the raw hits, papers hits / 10. Handwritten formulas (HME100k) are compared
without spaces and with case; older versions lower-cased only the prediction there, so capitals never matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hero_ray.benchmarks.dataset import SHORT, DatasetBenchmark, Fields, PromptStyle, means, spaced
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.tally import Tally
from hero_ray.core.types import Metric, Sample, Scored

TOTAL = 1000
FORMULAS = "HME100k"
FORMULA_TYPE = "Handwritten Mathematical Expression Recognition"
TYPES = {
    "Regular Text Recognition": 50,
    "Irregular Text Recognition": 50,
    "Artistic Text Recognition": 50,
    "Handwriting Recognition": 50,
    "Digit String Recognition": 50,
    "Non-Semantic Text Recognition": 50,
    "Scene Text-centric VQA": 200,
    "Doc-oriented VQA": 200,
    "Key Information Extraction": 200,
    FORMULA_TYPE: 100,
}
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


class OcrBench(DatasetBenchmark):
    """OCRBench."""

    name = "ocrbench"
    aliases = ("OCRBench", "ocr_bench")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    main_metric = "ocrbench_accuracy"
    max_new_tokens = 128
    source = Source(
        ids=("echo840/OCRBench",),
        split="test",
        columns=("dataset", "question", "question_type", "answer"),
        rows=TOTAL,
    )
    category_sizes: ClassVar[Mapping[str, int]] = TYPES

    @property
    def scale(self) -> float:  # type: ignore[override]
        """1000 where the flavour reports raw hits."""
        return float(TOTAL) if self.flavour in ("hired", "vlmevalkit") else 1.0

    def fields(self, row: Mapping[str, Any]) -> Fields:
        answers = [row["answer"]] if isinstance(row["answer"], str) else list(row["answer"])
        formula = row["question_type"] == FORMULA_TYPE
        references = {"answers": answers, "dataset": row["dataset"], "formula": formula}
        return Fields(row["question"], references, row["question_type"])

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        question = sample.question.strip()
        if style == "lmms-eval":
            return question
        return question + (spaced(SHORT) if style == "internvl" else SHORT)

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Whether any reference is contained; `references` is {answers, dataset}, a list or a string."""
        if not isinstance(references, Mapping):
            references = {"answers": [references] if isinstance(references, str) else references}
        answers = [str(answer) for answer in references["answers"]]
        hit = any(self._simple(answer) in self._simple(prediction) for answer in answers)
        if self._is_formula(references):
            guess = prediction if self.flavour in ("head", "vlmevalkit") else prediction.lower()
            hit = any(_without_spaces(answer) in _without_spaces(guess) for answer in answers)
        return {"ocrbench_accuracy": float(hit), "ocrbench_hit_rate": float(hit)}

    def _is_formula(self, references: Mapping[str, Any]) -> bool:
        if self.flavour == "vlmevalkit":
            return bool(references.get("formula"))
        return references.get("dataset") == FORMULAS

    def _simple(self, text: str) -> str:
        if self.flavour == "head":
            text = text.translate(_FULL_WIDTH)
        return text.lower().strip().replace("\n", " ")

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Hits on the flavour's scale, the plain share of hits, and that share by type."""
        if not scored:
            return []
        total = sum(float(item.scores["ocrbench_accuracy"]) for item in scored)
        points = Metric("ocrbench_accuracy", total if self.scale == TOTAL else total / TOTAL, len(scored))
        return [points, *means(scored, "ocrbench_hit_rate")]

    def tally(self, scored: Sequence[Scored]) -> Tally:
        """Hits."""
        hits = np.array([[float(item.scores["ocrbench_accuracy"])] for item in scored])
        out_of = 1.0 if self.scale == TOTAL else float(TOTAL)
        return Tally(hits, lambda sums: {"ocrbench_accuracy": sums[..., 0] / out_of})

    def caution(self, scored: Sequence[Scored]) -> str:
        """A sum out of 1,000 reads low where fewer were asked."""
        asked = len(scored)
        return f"{asked} of {TOTAL:,} questions asked: {asked / TOTAL:.1%} can be reached" if asked < TOTAL else ""

    def paper_figures(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """Hits / 10 of the full set."""
        value = next((m.value for m in metrics if m.name == "ocrbench_accuracy" and not m.category), None)
        if value is None:
            return {}
        tenths = value / 10 if self.scale == TOTAL else value * 100
        return {"hero": tenths, "hired": tenths}


def _without_spaces(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")
