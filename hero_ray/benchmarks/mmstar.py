"""MMStar (Chen et al. 2024): 1,500 questions chosen so that the picture is needed; six abilities, eighteen axes.

lmms-eval averages over axes, VLMEvalKit and HERO over questions; both are reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hero_ray.benchmarks.choices import extract_letter, match_option_vlmevalkit
from hero_ray.benchmarks.dataset import LETTER, DatasetBenchmark, Fields, PromptStyle, by_category, mean
from hero_ray.benchmarks.sources import Source
from hero_ray.core.types import Metric, Sample, Scored

ABILITIES = (
    "coarse perception", "fine-grained perception", "instance reasoning", "logical reasoning", "science & technology",
    "math",
)  # fmt: skip


def starts_with_letter(text: str, gold: str) -> bool:
    """The rule of v0.2.3: the gold letter leads, bare or after `(`, `option ` or `the answer is `; `Dog` is D."""
    low, letter = text.lower().replace("\n", " ").strip(), gold.lower()
    return any(low.startswith(lead + letter) for lead in ("", "(", "option ", "the answer is "))


def options_in(question: str) -> dict[str, str]:
    """The options that a question ends with, `Options: A: a cat, B: a dog`; VLMEvalKit's table has them in columns."""
    _, found, listed = question.rpartition("Options:")
    parts = re.split(r"(?:^|,|\n)\s*([A-D]):\s", listed) if found else []
    return {letter: text.strip().rstrip(",") for letter, text in zip(parts[1::2], parts[2::2], strict=True)}


class MmStar(DatasetBenchmark):
    """MMStar."""

    name = "mmstar"
    aliases = ("MMStar",)
    flavours = ("head", "v0.2.3", "vlmevalkit")
    main_metric = "average"
    max_new_tokens = 1024
    source = Source(
        ids=("Lin-Chen/MMStar",),
        split="val",
        columns=("index", "question", "answer", "category", "l2_category"),
        rows=1_500,
    )
    key_column = "index"
    category_sizes: ClassVar[Mapping[str, int]] = dict.fromkeys(ABILITIES, 250)
    papers: ClassVar[Mapping[str, str]] = {"hero": "accuracy", "ptp": "accuracy"}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], row["answer"], row["category"], {"l2": row["l2_category"]})

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        # lmms-eval's instruction lacks the full stop.
        return sample.question.strip() + (LETTER.rstrip(".") if style == "lmms-eval" else LETTER)

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Whether the answer names the gold letter."""
        gold = str(references).strip().upper()
        if self.flavour == "v0.2.3":
            hit = starts_with_letter(prediction, gold)
        elif self.flavour == "vlmevalkit":
            options = options_in(sample.question) if sample is not None else {}
            # Without them, placeholders that no answer contains leave the letters alone to decide.
            options = options or dict.fromkeys("ABCD", "\0" * len(prediction))
            hit = match_option_vlmevalkit(prediction, options) == gold
        else:
            hit = extract_letter(prediction.strip(), "ABCD") == gold
        return {"average": float(hit), "accuracy": float(hit)}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """`average` over axes, `accuracy` over questions, and each ability as its mean over axes."""
        if not scored:
            return []
        hits = [float(item.scores["average"]) for item in scored]
        metrics = [Metric("average", _over_axes(scored), len(hits)), Metric("accuracy", mean(hits), len(hits))]
        for key, group in by_category(scored).items():
            metrics.append(Metric("average", _over_axes(group), len(group), key))
            metrics.append(Metric("accuracy", mean([float(item.scores["average"]) for item in group]), len(group), key))
        return metrics

    def lmms_keys(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """There every ability is a metric of its own."""
        return {metric.category or "average": metric.value for metric in metrics if metric.name == "average"}


def _over_axes(scored: Sequence[Scored]) -> float:
    axes: dict[tuple[str, str], list[float]] = {}
    for item in scored:
        axis = (item.sample.category, str(item.sample.extra.get("l2") or ""))
        axes.setdefault(axis, []).append(float(item.scores["average"]))
    return mean([mean(values) for values in axes.values()])
