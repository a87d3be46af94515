"""Put imported answers under our own rules: match them to a benchmark's samples and score them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.errors import DatasetError
from hero_ray.core.types import Sample, Scored
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask


@dataclass(frozen=True)
class Rescored:
    """Imported answers as scored samples, and what could not be matched."""

    scored: Sequence[Scored]
    unmatched: Sequence[ImportedAnswer]


class _Index:
    """Samples by key, by position in the dataset and, where it is unique, by question.

    Harnesses number their rows differently, so a match by key or position also needs the questions to agree.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self.by_key: dict[str, Sample] = {}
        self.by_document: dict[int, Sample] = {}
        self.by_question: dict[str, Sample | None] = {}
        for number, sample in enumerate(benchmark.samples()):
            self.by_key[sample.key] = sample
            self.by_document[int(sample.extra.get("doc_id", number))] = sample
            plain = _plain(sample.question)
            self.by_question[plain] = None if plain in self.by_question else sample

    def find(self, answer: ImportedAnswer) -> Sample | None:
        """The sample an answer belongs to."""
        place = -1 if answer.document is None else answer.document
        for sample in (self.by_key.get(answer.key), self.by_document.get(place)):
            if sample is not None and self._agree(answer.question, sample):
                return sample
        return self.by_question.get(_plain(answer.question)) if answer.question else None

    def _agree(self, theirs: str, sample: Sample) -> bool:
        """Whether a text holds the question or prompt or is held by it; an unknown text agrees with any.

        The prompt counts too because some harnesses cut words out of the question (MME's plea for yes or no).
        """
        text = _plain(theirs)
        ours = (_plain(sample.question), _plain(self.benchmark.prompt(sample, "llava-next")))
        return not text or any(text in known or known in text for known in ours)


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def rescore(imported: ImportedTask, benchmark: Benchmark) -> Rescored:
    """Match answers to samples and score them by the benchmark's flavour.

    Raises:
        DatasetError: not one answer belongs to the benchmark, or two different ones to one sample.
    """
    index = _Index(benchmark)
    scored: list[Scored] = []
    given: dict[str, str] = {}  # sample key -> prediction
    answered: set[str] = set()
    unmatched: list[ImportedAnswer] = []
    for answer in imported.answers:
        sample = index.find(answer)
        if sample is None:
            unmatched.append(answer)
        elif given.setdefault(sample.key, answer.prediction) != answer.prediction:
            raise DatasetError(
                f"two different answers of {imported.source or imported.task} belong to question {sample.key!r} of "
                f"{benchmark.name}: {given[sample.key][:60]!r} and {answer.prediction[:60]!r}; remove one"
            )
        elif sample.key not in answered:
            answered.add(sample.key)
            scores = benchmark.score(answer.prediction, sample.references, sample)
            scored.append(Scored(sample, answer.prediction, scores))
    if not scored:
        raise DatasetError(
            f"none of the {len(unmatched)} answers of {imported.source or imported.task} belongs to {benchmark.name}; "
            f"keys there look like {next(iter(index.by_key), '')!r}, here like {imported.answers[0].key!r}"
        )
    return Rescored(scored, unmatched)
