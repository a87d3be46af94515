"""Multiple choice where a judge may read the answers that no rule can.

`judge=True` asks one in any flavour about what the flavour's rule leaves undecided; what it cannot decide either is
wrong, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hero_ray.benchmarks.choices import match_option
from hero_ray.benchmarks.dataset import DatasetBenchmark
from hero_ray.benchmarks.images import MAX_PIXELS, ExifPolicy
from hero_ray.benchmarks.judge import Judge
from hero_ray.core.types import Sample


def judge_prompt(question: str, options: Mapping[str, Any], prediction: str) -> str:
    """The matching request: which option is nearest to the answer, or E for none."""
    listed = " ".join(f"{letter}. {text}" for letter, text in options.items() if text not in (None, "nan"))
    return (
        "Match an answer to the options of a single-choice question. Reply with one upper-case letter: that of the "
        "option closest in meaning to the answer, or E if the answer means something different from every option.\n"
        "Question: What is the main object in the picture?\nOptions: A. teddy bear B. rabbit C. cat D. dog\n"
        "Answer: a cute teddy bear\nReply: A\n"
        "Question: What is the main object in the picture?\nOptions: A. teddy bear B. rabbit C. cat D. dog\n"
        "Answer: spider\nReply: E\n"
        f"Question: {question}\nOptions: {listed}\nAnswer: {prediction}\nReply: "
    )


class JudgedChoices(DatasetBenchmark):
    """A benchmark of options whose `read` may leave an answer undecided.

    Args:
        judge: ask the judge of the environment about undecided answers.
        **others: as `DatasetBenchmark`.
    """

    def __init__(
        self,
        flavour: str | None = None,
        judge: bool = False,
        data: str | Path | None = None,
        hub: str | None = None,
        config: str | None = None,
        split: str | None = None,
        prompts: str | None = None,
        image_keys: str = "auto",
        exif: ExifPolicy = "apply",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(flavour, data, hub, config, split, prompts, image_keys, exif, max_pixels)
        self.judge = judge

    def require(self) -> None:
        """Refuse `judge=True` without a judge before anything is generated."""
        if self.judge:
            Judge.from_environment(self.name)

    def read(self, prediction: str, options: Mapping[str, Any]) -> str | None:
        """The option letter an answer means; None where the flavour cannot tell."""
        raise NotImplementedError

    def decide(
        self, prediction: str, options: Mapping[str, Any], sample: Sample | None
    ) -> tuple[str | None, dict[str, Any]]:
        """(letter or None, the judge's name and reply where one was asked)."""
        letter = self.read(prediction, options)
        if letter is not None or not self.judge:
            return letter, {}
        judge = Judge.from_environment(self.name)
        reply = judge.reply(judge_prompt(sample.question if sample else "", options, prediction.strip()))
        found = match_option(reply, options)
        return found if found in options else None, {"judge": judge.model, "judge_replies": [reply]}
