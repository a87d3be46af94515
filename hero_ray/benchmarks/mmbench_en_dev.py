"""MMBench English dev (Liu et al. 2023): every question asked once per rotation of its options.

A question counts only if all its rotations are answered right. Answers the option matcher cannot decide go to the
shared letter extractor in `head` (lmms-eval's `static` mode, no judge) and are wrong in the other flavours: VLMEvalKit
matches exactly; older lmms-eval asked a judge, and without one guessed at random. `judge=True` asks one in any flavour;
what it cannot decide either is wrong, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hero_ray.benchmarks.choices import extract_letter, match_option, match_option_vlmevalkit
from hero_ray.benchmarks.dataset import LETTER, Fields, PromptStyle, mean
from hero_ray.benchmarks.judged_choices import JudgedChoices
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.tally import Tally, share
from hero_ray.core.types import Metric, Sample, Scored

CIRCLE = 1_000_000
HEADING = "There are several options:"


def build_prompt(row: Mapping[str, Any]) -> str:
    """lmms-eval's prompt without the closing instruction; empty options vanish, the string `nan` too."""
    options = [f"{letter}. {row[letter]}" for letter in "ABCDE" if row.get(letter) and row[letter] != "nan"]
    body = f"{row['question']} " + "\n".join([HEADING, *options])
    hint = row.get("hint")
    return body if hint is None or hint == "nan" else f"{hint} {body}"


class MmBench(JudgedChoices):
    """MMBench English dev, circular."""

    name = "mmbench_en_dev"
    aliases = ("mmbench", "MMB", "mmbench_dev_en", "MMBench_DEV_EN", "mmbench_en_dev_static")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    main_metric = "gpt_eval_score"
    scale = 100.0
    max_new_tokens = 1024
    source = Source(
        ids=("lmms-lab-encoder/MMBench", "lmms-lab/MMBench"),
        config="en",
        split="dev",
        columns=("index", "question", "hint", "answer", "A", "B", "C", "D", "category", "L2-category"),
        rows=4_329,
    )
    key_column = "index"

    def fields(self, row: Mapping[str, Any]) -> Fields:
        options = {letter: row[letter] for letter in "ABCD"}
        extra = {"index": int(row["index"]), "hint": row["hint"], "options": options, "l2": row["L2-category"]}
        return Fields(row["question"], {"answer": row["answer"], "options": options}, row["category"] or "", extra)

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        options, hint = sample.extra["options"], sample.extra["hint"]
        if style == "lmms-eval":
            return build_prompt({"question": sample.question, "hint": hint, **options}) + "\n" + LETTER
        lines = [f"{letter}. {text}" for letter, text in options.items() if text and text != "nan"]
        head = [hint] if hint and hint != "nan" else []
        return "\n".join([*head, sample.question, *lines]) + LETTER

    def read(self, prediction: str, options: Mapping[str, Any]) -> str | None:
        """The option letter an answer means; None where the flavour cannot tell."""
        if self.flavour == "vlmevalkit":
            present = {letter: text for letter, text in options.items() if text not in (None, "nan")}
            return match_option_vlmevalkit(prediction, present)
        text = prediction.strip()
        letter = match_option(text, options)
        if letter is None and self.flavour == "head" and not self.judge:
            letters = [key for key, option in options.items() if option not in (None, "nan")]
            return extract_letter(text, letters) or None
        return letter

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Whether this rotation is right; `references` is {answer, options} or the gold letter."""
        gold, options = _gold(references)
        letter, judged = self.decide(prediction, options, sample)
        return {"gpt_eval_score": float(letter is not None and letter == gold), "letter": letter, **judged}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Circular accuracy in percent, the plain one, how many stayed undecided; circular by category and L2."""
        if not scored:
            return []
        bases, hits = _circles(scored)
        metrics = [
            Metric("gpt_eval_score", 100 * mean(hits), len(hits)),
            Metric("mmbench_plain_accuracy", mean([float(i.scores["gpt_eval_score"]) for i in scored]), len(scored)),
            Metric("mmbench_undecided", mean([float(i.scores["letter"] is None) for i in scored]), len(scored)),
        ]
        for name, label in (("gpt_eval_score", "category"), ("mmbench_l2_score", "l2")):
            groups: dict[str, list[float]] = {}
            for base, hit in zip(bases, hits, strict=True):
                key = base.sample.category if label == "category" else str(base.sample.extra.get("l2") or "")
                groups.setdefault(key, []).append(hit)
            metrics += [Metric(name, 100 * mean(part), len(part), key) for key, part in groups.items() if key]
        return metrics

    def tally(self, scored: Sequence[Scored]) -> Tally:
        """Circles and those whose rotations are all right, on the circle's base question."""
        circles: dict[int, list[int]] = {}
        for number, item in enumerate(scored):
            circles.setdefault(int(item.sample.extra["index"]) % CIRCLE, []).append(number)
        counts = np.zeros((len(scored), 2))
        for index, members in circles.items():
            base = next((n for n in members if int(scored[n].sample.extra["index"]) == index), None)
            if base is not None:
                counts[base] = 1.0, float(all(scored[n].scores["gpt_eval_score"] for n in members))
        return Tally(counts, lambda sums: {"gpt_eval_score": 100 * share(sums[..., 1], sums[..., 0])})

    def caution(self, scored: Sequence[Scored]) -> str:
        """Upstream counts a circle by the rotations that are there; one that lacks some is easier than a whole one."""
        circles: dict[int, list[Scored]] = {}
        for item in scored:
            circles.setdefault(int(item.sample.extra["index"]) % CIRCLE, []).append(item)
        short = sum(len(circle) < _rotations(circle[0]) for circle in circles.values())
        return f"{short} of {len(circles)} circles are incomplete: no circular figure" if short else ""

    def paper_figures(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """Percent, as it is; the papers used other revisions of dev and a judge."""
        whole = {metric.name: metric.value for metric in metrics if not metric.category}
        value = whole.get("gpt_eval_score")
        return {} if value is None else {"hero": value, "ptp": value}


def _gold(references: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(references, str):
        return references, dict.fromkeys("ABCD", "nan")
    return references["answer"], references["options"]


def _rotations(item: Scored) -> int:
    """How often a question is asked: once for each of its options; 1 where they are not known."""
    options = _gold(item.sample.references)[1]
    return max(1, sum(text not in (None, "nan") for text in options.values()))


def _circles(scored: Sequence[Scored]) -> tuple[list[Scored], list[float]]:
    """Base questions present and whether every rotation present is right; repeated samples count apart."""
    copies: dict[str, int] = {}
    groups: dict[tuple[int, int], list[Scored]] = {}
    for item in scored:
        copy = copies[item.sample.key] = copies.get(item.sample.key, 0) + 1
        groups.setdefault((int(item.sample.extra["index"]) % CIRCLE, copy), []).append(item)
    bases, hits = [], []
    for (index, _), group in groups.items():
        base = next((item for item in group if int(item.sample.extra["index"]) == index), None)
        if base is not None:
            bases.append(base)
            hits.append(float(all(item.scores["gpt_eval_score"] for item in group)))
    return bases, hits
