"""POPE (Li et al. 2023): is this object in the picture? Three samplings of absent objects over 500 COCO pictures.

Three habits, one benchmark: lmms-eval counts literal yes/no only and reports accuracy (HERO's figure, most likely);
LLaVA and InternVL report the mean of the three samplings' F1; VLMEvalKit (PTP) the pooled F1. All are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hero_ray.benchmarks.dataset import SHORT, DatasetBenchmark, Fields, PromptStyle, by_category, mean
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.tally import Tally, detected, f1, said_yes, share
from hero_ray.benchmarks.yes_no import by_words, detection, first_sentence
from hero_ray.core.types import Metric, Sample, Scored


class Pope(DatasetBenchmark):
    """POPE, all three samplings."""

    name = "pope"
    aliases = ("POPE",)
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    main_metric = "pope_accuracy"
    max_new_tokens = 128
    source = Source(
        ids=("lmms-lab-encoder/POPE", "lmms-lab/POPE"),
        split="test",
        columns=("question_id", "question", "answer", "image_source", "category"),
        rows=9_000,
    )
    image_column = "image_source"
    category_sizes: ClassVar[Mapping[str, int]] = {"adversarial": 3_000, "popular": 3_000, "random": 3_000}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], row["answer"], row["category"] or "", {"question_id": str(row["question_id"])})

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        return sample.question if style == "vlmevalkit" else sample.question.strip() + SHORT

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Right or wrong by the flavour's reader; what the aggregate needs travels along."""
        text = prediction.strip()
        read = by_words(text) if self.flavour == "vlmevalkit" else text.lower()
        gold = str(references).lower().strip()
        seen = read if read in ("yes", "no") else "other"
        return {"pope_accuracy": float(seen == gold), "read": seen, "read_llava": first_sentence(text), "gold": gold}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """lmms-eval's five keys, our own share of yes answers, LLaVA's mean F1; accuracy and F1 by sampling."""
        if not scored:
            return []
        n, groups = len(scored), by_category(scored)
        found = detection(_pairs(scored), self.flavour == "vlmevalkit")
        metrics = [
            Metric("pope_accuracy", found.accuracy, n),
            Metric("pope_precision", found.precision, n),
            Metric("pope_recall", found.recall, n),
            Metric("pope_f1_score", found.f1, n),
            # Upstream reads it off the references, so it says nothing about the model; the next one does.
            Metric("pope_yes_ratio", mean([float(item.scores["gold"] == "yes") for item in scored]), n),
            Metric("pope_predicted_yes_ratio", mean([float(item.scores["read"] == "yes") for item in scored]), n),
        ]
        if groups:
            llava = [detection(_pairs(group, "read_llava")).f1 for group in groups.values()]
            metrics.append(Metric("pope_f1_llava", mean(llava), n))
        for key, group in groups.items():
            part = detection(_pairs(group), self.flavour == "vlmevalkit")
            metrics.append(Metric("pope_accuracy", part.accuracy, len(group), key))
            metrics.append(Metric("pope_f1_score", part.f1, len(group), key))
        return metrics

    def tally(self, scored: Sequence[Scored]) -> Tally:
        """Counts of found, false alarms, missed and said, overall and, by LLaVA's reader, for each sampling."""
        groups = list(by_category(scored))
        llava = detected(scored, "read_llava")
        of = np.array([[item.sample.category == name for name in groups] for item in scored], dtype=float)
        apart = (of[:, :, None] * llava[:, None, :]).reshape(len(scored), 3 * len(groups))
        counts = np.hstack([detected(scored, "read", self.flavour == "vlmevalkit"), of, apart, said_yes(scored)])

        def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
            precision, recall, harmonic = f1(*np.moveaxis(sums[..., :3], -1, 0))
            found = {"pope_precision": precision, "pope_recall": recall, "pope_f1_score": harmonic}
            if groups:
                asked = sums[..., 3 : 3 + len(groups)] > 0
                parts = sums[..., 3 + len(groups) : -3].reshape(*sums.shape[:-1], len(groups), 3)
                each = f1(*np.moveaxis(parts, -1, 0))[2]
                found["pope_f1_llava"] = share((each * asked).sum(axis=-1), asked.sum(axis=-1).astype(float))
            asked, said, right = np.moveaxis(sums[..., -3:], -1, 0)
            return found | {"pope_yes_ratio": share(right, asked), "pope_predicted_yes_ratio": share(said, asked)}

        return Tally(counts, figures)

    def paper_figures(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """HERO and HiRED: accuracy. PTP: pooled F1."""
        whole = {metric.name: 100 * metric.value for metric in metrics if not metric.category}
        if "pope_accuracy" not in whole:
            return {}
        return {"hero": whole["pope_accuracy"], "hired": whole["pope_accuracy"], "ptp": whole["pope_f1_score"]}


def _pairs(scored: Sequence[Scored], reader: str = "read") -> list[tuple[str, str]]:
    return [(item.scores[reader], item.scores["gold"]) for item in scored]
