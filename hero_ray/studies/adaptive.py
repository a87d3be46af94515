"""Ours: do settings chosen per picture (`alpha auto`, `ratio auto`) beat fixed ones at the same mean cost?

Every question is answered with the fixed and with the chosen settings; the scores are compared in pairs, with Holm's
correction over all comparisons of the study. The mean spread that `ratio auto` needs is measured on other pictures
where the benchmark has a validation split (the embedded ones do), else on the studied pictures; no answer is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hero_ray import benchmarks, stats
from hero_ray.core.encoded import Budget, Needs
from hero_ray.core.errors import InputError
from hero_ray.engine.cut import Picture
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.methods.hero import Hero
from hero_ray.methods.kit.adaptive import AdaptiveRatio
from hero_ray.models.base import Adapter
from hero_ray.studies import asking
from hero_ray.studies.calibration import Questions, mean_spread
from hero_ray.studies.records import Request, Study, Table

NAME = "adaptive"
TASKS = ("synth-attribute", "synth-digits", "synth-words", "synth-exist", "synth-scene")
METHODS = ("hero", "fastervlm")
CALIBRATION_DOCUMENTS = 200
TOGETHER = "all together"


@dataclass
class Answers:
    """Everything one setting answered, question by question in one order."""

    scores: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    chosen: dict[str, list[float]] = field(default_factory=dict)


def settings(adapter: Adapter, questions: Questions, names: Sequence[str]) -> dict[str, dict[str, Method]]:
    """Method name -> setting -> method; the setting `fixed` is the paper's.

    Raises:
        InputError: a method without settings that can be chosen per picture.
    """
    found: dict[str, dict[str, Method]] = {}
    for name in names:
        plain = create(name)
        if not isinstance(plain, AdaptiveRatio):
            raise InputError(f"{name} chooses nothing per picture; this study compares hero and fastervlm")
        entry = mean_spread(adapter, questions, name, plain.variant, {}).method
        assert entry is not None
        spend = {key: entry["params"][key] for key in ("ratio", "ratio_mean")}
        found[name] = {"fixed": plain, "ratio auto": create(name, **spend)}
        if isinstance(plain, Hero):
            found[name]["alpha auto"] = create(name, alpha="auto")
            found[name]["alpha auto, ratio auto"] = create(name, alpha="auto", **spend)
    return found


def calibration_questions(request: Request) -> tuple[Questions, str]:
    """Pictures to measure the mean spread on, and which they are."""
    names = request.tasks or TASKS
    if all(benchmarks.resolve(name).startswith("synth-") for name in names):
        held_out = [benchmarks.get(name, **{**request.sources, "split": "validation"}) for name in names]
        return Questions.of(held_out, CALIBRATION_DOCUMENTS), "the validation split"
    return Questions.of(asking.opened(request, TASKS), CALIBRATION_DOCUMENTS), "the studied pictures, without answers"


def compared(answers: Mapping[str, Mapping[str, Answers]], names: Sequence[str], images: Sequence[str]) -> list[Any]:
    """Rows of every setting against its method's fixed one, per benchmark and together.

    Args:
        answers: `METHOD, SETTING` parts -> answers of all questions.
        names: benchmark of every question.
        images: picture of every question.
    """
    found = []
    for method, by_setting in answers.items():
        for setting, mine in by_setting.items():
            if setting == "fixed":
                continue
            for benchmark in (*dict.fromkeys(names), TOGETHER):
                at = np.array([benchmark in (name, TOGETHER) for name in names])
                first, second = (np.array(a.scores)[at] for a in (mine, by_setting["fixed"]))
                result = stats.paired(first, second, np.array(images, dtype=object)[at])
                tokens = [float(np.array(a.tokens)[at].mean()) for a in (mine, by_setting["fixed"])]
                found.append((method, setting, benchmark, result, tokens))
    corrected = stats.holm([result.p_value for *_, result, _ in found])
    return [_row(*found[i], float(p)) for i, p in enumerate(corrected)]


def _row(
    method: str, setting: str, benchmark: str, result: stats.Paired, tokens: Sequence[float], p_holm: float
) -> tuple[Any, ...]:
    verdict = "undecided" if p_holm >= 0.05 else "better" if result.difference > 0 else "worse"
    bounds = [None if v is None else round(v, 4) for v in (result.low, result.high)]
    scores = [round(v, 4) for v in (result.mean_b, result.mean_a, result.difference)]
    counts = [round(v, 1) for v in (tokens[1], tokens[0])]
    p_values = [round(v, 4) for v in (result.p_value, p_holm)]
    return (method, setting, benchmark, result.n, result.n_clusters, *scores, *bounds, *p_values, verdict, *counts)


COLUMNS: tuple[str, ...] = ("method", "setting", "benchmark", "n", "pictures", "fixed", "auto")
COLUMNS += ("difference", "low", "high", "p", "p (Holm)", "verdict", "tokens fixed", "tokens auto")


def run(request: Request) -> Study:
    """Answer every question of `limit` pictures at `ratio` with fixed and with chosen settings."""
    adapter = request.adapter
    questions, where = calibration_questions(request)
    methods = settings(adapter, questions, request.methods or METHODS)
    flat = {(name, setting): m for name, found in methods.items() for setting, m in found.items()}
    needs = Needs()
    for method in flat.values():
        needs = needs | method.needs(adapter.vision)
    answers = {name: {setting: Answers() for setting in found} for name, found in methods.items()}
    names, images = [], []
    for image, asked in asking.pictures(asking.opened(request, TASKS), request.limit):
        picture = Picture(adapter, image, asked[0][1].image_key, needs)
        budget = Budget.of(picture.layout, ratio=request.ratio)
        for benchmark, sample in asked:
            seen = picture.asked(sample.question, asking.prompt_of(adapter, benchmark, sample))
            selections = {f"{name}|{setting}": m.select(seen, budget) for (name, setting), m in flat.items()}
            outcomes = asking.ask(adapter, seen, benchmark, sample, selections)
            for (name, setting), outcome in zip(flat, outcomes, strict=True):
                selection, record = selections[f"{name}|{setting}"], answers[name][setting]
                record.scores.append(outcome.score)
                record.tokens.append(len(selection.sequence(seen.layout)))
                for key, value in selection.details.items():
                    record.chosen.setdefault(key, []).append(value)
            names.append(sample.benchmark)
            images.append(sample.image_key)
    return _study(request, methods, answers, compared(answers, names, images), where)


def _study(
    request: Request,
    methods: Mapping[str, Mapping[str, Method]],
    answers: Mapping[str, Mapping[str, Answers]],
    rows: Sequence[tuple[Any, ...]],
    where: str,
) -> Study:
    spread = [
        (name, setting, key, *(round(float(q), 4) for q in np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0))))
        for name, by_setting in answers.items()
        for setting, mine in by_setting.items()
        for key, values in mine.chosen.items()
    ]
    means = {
        name: method.ratio_mean
        for name, found in methods.items()
        for method in found.values()
        if isinstance(method, AdaptiveRatio) and method.mean_budget
    }
    verdicts = [row[COLUMNS.index("verdict")] for row in rows]
    note = (
        f"{request.ratio:.0%} of the tokens of {request.adapter.info.name}; auto settings are ours, no paper "
        f"defines them. Mean spread from {where}. Differences are auto minus fixed with 95 % intervals over pictures; "
        f"after correction {verdicts.count('better')} of {len(rows)} comparisons are better, "
        f"{verdicts.count('worse')} worse. Tokens are all visual tokens that enter the LLM, as measured."
    )
    return Study(
        NAME,
        "Settings chosen per picture against fixed ones (ours)",
        note,
        tables=(
            Table("Chosen against fixed, paired", COLUMNS, tuple(rows)),
            Table(
                "What was chosen",
                ("method", "setting", "parameter", "min", "q25", "median", "q75", "max"),
                tuple(spread),
            ),
        ),
        findings={
            "ratio_mean": means,
            **{verdict: verdicts.count(verdict) for verdict in ("better", "worse", "undecided")},
        },
    )
