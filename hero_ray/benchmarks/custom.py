"""`file:PATH`: a JSONL or Parquet file of one's own as a benchmark.

A row has `image` (path relative to the file, data URL, base64 or bytes), `question` and `answer` or `answers`; optional
are `id`, `category`, `options` (list of texts: the answer is then a letter) and `metric`. Rows with equal picture bytes
share one encode. What a row holds is checked when it is read, and its own answer must score under its own metric: a
figure of 0 is then the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hero_ray.benchmarks import own_cells
from hero_ray.benchmarks.chartqa import relaxed_match
from hero_ray.benchmarks.dataset import LETTER, DatasetBenchmark, PromptStyle, lettered, means
from hero_ray.benchmarks.docvqa_val import anls
from hero_ray.benchmarks.images import MAX_PIXELS
from hero_ray.benchmarks.letters import ALPHABET, named_letter
from hero_ray.benchmarks.own_pictures import LONGEST_NAME, Looker, with_pictures
from hero_ray.benchmarks.sources import Source, open_path
from hero_ray.benchmarks.tables import RowTable
from hero_ray.benchmarks.vqa_text import normalise, vqa_accuracy
from hero_ray.benchmarks.yes_no import by_words
from hero_ray.core.errors import DatasetError, ParameterError, UnknownNameError
from hero_ray.core.types import Metric, Sample, Scored

Rule = Callable[[str, Sequence[str], Sequence[str]], float]
"""(prediction, answers, letters of the row's options) -> score in 0..1."""

OPTIONAL = ("answer", "answers", "id", "category", "options", "metric")
MIXED = "by_row"
"""Flavour of a file whose rows name their metrics; `by_row:anls` where those without one take `anls`."""


def _same(text: str, answers: Sequence[str], letters: Sequence[str]) -> float:
    return float(any(text.lower() == answer.lower().strip() for answer in answers))


def _contains(text: str, answers: Sequence[str], letters: Sequence[str]) -> float:
    bare = [answer.lower().strip() for answer in answers]
    # The empty text is in every other; as an answer it means that there is nothing to say.
    return float(any(answer in text.lower() if answer else not text for answer in bare))


def _vqa(text: str, answers: Sequence[str], letters: Sequence[str]) -> float:
    if len(answers) < 2:
        raise DatasetError("metric vqa compares annotators and needs several answers per question; use exact_match")
    return vqa_accuracy(normalise(text), [normalise(answer) for answer in answers])


def _anls(text: str, answers: Sequence[str], letters: Sequence[str]) -> float:
    return anls(text, answers)


def _relaxed(text: str, answers: Sequence[str], letters: Sequence[str]) -> float:
    return float(any(relaxed_match(text, answer.strip()) for answer in answers))


def _letter(text: str, answers: Sequence[str], letters: Sequence[str]) -> float:
    named = named_letter(text, letters)
    return float(bool(named) and named in [answer.strip().upper() for answer in answers])


def _yes_no(text: str, answers: Sequence[str], letters: Sequence[str]) -> float:
    return float(by_words(text) in {by_words(answer) for answer in answers} - {"other"})


RULES: dict[str, Rule] = {
    "exact_match": _same,
    "contains": _contains,
    "vqa": _vqa,
    "anls": _anls,
    "relaxed": _relaxed,
    "letter": _letter,
    "yes_no": _yes_no,
}
UNREACHABLE = {
    "letter": "write the option's letter",
    "yes_no": "write yes or no",
    "relaxed": "write a number that ends, or a text",
}
LETTERED = ("exact_match", "letter")
"""Metrics of rows with options: the prompt asks for the letter, and `contains` would find it inside any word."""


class FileBenchmark(DatasetBenchmark):
    """A file as a benchmark.

    Args:
        target: the file (what follows `file:`).
        flavour, metric: one of `RULES`; two words for one thing. Rows may name another in a column `metric`.
        suffix: text after every question, for example "\\nAnswer the question using a single word or phrase.".
        max_new_tokens: generation limit.
        allow_outside: pictures may lie outside the file's folder.
        keep_broken: pictures that cannot be read become failed samples instead of refusing the file.
        **options: as `DatasetBenchmark`.

    Raises:
        UnknownNameError: no such metric.
        ParameterError: `flavour` and `metric` name different ones.
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
        metric: str | None = None,
        allow_outside: bool = False,
        keep_broken: bool = False,
    ) -> None:
        if metric and flavour and metric != flavour:
            raise ParameterError(f"file:{target}: metric={metric!r} and flavour={flavour!r}; give one")
        mixed, _, default = (metric or flavour or "").partition(":")
        asked = (default or None) if mixed == MIXED else (metric or flavour)
        if asked is not None and asked not in RULES:
            raise UnknownNameError("metric", asked, [*RULES])
        super().__init__(
            asked,
            data=Path(target),
            split=split,
            image_keys=image_keys,
            exif=exif,
            max_pixels=max_pixels,
            allow_outside=allow_outside,
        )
        self.name = f"file:{target}"  # type: ignore[misc]
        self.default_metric, self.keep_broken = self.flavour, keep_broken
        self.by_row = mixed == MIXED or self._names_metrics()
        if self.by_row:
            self.flavour = MIXED if self.default_metric == self.flavours[0] else f"{MIXED}:{self.default_metric}"
        self.main_metric = "score" if self.by_row else self.flavour
        self.suffix, self.max_new_tokens = suffix, max_new_tokens

    def _names_metrics(self) -> bool:
        """Whether the file has a column `metric`; a file that cannot be opened says so when its rows are read."""
        try:
            return "metric" in open_path(Path(str(self.data)), None, self.where.split).columns
        except DatasetError:
            return False

    @cached_property
    def table(self) -> RowTable:
        table = open_path(Path(str(self.data)), None, self.where.split)
        missing = [column for column in ("image", "question") if column not in table.columns]
        if missing or not {"answer", "answers"} & set(table.columns):
            raise DatasetError(
                f"{self.name} lacks {missing or 'answer or answers'}; a row needs image, question and answer (or "
                f"answers), and may have id, category, options, metric; it has {list(table.columns)}"
            )
        present = tuple(column for column in OPTIONAL if column in table.columns)
        self.where = replace(self.where, columns=("question", *present))
        return table

    def fingerprint(self) -> str:
        """Content hash of the file and of the pictures that its rows name by path."""
        return with_pictures(super().fingerprint(), self.table, Path(str(self.data)).parent)

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """Samples in file order.

        Raises:
            DatasetError: a row that is not as documented; at the end, pictures that cannot be read.
        """
        self.table  # noqa: B018 - settles which optional columns there are before rows are read
        rows: dict[str, int] = {}
        looker = Looker(self.name, self._encoded, self.image_keys == "pixels", self.max_pixels, self.exif)
        documents = looker.over(self._documents(limit), lambda item: item[1].get("image"))
        for document, ((locator, row), key) in enumerate(documents):
            made = self._own_sample(document + 1, locator, row, key or f"{self.name}:document-{document}")
            first = rows.setdefault(made.key, document + 1)
            if first != document + 1:
                raise DatasetError(
                    f"{self.name} row {document + 1}, column id: {made.key!r} is the id of row {first} too; "
                    "ids must differ, or leave the column out"
                )
            yield made
        if looker.broken and not self.keep_broken:
            raise DatasetError(f"{self.name}: {looker.report()}")

    def _own_sample(self, row_number: int, locator: Any, row: Mapping[str, Any], image_key: str) -> Sample:
        def read(column: str, reader: Callable[..., Any], *given: Any) -> Any:
            try:
                return reader(row.get(column), *given)
            except own_cells.CellError as error:
                raise self._fault(row_number, column, str(error)) from None

        metric = self._metric_of(row_number, row)
        options, names = read("options", own_cells.options)
        if options and metric not in LETTERED:
            raise self._fault(row_number, "options", f"make the answer a letter; score by {' or '.join(LETTERED)}")
        column = "answer" if own_cells.is_missing(row.get("answers")) else "answers"
        answers = read(column, own_cells.answers, column == "answers", metric == "yes_no")
        one = read("answer", own_cells.answers, False, metric == "yes_no") if column == "answers" else []
        if not set(one) <= set(answers):
            raise self._fault(row_number, "answer", f"{one[0]!r} is not among the answers; give one of the columns")
        if not answers:
            raise self._fault(row_number, column, "holds no answer; write the right one, or leave the row out")
        if options:
            answers = [read(column, lambda _, a=answer: own_cells.gold_letter(a, options, names)) for answer in answers]
        self._check_reachable(row_number, column, metric, answers, options)
        return Sample(
            benchmark=self.name,
            key=read("id", own_cells.label) or str(row_number - 1),
            question=read("question", own_cells.question),
            references=answers,
            image_key=image_key,
            image_ref=locator,
            category=read("category", own_cells.label),
            extra={"doc_id": row_number - 1, "options": options} | ({"metric": metric} if self.by_row else {}),
        )

    def _metric_of(self, row_number: int, row: Mapping[str, Any]) -> str:
        given = row.get("metric")
        if own_cells.is_missing(given) or given == "":
            return self.default_metric
        if not self.by_row:
            raise self._fault(row_number, "metric", "the first row has no such column; put it into every row")
        if not isinstance(given, str) or given not in RULES:
            raise self._fault(row_number, "metric", f"{given!r} is none of {', '.join(RULES)}")
        return str(given)

    def _check_reachable(
        self, row_number: int, column: str, metric: str, answers: Sequence[str], options: Sequence[str]
    ) -> None:
        """Refuse a row whose own answer would be wrong: no model could ever be right."""
        for answer in dict.fromkeys(answers):
            try:
                reached = RULES[metric](answer.strip(), answers, ALPHABET[: len(options)] or ALPHABET) > 0
            except DatasetError as error:
                raise self._fault(row_number, column, str(error)) from None
            if not reached:
                raise self._fault(
                    row_number, column, f"{answer[:60]!r} can never score under {metric}; {UNREACHABLE.get(metric, '')}"
                )

    def _fault(self, row_number: int, column: str, what: str) -> DatasetError:
        return DatasetError(f"{self.name} row {row_number}, column {column}: {what}")

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        options = sample.extra["options"]
        body = f"{sample.question}\n{lettered(options)}{LETTER}" if options else sample.question
        return body + self.suffix

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """The metric against the best of several answers; the row's own where it names one."""
        answers = [references] if isinstance(references, str) else [str(answer) for answer in references]
        extra = sample.extra if sample is not None else {}
        metric = extra.get("metric") or self.default_metric
        letters = ALPHABET[: len(extra.get("options") or ())] or ALPHABET
        return {self.main_metric: RULES[metric](prediction.strip(), answers, letters)}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """The mean, whole file first, then categories; where rows name their metrics, then each of them by its name."""
        metrics = means(scored, self.main_metric)
        for metric in RULES if self.by_row else ():
            mine = [item for item in scored if (item.sample.extra.get("metric") or self.default_metric) == metric]
            metrics.extend(means(mine, metric, lambda item: float(item.scores[self.main_metric]))[:1])
        return metrics


def picture_names(target: str) -> list[str]:
    """The files that the rows of a data file name as their pictures, in order; "" for a row that holds its picture.

    Empty where the file is not there any more, or holds no names at all.
    """
    try:
        rows = open_path(Path(target), None, FileBenchmark.source.split).rows(["image"])
        names = []
        for _, row in rows:
            if isinstance(row.get("image"), bytes | dict):
                return []
            names.append(_file_name(row.get("image")))
    except DatasetError:
        return []
    return names


def _file_name(cell: Any) -> str:
    is_name = isinstance(cell, str) and len(cell) <= LONGEST_NAME and not cell.startswith("data:")
    return cell if is_name else ""
