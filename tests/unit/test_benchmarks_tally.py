"""Figures from sums equal the benchmark's own aggregates, on the whole and on every resample of whole pictures."""

from __future__ import annotations

import numpy as np
import pytest

from hero_ray import stats
from hero_ray.benchmarks import get
from hero_ray.benchmarks.tally import Tally
from hero_ray.core.types import Sample, Scored
from hero_ray.results.pairs import Figure

CASES = [
    (name, flavour)
    for name in ("pope", "synth-exist", "mme", "ocrbench", "mmbench_en_dev", "mmvet", "hrbench4k")
    for flavour in get(name).flavours
]


def cell(name: str, flavour: str, seed: int, pictures: int = 40) -> tuple[list[Scored], list[str]]:
    """Answers of a model that is right three times in four, in an order of their own, and their pictures."""
    benchmark, rng = get(name, flavour), np.random.default_rng(seed)
    tasks = ("existence", "count", "OCR", "code_reasoning", "text_translation")
    found = []
    for number in range(pictures):
        for at in range(2):
            extra = {"question_id": f"q{number}", "index": number + 1_000_000 * at, "capability": "ocr,math"}
            extra["cycle"] = str(number % 4)
            if name in ("mmbench_en_dev", "hrbench4k"):
                references = {"answer": "AB"[at], "options": {"A": "x", "B": "y", "C": "nan", "D": "nan"}}
                gold, wrong = "AB"[at], "BA"[at]
            else:
                gold, wrong = ("yes", "no") if at else ("no", "yes")
                references = gold
            category = tasks[number % 5] if name == "mme" else ("adversarial", "popular", "random")[number % 3]
            sample = Sample(name, f"{number}/{at}", "?", references, f"p{number}", None, category, extra)
            text = str(rng.choice([gold, wrong, "maybe"], p=[0.75, 0.2, 0.05]))
            if name == "mmvet":
                scores = {"gpt_eval_score": float(rng.random())}
            else:
                scores = benchmark.score(text, references, sample)
            found.append(Scored(sample, text, scores))
    if name == "mme":
        found.pop(5)  # a picture with one answer has no acc+
    order = rng.permutation(len(found))
    return [found[i] for i in order], [found[i].sample.image_key for i in order]


@pytest.mark.parametrize(("name", "flavour"), CASES)
def test_sums_give_what_aggregates_give(name: str, flavour: str) -> None:
    benchmark = get(name, flavour)
    scored, pictures = cell(name, flavour, seed=1)
    tally: Tally = benchmark.tally(scored)  # type: ignore[attr-defined]

    def aggregate(drawn: list[Scored]) -> dict[str, float]:
        return {metric.name: metric.value for metric in benchmark.aggregate(drawn) if not metric.category}

    whole = aggregate(scored)
    figures = tally.figures(tally.counts.sum(axis=0))
    told = figures.keys() & whole.keys()
    assert told
    assert told >= {key for key in whole if "yes_ratio" in key}  # means of no score: recounted, they cost seconds
    for key in told:
        assert float(figures[key]) == pytest.approx(whole[key], rel=1e-12, abs=1e-12)
        drawn = np.concatenate([tally.figures(sums)[key] for sums in stats.drawn_sums(tally.counts, pictures, 30)])
        slow = stats.bootstrap(lambda items, key=key: aggregate(list(items))[key], scored, pictures, 30)  # type: ignore[misc]
        assert drawn == pytest.approx(slow, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ["pope", "mme", "mmbench_en_dev"])
def test_pairs_from_sums_are_the_pairs_of_answers(name: str) -> None:
    benchmark = get(name)
    figure = Figure(benchmark, {"pope": "pope_f1_score"}.get(name, benchmark.main_metric))
    (first, pictures), (second, _) = (cell(name, benchmark.flavour, seed) for seed in (1, 2))
    place = {item.sample.key: item for item in second}
    other = [place[item.sample.key] for item in first]
    sums = figure.of_sums(first, other)
    slow = stats.paired_composite(figure, first, other, pictures, resamples=99)
    fast = stats.paired_composite(figure, first, other, pictures, resamples=99, of_sums=sums)
    for field in ("difference", "low", "high", "se", "p_value"):
        assert getattr(fast, field) == pytest.approx(getattr(slow, field), rel=1e-9, abs=1e-9)


def test_many_resamples_come_in_parts_that_are_the_same_draws() -> None:
    counts = np.random.default_rng(0).random((3000, 2))
    parts = list(stats.drawn_sums(counts, None, 1000))
    assert len(parts) > 1
    assert np.concatenate(parts)[:, 0] == pytest.approx(stats.bootstrap(sum, counts[:, 0].tolist(), None, 1000))
