"""Pictures and questions of benchmarks, and scored answers from chosen tokens: what studies that ask share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hero_ray import benchmarks
from hero_ray.benchmarks.base import Benchmark, main_score
from hero_ray.core.encoded import Encoded, Selection
from hero_ray.core.types import Sample
from hero_ray.models import base
from hero_ray.models.base import Adapter
from hero_ray.stats import Interval, mean_interval
from hero_ray.studies.records import StudyRequest


@dataclass(frozen=True)
class AskedOutcome:
    """One scored answer: `score` is the benchmark's main figure of this sample, in 0..1."""

    setting: str
    sample: Sample
    text: str
    score: float


def opened(request: StudyRequest, default: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of a request, or the study's own."""
    return [benchmarks.get(name, **request.sources) for name in (request.tasks or default)]


def pictures(chosen: Sequence[Benchmark], limit: int) -> Iterator[tuple[Image.Image, list[tuple[Benchmark, Sample]]]]:
    """The first `limit` pictures with all questions that the benchmarks ask about them."""
    groups: dict[str, list[tuple[Benchmark, Sample]]] = {}
    for benchmark in chosen:
        fresh: set[str] = set()
        for sample in benchmark.samples():
            if sample.image_key not in groups:
                if len(groups) >= limit:
                    break  # datasets list a picture's questions together
                groups[sample.image_key] = []
            fresh.add(sample.image_key)
            groups[sample.image_key].append((benchmark, sample))
    for asked in groups.values():
        benchmark, sample = asked[0]
        yield benchmark.load_image(sample.image_ref), asked


def dialogues(chosen: Sequence[Benchmark], limit: int) -> Iterator[tuple[Image.Image, list[tuple[Benchmark, Sample]]]]:
    """Of every benchmark the first `limit` pictures that have several questions, with all questions about them.

    Every benchmark is read to its end: TextVQA asks about most pictures once, and POPE comes back to a picture in each
    of its parts.
    """
    groups: dict[str, list[tuple[Benchmark, Sample]]] = {}
    for benchmark in chosen:
        for sample in benchmark.samples():
            groups.setdefault(sample.image_key, []).append((benchmark, sample))
    taken: Counter[str] = Counter()
    for asked in groups.values():
        names = {benchmark.name for benchmark, _ in asked}
        if len(asked) > 1 and any(taken[name] < limit for name in names):
            taken.update(names)
            benchmark, sample = asked[0]
            yield benchmark.load_image(sample.image_ref), asked


def ask(
    adapter: Adapter, encoded: Encoded, benchmark: Benchmark, sample: Sample, selections: Mapping[str, Selection]
) -> list[AskedOutcome]:
    """The question answered once per setting, from that setting's tokens, and scored."""
    prompt = prompt_of(adapter, benchmark, sample)
    requests = [
        base.Request(prompt, adapter.assemble(encoded, selection, "unpadded_rows"), benchmark.max_new_tokens)
        for selection in selections.values()
    ]
    answers = adapter.generate(requests)
    return [
        AskedOutcome(setting, sample, answer.text, main_score(benchmark, answer.text, sample))
        for setting, answer in zip(selections, answers, strict=True)
    ]


def prompt_of(adapter: Adapter, benchmark: Benchmark, sample: Sample) -> base.Prompt:
    """A sample as the model is asked it."""
    return adapter.prompt(benchmark.prompt(sample, adapter.info.family), sample.question)


def means(outcomes: Sequence[AskedOutcome], by_category: bool = False) -> dict[tuple[str, str, str], Interval]:
    """(setting, benchmark, category) -> mean score with its interval over pictures; category "" is the benchmark."""
    groups: dict[tuple[str, str, str], list[AskedOutcome]] = {}
    for outcome in outcomes:
        categories = {"", outcome.sample.category} if by_category else {""}
        for category in sorted(categories):
            groups.setdefault((outcome.setting, outcome.sample.benchmark, category), []).append(outcome)
    return {
        key: mean_interval(np.array([o.score for o in group]), np.array([o.sample.image_key for o in group]))
        for key, group in groups.items()
    }
