"""Lab against serving: the same cells answered by our own blocks and by vLLM.

Both are handed the very same kept tokens, one encoding and one choice, so whatever differs is the engine's: answers
that part, with the distance of the two best logits there, the score that costs, and the times of both
(`engine_times`). Wants a model that was loaded with `engine=auto`, which holds the blocks twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hero_ray.benchmarks.base import Benchmark, main_score
from hero_ray.core.engines import AUTO, OURS, VLLM, vllm_version, why_not_vllm
from hero_ray.core.errors import InputError, ParameterError
from hero_ray.core.types import Sample
from hero_ray.engine.cut import Cut, Picture, Pruning, cut, needs_of
from hero_ray.methods import create
from hero_ray.models.base import Generation, Request
from hero_ray.pipeline.margins import margin
from hero_ray.stats import mean_interval, paired
from hero_ray.studies import asking, engine_times
from hero_ray.studies.records import FigureTable, Study, StudyRequest, dots

NAME = "engines"
TASKS = ("synth-digits", "synth-words", "synth-attribute", "synth-exist")
METHODS = ("random", "fastervlm", "visionzip", "hero")
SIDES = (OURS, VLLM)
COLUMNS = (
    "method", "benchmark", "answers", "pictures", "equal", "low", "high", "ours", "vllm", "vllm - ours",
    "difference low", "difference high",
)  # fmt: skip
MOST_PARTED = 50
"""Answers that part, listed one by one; all are counted."""


@dataclass(frozen=True)
class OnBoth:
    """One question in one cell, answered on both engines.

    Attributes:
        scores: of our blocks' answer and of vLLM's. equal: token ids, and how they end.
        margin: distance of our blocks' two logits where the texts part; None where they do not.
    """

    method: str
    sample: Sample
    texts: tuple[str, str]
    scores: tuple[float, float]
    equal: bool
    margin: float | None


def compared(names: Sequence[str], ratio: float) -> dict[str, Pruning]:
    """`full` and methods at one budget, by name.

    Raises:
        InputError: one that vLLM cannot answer.
    """
    made = {name: Pruning(create(name), ratio) for name in names if name != "full"}
    wrong = {name: why for name, one in made.items() if (why := _why_not(one, ratio))}
    if wrong:
        told = "; ".join(f"{name} {why}" for name, why in wrong.items())
        raise InputError(f"vLLM cannot answer {told}. Leave it out with --methods")
    return {"full": Pruning(create("full"), 1.0)} | made


def _why_not(pruning: Pruning, ratio: float) -> str:
    return why_not_vllm(pruning.method.stage == "in-llm", reads_blocks=False, ratio=ratio, asked=AUTO)


@dataclass(frozen=True)
class EngineQuestion:
    """What both engines are asked: one question about one picture in one cell."""

    method: str
    benchmark: Benchmark
    sample: Sample
    cut: Cut
    request: Request


def questions(
    picture: Picture, prunings: dict[str, Pruning], asked: Sequence[tuple[Benchmark, Sample]]
) -> list[EngineQuestion]:
    """Every question about a picture in every cell; questions that a method does not read share its cut."""
    adapter, cuts, found = picture.adapter, dict[tuple[str, str], Cut](), []
    for benchmark, sample in asked:
        prompt = asking.prompt_of(adapter, benchmark, sample)
        for name, pruning in prunings.items():
            key = (name, sample.question if pruning.method.needs(adapter.vision).question else "")
            if key not in cuts:
                cuts[key] = cut(picture, pruning, sample.question, prompt)
            request = Request(prompt, cuts[key].visual, benchmark.max_new_tokens)
            found.append(EngineQuestion(name, benchmark, sample, cuts[key], request))
    return found


def answer_both(adapter: Any, asked: Sequence[EngineQuestion]) -> list[OnBoth]:
    """All questions of a picture on each engine, handed over at once as in a sweep."""
    requests = [one.request for one in asked]
    sides = [adapter.generate(requests, engine=engine) for engine in SIDES]
    return [_both(adapter, *row) for row in zip(asked, *sides, strict=True)]


def _both(adapter: Any, one: EngineQuestion, ours: Generation, vllm: Generation) -> OnBoth:
    texts = ours.text, vllm.text
    return OnBoth(
        one.method,
        one.sample,
        texts,
        scores=(main_score(one.benchmark, ours.text, one.sample), main_score(one.benchmark, vllm.text, one.sample)),
        equal=(ours.token_ids, ours.finish) == (vllm.token_ids, vllm.finish),
        margin=None if texts[0] == texts[1] else margin(adapter, one.cut, one.request, vllm.text),
    )


def run(request: StudyRequest) -> Study:
    """Answer every question about `limit` pictures in every cell on both engines, then time both.

    Raises:
        ParameterError: a model that was not loaded with both engines.
        InputError: a method that vLLM cannot answer.
    """
    adapter: Any = request.adapter
    if adapter.info.engine != AUTO:
        raise ParameterError(f"the study of engines wants both: load {adapter.info.name} with engine=auto")
    prunings = compared(request.methods or METHODS, request.ratio)
    needs = needs_of(prunings.values(), adapter.vision)
    opened = asking.opened(request, TASKS)
    found: list[OnBoth] = []
    ready: dict[str, list[Request]] = {name: [] for name in prunings}
    for image, asked in asking.pictures(opened, request.limit):
        every = questions(Picture(adapter, image, asked[0][1].image_key, needs), prunings, asked)
        found += answer_both(adapter, every)
        for one in every[: len(prunings)]:  # the first question in every cell
            ready[one.method].append(one.request)
    if not found:
        raise InputError("the benchmarks ask about no picture; raise --limit")
    pictures = asking.pictures(opened, engine_times.PICTURES)
    speeds = engine_times.measure(adapter, prunings, pictures, ready)
    rows = [_row(*key, group) for key, group in _grouped(found).items()]
    parted = [one for one in found if not one.equal]
    note = (
        f"{request.ratio:.0%} of the tokens, {adapter.info.name}, {adapter.info.dtype} on {adapter.info.device}, vLLM "
        f"{vllm_version()}. Equal: the same token ids, and an end of the same kind. Scores' differences with 95 % "
        f"intervals over pictures. {engine_times.NOTE}"
    )
    tables = (FigureTable("The same cells on both engines", COLUMNS, tuple(rows)), _where(parted), *speeds.tables)
    findings: dict[str, Any] = {"answers": len(found), "equal": len(found) - len(parted), **speeds.findings}
    findings["largest margin"] = max((one.margin for one in parted if one.margin is not None), default=None)
    return Study(
        NAME,
        "Lab against serving: the same cells on both engines",
        note,
        charts=(_chart(rows), *speeds.charts),
        tables=tables,
        findings=findings,
    )


def _grouped(found: Sequence[OnBoth]) -> dict[tuple[str, str], list[OnBoth]]:
    """By method and benchmark, "all" of them together last."""
    groups: dict[tuple[str, str], list[OnBoth]] = {}
    for name in (*dict.fromkeys(one.sample.benchmark for one in found), "all"):
        for one in found:
            if name in (one.sample.benchmark, "all"):
                groups.setdefault((one.method, name), []).append(one)
    return groups


def _row(method: str, benchmark: str, group: Sequence[OnBoth]) -> tuple[Any, ...]:
    clusters = np.array([one.sample.image_key for one in group])
    equal = mean_interval(np.array([float(one.equal) for one in group]), clusters)
    ours, vllm = (np.array([one.scores[side] for one in group]) for side in (0, 1))
    moved = paired(vllm, ours, clusters)
    figures = (equal.value, equal.low, equal.high, float(ours.mean()), float(vllm.mean()))
    bounds = (moved.difference, moved.low, moved.high)
    rounded = [None if value is None else round(value, 4) for value in (*figures, *bounds)]
    return (method, benchmark, len(group), len(set(clusters)), *rounded)


def _where(parted: Sequence[OnBoth]) -> FigureTable:
    columns = ("method", "benchmark", "sample", "ours", "vllm", "margin of the logits")
    rows = tuple(
        (one.method, one.sample.benchmark, one.sample.key, *one.texts, None if one.margin is None else one.margin)
        for one in parted[:MOST_PARTED]
    )
    return FigureTable(f"Where answers part ({len(parted)} in all)", columns, rows)


def _chart(rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    named = list(dict.fromkeys(row[0] for row in rows))
    series = []
    for benchmark in dict.fromkeys(row[1] for row in rows):
        own = {row[0]: row[-3:] for row in rows if row[1] == benchmark}
        x, low, high = ([own[name][place] for name in named] for place in range(3))
        series.append({"name": benchmark, "x": x, "low": low, "high": high})
    return dots("Score on vLLM minus score on our blocks", named, series, "difference (95 % interval)")
