"""`file:PATH`: a JSONL or Parquet file of one's own as a benchmark.

A row has `image` (path relative to the file, data URL, base64 or bytes), `question` and `answer` or `answers`; optional
are `id`, `category` and `options` (list of texts: the answer is then a letter). Rows with equal picture bytes share one
encode. The metric is named by the flavour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hero_ray.benchmarks.chartqa import relaxed_match
from hero_ray.benchmarks.choices import extract_letter
from hero_ray.benchmarks.dataset import LETTER, DatasetBenchmark, Fields, PromptStyle, lettered, means
from hero_ray.benchmarks.docvqa_val import anls
from hero_ray.benchmarks.images import MAX_PIXELS
from hero_ray.benchmarks.sources import Source, open_path
from hero_ray.benchmarks.tables import RowTable
from hero_ray.benchmarks.vqa_text import normalise, vqa_accuracy
from hero_ray.benchmarks.yes_no import by_words
from hero_ray.core.errors import DatasetError
from hero_ray.core.types import Metric, Sample, Scored

Rule = Callable[[str, Sequence[str]], float]

OPTIONAL = ("answer", "answers", "id", "category", "options")


def _same(text: str, answers: Sequence[str]) -> float:
    return float(any(text.lower() == answer.lower().strip() for answer in answers))


def _contains(text: str, answers: Sequence[str]) -> float:
    return float(any(answer.lower().strip() in text.lower() for answer in answers))


def _vqa(text: str, answers: Sequence[str]) -> float:
    if len(answers) < 2:
        raise DatasetError("metric vqa compares annotators and needs several answers per question; use exact_match")
    return vqa_accuracy(normalise(text), [normalise(answer) for answer in answers])


def _relaxed(text: str, answers: Sequence[str]) -> float:
    return float(any(relaxed_match(text, answer) for answer in answers))


def _letter(text: str, answers: Sequence[str]) -> float:
    return float(extract_letter(text, "ABCDEFGH") in [answer.strip().upper() for answer in answers])


def _yes_no(text: str, answers: Sequence[str]) -> float:
    return float(by_words(text) in [answer.lower().strip() for answer in answers])


RULES: dict[str, Rule] = {
    "exact_match": _same,
    "contains": _contains,
    "vqa": _vqa,
    "anls": anls,
    "relaxed": _relaxed,
    "letter": _letter,
    "yes_no": _yes_no,
}


class FileBenchmark(DatasetBenchmark):
    """A file as a benchmark; the flavour is the metric.

    Args:
        target: the file (what follows `file:`).
        flavour: metric, one of `RULES`.
        suffix: text after every question, for example "\\nAnswer the question using a single word or phrase.".
        max_new_tokens: generation limit.
        **options: as `DatasetBenchmark`.
    """

    name = "file"
    flavours = tuple(RULES)
    source = Source(ids=(), split="test", columns=("question",))

    def __init__(
        self,
        target: str,
        flavour: str | None = None,
        suffix: str = "",
        max_new_tokens: int = 32,
        split: str | None = None,
        image_keys: str = "auto",
        exif: Any = "apply",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(
            flavour, data=Path(target), split=split, image_keys=image_keys, exif=exif, max_pixels=max_pixels
        )
        self.name = f"file:{target}"  # type: ignore[misc]
        self.main_metric = self.flavour
        self.suffix, self.max_new_tokens = suffix, max_new_tokens

    @cached_property
    def table(self) -> RowTable:
        table = open_path(Path(str(self.data)), None, self.where.split)
        missing = [column for column in ("image", "question") if column not in table.columns]
        if missing or not {"answer", "answers"} & set(table.columns):
            raise DatasetError(
                f"{self.name} lacks {missing or 'answer or answers'}; a row needs image, question and answer (or "
                f"answers), and may have id, category, options; it has {list(table.columns)}"
            )
        present = tuple(column for column in OPTIONAL if column in table.columns)
        self.where = replace(self.where, columns=("question", *present))
        return table

    def _documents(self, limit: int | None) -> Any:
        self.table  # noqa: B018 - settles which optional columns there are before rows are read
        return super()._documents(limit)

    def _sample(self, document: int, locator: Any, row: Mapping[str, Any], seen: dict[str, int]) -> Sample:
        made = super()._sample(document, locator, row, seen)
        if row.get("id") is None:
            return made
        key = str(row["id"])
        seen[key] = seen.get(key, 0) + 1
        return replace(made, key=key if seen[key] == 1 else f"{key}#{seen[key]}")

    def fields(self, row: Mapping[str, Any]) -> Fields:
        given = row.get("answers") if row.get("answers") is not None else row.get("answer")
        if given is None:
            raise DatasetError(f"{self.name}: a row has neither answer nor answers")
        answers = [str(answer) for answer in (given if isinstance(given, (list, tuple)) else [given])]
        options = [str(option) for option in row.get("options") or ()]
        return Fields(str(row["question"]), answers, str(row.get("category") or ""), {"options": options})

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        options = sample.extra["options"]
        body = f"{sample.question}\n{lettered(options)}{LETTER}" if options else sample.question
        return body + self.suffix

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """The metric against the best of several answers."""
        answers = [references] if isinstance(references, str) else [str(answer) for answer in references]
        return {self.main_metric: RULES[self.flavour](prediction.strip(), answers)}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        return means(scored, self.main_metric)
