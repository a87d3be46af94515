"""SEED-Bench (Li et al. 2023), the image half: the papers' "SEED". Video rows are skipped and never decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hero_ray.benchmarks.choices import gold_and_options, match_option_vlmevalkit
from hero_ray.benchmarks.dataset import LETTER, DatasetBenchmark, Fields, PromptStyle, by_category, lettered, mean
from hero_ray.benchmarks.sources import Source
from hero_ray.core.types import Metric, Sample, Scored

CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")


class SeedBench(DatasetBenchmark):
    """SEED-Bench, image questions."""

    name = "seedbench"
    aliases = ("SEED", "SEEDBench_IMG", "seed_bench", "SEED-I")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    main_metric = "seed_image"
    max_new_tokens = 1024
    source = Source(
        ids=("lmms-lab-encoder/SEED-Bench", "lmms-lab/SEED-Bench"),
        split="test",
        columns=("question", *CHOICES, "answer", "data_id", "data_type", "question_id", "question_type_id"),
    )
    key_column = "question_id"
    image_column = "data_id"
    papers: ClassVar[Mapping[str, str]] = {"ptp": "seed_image"}

    def wanted(self, row: Mapping[str, Any]) -> bool:
        return row["data_type"] == "image"

    def fields(self, row: Mapping[str, Any]) -> Fields:
        options = [str(row[choice]) for choice in CHOICES]
        references = {"answer": row["answer"], "options": options}
        extra = {"options": options, "data_type": row["data_type"]}
        return Fields(row["question"], references, f"type {row['question_type_id']}", extra)

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        return f"{sample.question}\n{lettered(sample.extra['options'])}{LETTER}"

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """The first character against the gold letter; `references` is the letter, or {answer, options}."""
        gold, options = gold_and_options(references)
        if self.flavour == "vlmevalkit":
            named = {chr(65 + i): option for i, option in enumerate(options)}
            return {"seed_image": float(match_option_vlmevalkit(prediction, named) == gold)}
        fold = str.upper if self.flavour in ("head", "v0.2.3") else str
        return {"seed_image": float(fold(prediction.strip()[:1]) == fold(gold))}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """`seed_image`, `seed_all` (and `seed_video` where such rows were given), then question types."""
        if not scored:
            return []

        def part(key: str, items: Sequence[Scored], category: str = "") -> Metric:
            return Metric(key, mean([float(item.scores["seed_image"]) for item in items]), len(items), category)

        metrics = []
        for kind in ("image", "video"):
            items = [item for item in scored if item.sample.extra.get("data_type", "image") == kind]
            if items:
                metrics.append(part(f"seed_{kind}", items))
        metrics.append(part("seed_all", scored))
        return metrics + [part("seed_image", group, key) for key, group in by_category(scored).items()]
