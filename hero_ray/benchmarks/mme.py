"""MME (Fu et al. 2023): two yes/no questions per picture, fourteen sub-tasks.

A sub-task's score is the mean over pictures of acc (share of the two that are right, times 100) plus acc+ (100 if both
are). Perception adds ten sub-tasks (2000 points), cognition four (800). HERO and HiRED print perception, PTP the sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hero_ray.benchmarks.dataset import SHORT, DatasetBenchmark, Fields, PromptStyle, mean, spaced
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.tally import Tally, share
from hero_ray.benchmarks.yes_no import by_words, first_four
from hero_ray.core.errors import DatasetError
from hero_ray.core.types import Metric, Sample, Scored

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
PLEA = " Please answer yes or no."


def category_scores(rows: Sequence[tuple[str, str, bool]]) -> dict[str, float]:
    """Score of every sub-task present, from (category, picture, right) rows.

    Raises:
        DatasetError: a picture without exactly two rows.
    """
    pictures: dict[str, dict[str, list[bool]]] = {}
    for category, picture, right in rows:
        pictures.setdefault(category, {}).setdefault(picture, []).append(right)
    for category, groups in pictures.items():
        for picture, hits in groups.items():
            if len(hits) != 2:
                raise DatasetError(f"mme: picture {picture!r} ({category}) has {len(hits)} answers; expected exactly 2")
    return {
        category: mean([sum(hits) / 2 * 100 + 100 * all(hits) for hits in groups.values()])
        for category, groups in pictures.items()
    }


class Mme(DatasetBenchmark):
    """MME."""

    name = "mme"
    aliases = ("MME", "mme_perception")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    main_metric = "mme_perception_score"
    scale = 2000.0
    source = Source(
        ids=("lmms-lab-encoder/MME", "lmms-lab/MME"),
        split="test",
        columns=("question_id", "question", "answer", "category"),
        rows=2_374,
    )
    key_column = "question_id"
    image_column = "question_id"
    num_pictures = 1_187

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], row["answer"], row["category"], {"question_id": row["question_id"]})

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        if style == "lmms-eval":
            return sample.question.strip().replace(PLEA, "") + SHORT
        return sample.question + spaced(SHORT)

    def read(self, prediction: str) -> str:
        """`yes`, `no` or `other`."""
        if self.flavour == "vlmevalkit":
            return by_words(prediction)
        return first_four(prediction, one_letter=self.flavour != "hired")

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Whether this one answer is right, and how it was read."""
        read = self.read(prediction)
        return {"mme_perception_score": float(read == str(references).lower().strip()), "read": read}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Perception, cognition and every sub-task, in points; `mme_accuracy` is the plain share.

        A picture with one answer missing (a failed sample, a limit that cuts it in two) is left out and counted in
        `mme_incomplete_pictures`: acc+ is not defined for it.
        """
        if not scored:
            return []
        whole, incomplete = _whole_pictures(scored)
        points = category_scores([(item.sample.category, picture, _right(item)) for picture, item in whole])
        sizes = {key: sum(item.sample.category == key for _, item in whole) for key in points}
        metrics = []
        for name, group in (("mme_perception_score", PERCEPTION), ("mme_cognition_score", COGNITION)):
            present = [key for key in group if key in points]
            if present:
                total = sum(points[key] for key in present)
                metrics.append(Metric(name, total, sum(sizes[key] for key in present)))
                if name == "mme_perception_score" and self.flavour in ("v0.2.3", "v0.2.0", "hired"):
                    metrics.append(Metric("mme_percetion_score", total, metrics[-1].n))  # upstream's spelling then
        metrics.append(Metric("mme_accuracy", mean([float(_right(item)) for item in scored]), len(scored)))
        if incomplete:
            metrics.append(Metric("mme_incomplete_pictures", float(incomplete), len(scored)))
        return metrics + [Metric("mme_category_score", value, sizes[key], key) for key, value in points.items()]

    def tally(self, scored: Sequence[Scored]) -> Tally:
        """For each sub-task its whole pictures and their points (acc and acc+), on the first answer of a picture."""
        tasks = (*PERCEPTION, *COGNITION)
        whole, _ = _whole_pictures(scored)
        place = {id(item): number for number, item in enumerate(scored)}
        counts = np.zeros((len(scored), 2 * len(tasks)))
        for (_, first), (_, second) in zip(whole[::2], whole[1::2], strict=True):
            hits = _right(first) + _right(second)
            at = tasks.index(first.sample.category) if first.sample.category in tasks else None
            if at is not None:
                counts[place[id(first)], [2 * at, 2 * at + 1]] = 1.0, 50.0 * hits + 100.0 * (hits == 2)

        def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
            points = share(sums[..., 1::2], sums[..., ::2])
            perception, cognition = points[..., : len(PERCEPTION)].sum(-1), points[..., len(PERCEPTION) :].sum(-1)
            return {
                "mme_perception_score": perception,
                "mme_percetion_score": perception,
                "mme_cognition_score": cognition,
            }

        return Tally(counts, figures)

    def paper_figures(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """HERO and HiRED: perception. PTP: perception + cognition (which VLMEvalKit calls reasoning)."""
        whole = {metric.name: metric.value for metric in metrics if not metric.category}
        perception, cognition = whole.get("mme_perception_score"), whole.get("mme_cognition_score")
        figures = {} if perception is None else {"hero": perception, "hired": perception}
        return figures | ({} if perception is None or cognition is None else {"ptp": perception + cognition})


def _right(item: Scored) -> bool:
    return bool(item.scores["mme_perception_score"])


def _whole_pictures(scored: Sequence[Scored]) -> tuple[list[tuple[str, Scored]], int]:
    """Items of complete pictures under a picture id, and how many pictures are incomplete.

    The id carries a counter for repeated samples, so a bootstrap that draws a picture twice counts it twice.
    """
    copies: dict[str, int] = {}
    groups: dict[str, list[Scored]] = {}
    for item in scored:
        copy = copies[item.sample.key] = copies.get(item.sample.key, 0) + 1
        picture = str(item.sample.extra.get("question_id", item.sample.image_key))
        groups.setdefault(f"{picture}@{copy}", []).append(item)
    whole = [(picture, item) for picture, group in groups.items() if len(group) == 2 for item in group]
    return whole, sum(len(group) != 2 for group in groups.values())
