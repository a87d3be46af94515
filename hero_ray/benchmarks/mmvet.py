"""MM-Vet (Yu et al. 2023): open answers graded by a judge model, six capabilities.

The judge's identity moves the result by several points, so its id is part of every score. Without a judge the benchmark
is refused; no offline rule is comparable. `mmvet_judge.txt` is lmms-eval's copy of the official table (yuweihao/MM-Vet,
Apache-2.0), which differs from it in one heading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, ClassVar

import numpy as np

from hero_ray.benchmarks.dataset import DatasetBenchmark, Fields, PromptStyle, mean
from hero_ray.benchmarks.judge import Judge
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.tally import Tally, share
from hero_ray.core.types import Metric, Sample, Scored

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
LEAD = "First please perform reasoning, and think step by step to provide best answer to the following question: \n\n"
OLD_LEAD = "Please think step by step and try to provide best answer to the following question: \n\n"


def judge_prompt(question: str, answer: str, prediction: str) -> str:
    """The official few-shot table with one more row to fill in."""
    table = files("hero_ray.benchmarks").joinpath("mmvet_judge.txt").read_text(encoding="utf-8")
    spaced = answer.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    return f"{table}\n{question} | {spaced} | {prediction} |"


class MmVet(DatasetBenchmark):
    """MM-Vet."""

    name = "mmvet"
    aliases = ("MM-Vet", "MMVet")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    main_metric = "gpt_eval_score"
    scale = 100.0
    max_new_tokens = 1024
    needs_judge: ClassVar[bool] = True
    source = Source(
        ids=("lmms-lab-encoder/MMVet", "lmms-lab/MMVet"),
        split="test",
        columns=("question_id", "question", "answer", "capability"),
        rows=218,
    )
    key_column = "question_id"

    def require(self) -> None:
        """Refuse before anything is generated.

        Raises:
            JudgeError: the environment names no judge.
        """
        Judge.from_environment(self.name)

    def fields(self, row: Mapping[str, Any]) -> Fields:
        references = {"answer": row["answer"], "question": row["question"]}
        return Fields(row["question"], references, extra={"capability": row["capability"]})

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        if style != "lmms-eval":
            return sample.question
        return (LEAD if self.flavour == "head" else OLD_LEAD) + sample.question

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """The judge's grade; its id and replies travel along.

        Raises:
            JudgeError: no judge is set, or it cannot be asked.
        """
        judge = Judge.from_environment(self.name)
        if isinstance(references, str):
            references = {"answer": references, "question": sample.question if sample else ""}
        verdict = judge.grade(judge_prompt(references["question"], references["answer"], prediction.strip()))
        return {"gpt_eval_score": verdict.score, "judge": judge.model, "judge_replies": list(verdict.replies)}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """A hundred times the mean, then over the questions that need each capability."""
        if not scored:
            return []

        def percent(items: Sequence[Scored]) -> float:
            return sum(float(item.scores["gpt_eval_score"]) for item in items) / len(items) * 100

        metrics = [Metric("gpt_eval_score", percent(scored), len(scored))]
        for capability in CAPABILITIES:
            part = [i for i in scored if capability in str(i.sample.extra.get("capability", "")).split(",")]
            if part:
                metrics.append(Metric("gpt_eval_score", percent(part), len(part), capability))
        return metrics

    def tally(self, scored: Sequence[Scored]) -> Tally:
        """Answers and their judged scores."""
        counts = np.array([[1.0, float(item.scores["gpt_eval_score"])] for item in scored])
        return Tally(counts, lambda sums: {"gpt_eval_score": 100 * share(sums[..., 1], sums[..., 0])})

    def paper_figures(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """Percent, as it is; comparable only between equal judges."""
        value = mean([metric.value for metric in metrics if metric.name == self.main_metric and not metric.category])
        return {"ptp": value} if metrics else {}
