"""ChartQA test (Masry et al. 2022): questions about charts, half by people and half generated; 5 % tolerance.

The relaxed rule is the same in every harness: numbers within 5 % of a non-zero target count, anything else is compared
as text. A percent sign divides by one hundred, thousands separators are not numbers, and zero is compared as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hero_ray.benchmarks.dataset import SHORT, DatasetBenchmark, Fields, PromptStyle, mean, spaced
from hero_ray.benchmarks.sources import Source
from hero_ray.core.types import Metric, Sample, Scored

TOLERANCE = 0.05
SPLITS = {"human_test": "relaxed_human_split", "augmented_test": "relaxed_augmented_split"}


def as_number(text: str) -> float | None:
    """Python's float, with trailing percent signs dividing by one hundred once; None if it is not a number."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def relaxed_match(prediction: str, target: str) -> bool:
    """Within 5 % of a non-zero number, or the same text whatever the case."""
    guess, truth = as_number(prediction), as_number(target)
    if guess is not None and truth:
        return abs(guess - truth) / abs(truth) <= TOLERANCE
    return prediction.lower() == target.lower()


class ChartQa(DatasetBenchmark):
    """ChartQA test, both halves."""

    name = "chartqa"
    aliases = ("ChartQA_TEST", "ChartQA")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    main_metric = "relaxed_overall"
    source = Source(
        ids=("lmms-lab-encoder/ChartQA", "lmms-lab/ChartQA"),
        split="test",
        columns=("type", "question", "answer"),
        rows=2_500,
    )
    category_sizes: ClassVar[Mapping[str, int]] = {"human_test": 1_250, "augmented_test": 1_250}
    papers: ClassVar[Mapping[str, str]] = {
        "hero": "relaxed_overall",
        "hired": "relaxed_overall",
        "ptp": "relaxed_overall",
    }

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], row["answer"], row["type"])

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        if style == "lmms-eval":
            return f"{sample.question}\nAnswer the question with a single word."
        return sample.question + (spaced(SHORT) if style == "internvl" else SHORT)

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Relaxed accuracy against one answer."""
        return {"relaxed_overall": float(relaxed_match(prediction.strip(), str(references)))}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """`relaxed_overall`, then lmms-eval's two split keys."""
        if not scored:
            return []
        hits = [float(item.scores["relaxed_overall"]) for item in scored]
        metrics = [Metric("relaxed_overall", mean(hits), len(hits))]
        for split, key in SPLITS.items():
            part = [float(item.scores["relaxed_overall"]) for item in scored if item.sample.category == split]
            if part:
                metrics.append(Metric(key, mean(part), len(part)))
                metrics.append(Metric("relaxed_overall", mean(part), len(part), split))
        return metrics
