"""HR-Bench (Wang et al. 2025): 200 questions about pictures of 4K or 8K, each asked with its options in four orders.

Half are about one object (`single`, the paper's FSP), half about several (`cross`, FCP). Every figure is the mean over
the four orders (`cycle_category`) of the mean over questions. Pictures are base64 text in their column.

lmms-eval asks a judge about answers its matcher cannot decide and stops where it has none; here they are wrong and
counted (`hrbench_undecided`), or the judge's with `judge=True`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hero_ray.benchmarks.choices import match_option_hrbench, match_option_vlmevalkit
from hero_ray.benchmarks.dataset import LETTER, Fields, PromptStyle, by_category, mean
from hero_ray.benchmarks.judged_choices import JudgedChoices
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.tally import Tally, share
from hero_ray.core.types import Metric, Sample, Scored

LETTERS = "ABCD"
COLUMNS = ("index", "question", "answer", "category", *LETTERS, "cycle_category")


class HrBench(JudgedChoices):
    """One resolution of HR-Bench."""

    flavours = ("head", "vlmevalkit")
    main_metric = "average"
    max_new_tokens = 1024
    key_column = "index"
    category_sizes: ClassVar[Mapping[str, int]] = {"single": 400, "cross": 400}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        options = {letter: str(row[letter]) for letter in LETTERS if row[letter] is not None}
        references = {"answer": row["answer"], "options": options}
        return Fields(row["question"], references, row["category"] or "", {"cycle": str(row["cycle_category"])})

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        lines = [sample.question.strip(), *(f"{key}. {text}" for key, text in sample.references["options"].items())]
        return "\n".join(lines) + ("\nAnswer the option letter directly." if style == "lmms-eval" else LETTER)

    def read(self, prediction: str, options: Mapping[str, Any]) -> str | None:
        if self.flavour == "vlmevalkit":
            return match_option_vlmevalkit(prediction, options)
        return match_option_hrbench(prediction.strip(), options)

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Whether the answer names the right option of its order; `references` is {answer, options} or the letter."""
        if isinstance(references, str):
            references = {"answer": references, "options": dict.fromkeys(LETTERS, "\0" * len(prediction) or "\0")}
        letter, judged = self.decide(prediction, references["options"], sample)
        hit = letter is not None and letter.lower() == str(references["answer"]).lower()
        return {"average": float(hit), "accuracy": float(hit), "letter": letter, **judged}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """`average` over the orders, `accuracy` over questions, how many stayed undecided; both by category."""
        if not scored:
            return []
        undecided = mean([float(item.scores["letter"] is None) for item in scored])
        metrics = [*_figures(scored), Metric("hrbench_undecided", undecided, len(scored))]
        for key, group in by_category(scored).items():
            metrics += _figures(group, key)
        return metrics

    def tally(self, scored: Sequence[Scored]) -> Tally:
        """Questions and right answers of every order."""
        cycles = {cycle: at for at, cycle in enumerate(dict.fromkeys(map(_cycle, scored)))}
        counts = np.zeros((len(scored), 2 * len(cycles)))
        for number, item in enumerate(scored):
            at = 2 * cycles[_cycle(item)]
            counts[number, at : at + 2] = 1.0, item.scores["average"]

        def figures(sums: Any) -> dict[str, Any]:
            asked, right = sums[..., ::2], sums[..., 1::2]
            return {"average": share(share(right, asked).sum(axis=-1), (asked > 0).sum(axis=-1))}

        return Tally(counts, figures)

    def lmms_keys(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """There each category is a metric of its own."""
        return {metric.category or "average": metric.value for metric in metrics if metric.name == "average"}


def _cycle(item: Scored) -> str:
    return str(item.sample.extra.get("cycle", ""))


def _figures(scored: Sequence[Scored], category: str = "") -> list[Metric]:
    cycles: dict[str, list[float]] = {}
    for item in scored:
        cycles.setdefault(_cycle(item), []).append(float(item.scores["average"]))
    hits = [float(item.scores["accuracy"]) for item in scored]
    over = mean([mean(values) for values in cycles.values()])
    return [Metric("average", over, len(hits), category), Metric("accuracy", mean(hits), len(hits), category)]


def _source(split: str) -> Source:
    return Source(("DreamMr/HR-Bench",), split, COLUMNS, "hrbench_version_split", rows=800)


class HrBench4k(HrBench):
    """HR-Bench 4K."""

    name = "hrbench4k"
    aliases = ("HRBench4K", "hr_bench_4k")
    source = _source("hrbench_4k")


class HrBench8k(HrBench):
    """HR-Bench 8K."""

    name = "hrbench8k"
    aliases = ("HRBench8K", "hr_bench_8k")
    source = _source("hrbench_8k")
