"""RealWorldQA (xAI 2024): photographs, mostly from vehicles; options and instruction are inside the question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hero_ray.benchmarks.choices import extract_letter, gold_and_options, match_option_vlmevalkit
from hero_ray.benchmarks.dataset import DatasetBenchmark, Fields, PromptStyle
from hero_ray.benchmarks.sources import Source
from hero_ray.benchmarks.vqa_text import NUMBERS
from hero_ray.core.types import Sample

_OPTION = re.compile(r"\b([A-Z])\.\s+([^\n]*)")
_SYMBOLS = re.compile(r"[^\w\s]")
_DIGITS = {word: digit for word, digit in NUMBERS.items() if word != "none"}


def option_texts(question: str) -> list[str]:
    """Texts of the option lines, A first."""
    return [text.strip() for _, text in _OPTION.findall(question)]


def released_answer(text: str, options: Sequence[str]) -> str:
    """The v0.2.x filters: number words to digits, symbols out, an option's text to its letter."""
    text = _SYMBOLS.sub("", _DIGITS.get(text.lower(), text)).strip()
    letters = {option: chr(65 + i) for i, option in enumerate(options)}
    found = re.search("|".join(map(re.escape, options)), text) if options else None
    return letters.get(found.group(), text) if found else text


class RealWorldQa(DatasetBenchmark):
    """RealWorldQA."""

    name = "realworldqa"
    aliases = ("RWQA", "RealWorldQA", "RVQA")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    source = Source(
        ids=("lmms-lab-encoder/RealWorldQA", "lmms-lab/RealWorldQA"),
        split="test",
        columns=("question", "answer"),
        rows=765,
    )
    papers: ClassVar[Mapping[str, str]] = {"hero": "exact_match", "ptp": "exact_match"}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], {"answer": row["answer"], "options": option_texts(row["question"])})

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        return sample.question.strip()

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """`references` is the answer, or {answer, options}."""
        gold, options = gold_and_options(references)
        text, gold = prediction.strip(), gold.strip()
        if self.flavour == "vlmevalkit" and gold in tuple("ABCD"):
            named = {chr(65 + i): option for i, option in enumerate(options)} or dict.fromkeys("ABCD", "")
            return {"exact_match": float(match_option_vlmevalkit(prediction, named) == gold)}
        if self.flavour in ("head", "vlmevalkit"):
            if gold.upper() in tuple("ABCD"):
                return {"exact_match": float(extract_letter(text, "ABCD") == gold.upper())}
            return {"exact_match": float(text.lower().rstrip(".") == gold.lower())}
        return {"exact_match": float(released_answer(text, options).lower().rstrip(".") == gold.lower())}
