"""V* bench (Wu and Xie 2024): small things in large photographs, 115 attributes and 76 relative positions.

Options and an instruction stand in the question's text. lmms-eval rewrites the options' heads and adds the instruction
again, so that it stands there twice; so do we in that style.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from hero_ray.benchmarks.choices import extract_letter_vstar, match_option_vlmevalkit
from hero_ray.benchmarks.dataset import LETTER, DatasetBenchmark, Fields, PromptStyle, lettered, means
from hero_ray.benchmarks.sources import Source
from hero_ray.core.types import Metric, Sample, Scored

LETTERS = "ABCD"
_OPTION = re.compile(r"\([A-D]\)\s*([^()]+?)(?=\s*\([A-D]\)|$)")


def option_texts(text: str) -> list[str]:
    """Texts of the options `(A) ...` of a question, A first; the last one has the question's instruction in it."""
    return [option.strip() for option in _OPTION.findall(text)][: len(LETTERS)]


class VstarBench(DatasetBenchmark):
    """V* bench."""

    name = "vstar_bench"
    aliases = ("VStarBench", "vstar")
    flavours = ("head", "vlmevalkit")
    main_metric = "vstar_overall_acc"
    scale = 100.0
    source = Source(
        ids=("lmms-lab-encoder/vstar-bench", "lmms-lab/vstar-bench"),
        split="test",
        columns=("text", "category", "label", "question_id"),
        rows=191,
    )
    key_column = "question_id"
    category_sizes: ClassVar[Mapping[str, int]] = {"direct_attributes": 115, "relative_position": 76}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        options = option_texts(row["text"])
        if options:
            options[-1] = options[-1].removesuffix(LETTER.strip()).strip()
        return Fields(row["text"], {"answer": row["label"].strip().upper(), "options": options}, row["category"] or "")

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        text, options = sample.question, option_texts(sample.question)
        if not options:
            return text + LETTER
        head = text.split("(A)")[0].strip()
        if style == "lmms-eval":
            return f"{head}\n{lettered(options)}{LETTER}"
        return f"{head}\n{lettered(sample.references['options'])}{LETTER}"

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Whether the answer names the right option; `references` is {answer, options} or the letter."""
        if isinstance(references, str):
            references = {"answer": references, "options": []}
        if self.flavour == "vlmevalkit":
            # Without them, placeholders that no answer contains leave the letters alone to decide.
            texts = references["options"] or ["\0" * len(prediction) or "\0"] * len(LETTERS)
            letter = match_option_vlmevalkit(prediction, dict(zip(LETTERS, texts, strict=False)))
        else:
            letter = extract_letter_vstar(prediction)
        return {"vstar_overall_acc": float(letter == references["answer"].strip().upper())}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Percent right, of all and of each category."""
        return [replace(metric, value=100 * metric.value) for metric in means(scored, "vstar_overall_acc")]

    def lmms_keys(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """There each category is a metric of its own."""
        return {f"vstar_{metric.category or 'overall'}_acc": metric.value for metric in metrics}
