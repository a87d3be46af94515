"""How many questions and pictures a benchmark has, known without its data."""

from __future__ import annotations

from collections.abc import Mapping

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.errors import DatasetError

PICTURES: Mapping[str, int] = {
    "vqav2_val": 40_504,
    "gqa": 398,
    "pope": 500,
    "mme": 1_187,
    "docvqa_val": 1_286,
    "mmbench_en_dev": 1_164,
    "textvqa_val": 3_166,
    "infovqa_val": 500,
    "hrbench4k": 200,
    "hrbench8k": 200,
}
"""Distinct pictures where they are far fewer than questions; elsewhere every question counts as its own."""

UNCONFIRMED_ROWS: Mapping[str, int] = {"seedbench": 17_990, "realworldqa": 765, "gqa": 12_578}
"""Row counts that no source of ours confirms; good enough for a forecast."""


def rows(benchmark: Benchmark | type[Benchmark]) -> int | None:
    """Rows of a whole benchmark, or None where nobody knows."""
    source = getattr(benchmark, "source", None)
    return getattr(source, "rows", None) or UNCONFIRMED_ROWS.get(benchmark.name)


def questions(benchmark: Benchmark, limit: int | None) -> int:
    """Questions that a benchmark asks under a limit; embedded ones are drawn and counted.

    Raises:
        DatasetError: its size is not known.
    """
    if benchmark.name.startswith("synth-"):
        return sum(1 for _ in benchmark.samples(limit))
    found = rows(benchmark)
    if found is None:
        raise DatasetError(f"{benchmark.name}: how many rows it has is not known, so its cost cannot be forecast")
    return min(found, limit) if limit else found


def pictures(name: str, questions: int) -> int:
    """Distinct pictures behind the first `questions` of a benchmark, at most."""
    return min(questions, PICTURES.get(name, questions))
