"""What a benchmark is: rows to Samples, Samples to prompts, predictions to scores, scores to metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from PIL import Image

from hero_ray.core.types import Metric, Sample, Scored


class Benchmark(Protocol):
    """One benchmark in one scoring flavour.

    Attributes:
        name: primary name, as lmms-eval's.
        aliases: the papers' and VLMEvalKit's names.
        flavours: scoring rules known, default first.
        flavour: the one in force.
        main_metric: key of the figure put on charts, in 0..`scale`.
        scale: what the main metric is out of (1.0 for shares; 2000 for MME points).
        max_new_tokens: generation limit.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]]
    flavours: ClassVar[tuple[str, ...]]
    flavour: str
    main_metric: str
    scale: float
    max_new_tokens: int

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """Samples in dataset order, no pixels decoded into memory at once; `limit` takes the first n documents."""
        ...

    def fingerprint(self) -> str:
        """Content hash of the dataset behind `samples`; part of every cell id."""
        ...

    def require(self) -> None:
        """Check what scoring needs beyond the data, before anything is generated.

        Raises:
            JudgeError: judge-based scores without a judge.
        """
        ...

    def load_image(self, image_ref: Any) -> Image.Image:
        """The picture behind `Sample.image_ref`, RGB.

        Raises:
            ImageError: the bytes are not a usable picture.
        """
        ...

    def prompt(self, sample: Sample, family: str) -> str:
        """User text for a model family, without chat template and image token."""
        ...

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Per-sample scores by metric key, the main metric's a float in 0..1; never mutates its input."""
        ...

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Metrics over a cell's samples, whole benchmark first, then categories."""
        ...


References = Mapping[str, Any]


def main_score(benchmark: Benchmark, text: str, sample: Sample) -> float:
    """The sample's main figure; of composite figures the sample's own `score`."""
    scores: dict[str, Any] = benchmark.score(text, sample.references, sample)
    value = scores.get(benchmark.main_metric, next(iter(scores.values())))
    return float(value["score"] if isinstance(value, Mapping) else value)
