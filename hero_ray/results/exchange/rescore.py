"""Put imported answers under our own rules: match them to a benchmark's samples and score them again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hero_ray.benchmarks.base import Benchmark
from hero_ray.benchmarks.dataset import PROMPT_STYLES, DatasetBenchmark
from hero_ray.core.errors import DatasetError
from hero_ray.core.plan import ENDPOINT
from hero_ray.core.types import Sample, Scored
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask

ALIKE = 0.98
"""Share of a file's questions that must be found at its numbers for them to be the dataset's."""

LEAST = 12
"""Letters and digits that a text needs to be looked for inside another."""


@dataclass(frozen=True)
class Rescored:
    """Imported answers as scored samples, and what could not be matched."""

    scored: Sequence[Scored]
    unmatched: Sequence[ImportedAnswer]


class _Index:
    """Samples by key, picture, place in the dataset and, where it is unique, by question.

    Harnesses number their rows differently, and questions such as "what is written in the image?" come again and again.
    So a match by key or picture also needs the questions to agree. A place is a mere number, under which some questions
    agree by chance; it counts only where nearly all of the file do.
    """

    def __init__(self, benchmark: Benchmark, answers: Sequence[ImportedAnswer]) -> None:
        self.benchmark = benchmark
        self.texts: dict[str, set[str]] = {}
        self.by_key: dict[str, Sample] = {}
        self.by_document: dict[int, Sample] = {}
        self.by_question: dict[str, Sample | None] = {}
        self.by_picture: dict[str, list[Sample]] = {}
        for number, sample in enumerate(benchmark.samples()):
            self.by_key[sample.key] = sample
            self.by_document[int(sample.extra.get("doc_id", number))] = sample
            self.by_picture.setdefault(_stem(sample.image_key.partition(":")[2]), []).append(sample)
            for text in self._texts(sample):
                self.by_question[text] = sample if self.by_question.get(text, sample) is sample else None
        self.keys_are_places = all(sample.key == str(place) for place, sample in self.by_document.items())
        self.places = self._places(answers)

    def _texts(self, sample: Sample) -> set[str]:
        """Question and prompts: harnesses write down either, and some cut words out of the question (MME's plea)."""
        known = self.texts.get(sample.key)
        if known is None:
            benchmark = self.benchmark
            prompts = [benchmark.prompt(sample, "llava-next")]
            if isinstance(benchmark, DatasetBenchmark):
                prompts = [benchmark.ask(sample, style) for style in PROMPT_STYLES]
            known = self.texts[sample.key] = set(map(_plain, (sample.question, *prompts))) - {""}
        return known

    def _places(self, answers: Sequence[ImportedAnswer]) -> Sequence[int]:
        """Each answer's place, -1 for none: as the file numbers its rows, else in their order, if that fits."""
        numbered = [self._number(answer) for answer in answers]
        told = [(place, answer) for place, answer in enumerate(answers) if answer.question]
        if not told:
            return numbered
        for places in (numbered, range(len(answers))):
            fitting = sum(self._fits(self.by_document.get(places[place]), answer) for place, answer in told)
            if fitting >= ALIKE * len(told):
                return places
        return [-1] * len(answers)

    def _number(self, answer: ImportedAnswer) -> int:
        if answer.document is not None:
            return answer.document
        usable = answer.key.isdecimal() and (self.keys_are_places or bool(answer.question))
        return int(answer.key) if usable else -1

    def find(self, number: int, answer: ImportedAnswer) -> Sample | None:
        """The sample that the file's answer `number` belongs to."""
        named = None if self.keys_are_places else self.by_key.get(answer.key)
        if self._fits(named, answer, least=1):  # an id says enough for a short question amid hint and options
            return named
        for sample in (self._on_picture(answer), self.by_document.get(self.places[number])):
            if self._fits(sample, answer):
                return sample
        return self.by_question.get(_plain(answer.question)) if answer.question else None

    def _on_picture(self, answer: ImportedAnswer) -> Sample | None:
        """Of a picture's questions the one asked; the longest, where one holds the other."""
        there = self.by_picture.get(_stem(answer.picture), ()) if answer.picture and answer.question else ()
        fitting = [sample for sample in there if self._fits(sample, answer)]
        return max(fitting, key=lambda sample: len(sample.question), default=None)

    def _fits(self, sample: Sample | None, answer: ImportedAnswer, least: int = LEAST) -> bool:
        """Whether a text holds the question or prompt or is held by it; an unknown text agrees with any."""
        text = _plain(answer.question)
        return sample is not None and (not text or any(_alike(text, ours, least) for ours in self._texts(sample)))


def _alike(theirs: str, ours: str, least: int) -> bool:
    """Whether one holds the other. Few letters are in many texts by chance; ours may also begin theirs."""
    short, long = sorted((theirs, ours), key=len)
    return theirs == ours or theirs.startswith(ours) or (len(short) >= least and short in long)


def _stem(picture: str) -> str:
    """A picture's name without what tools change: folders stay, for MME's names repeat from folder to folder."""
    return re.sub(r"\.(?:jpe?g|png|webp)$", "", picture, flags=re.IGNORECASE)


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def rescore(imported: ImportedTask, benchmark: Benchmark) -> Rescored:
    """Match answers to samples and score them by the benchmark's flavour.

    Raises:
        DatasetError: not one answer belongs to the benchmark, or two different ones to one sample.
    """
    index = _Index(benchmark, imported.answers)
    scored: list[Scored] = []
    given: dict[str, str] = {}  # sample key -> prediction
    answered: set[str] = set()
    unmatched: list[ImportedAnswer] = []
    for number, answer in enumerate(imported.answers):
        sample = index.find(number, answer)
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
            told = {key: answer.scores[key] for key in (ENDPOINT,) if key in answer.scores}  # no score: usage and times
            scored.append(Scored(sample, answer.prediction, {**scores, **told}))
    if not scored:
        raise DatasetError(
            f"none of the {len(unmatched)} answers of {imported.source or imported.task} belongs to {benchmark.name}; "
            f"keys there look like {next(iter(index.by_key), '')!r}, here like {imported.answers[0].key!r}"
        )
    return Rescored(scored, unmatched)
