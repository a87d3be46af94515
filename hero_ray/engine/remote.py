"""Units answered by an endpoint: an `Evaluator` without a model here. Masks, tokens and FLOPs are unknown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from PIL import Image

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.errors import INFRASTRUCTURE
from hero_ray.core.plan import ENDPOINT, Settings, Unit
from hero_ray.core.types import Cell, Prediction, Sample
from hero_ray.engine.cut import Counters
from hero_ray.engine.endpoint import KEY, Endpoint
from hero_ray.engine.evaluate import failed


@dataclass
class RemoteEvaluator:
    """Evaluates units against the one cell per benchmark that an endpoint has.

    Attributes:
        adapter: stands where a loaded model would; it has no decoder, so nothing is certified.
    """

    endpoint: Endpoint
    cells: Sequence[Cell]
    benchmarks: Mapping[str, Benchmark]
    settings: Settings = field(default_factory=Settings)
    counters: Counters = field(default_factory=Counters)

    @property
    def adapter(self) -> Any:
        return SimpleNamespace(
            decoder=None, info=SimpleNamespace(revision=self.endpoint.find_served(), family=ENDPOINT)
        )

    def evaluate(
        self,
        unit: Unit,
        wanted: Collection[tuple[str, str]] | None = None,
        load: Callable[[], Image.Image] | None = None,
    ) -> list[Prediction]:
        """As `Evaluator.evaluate`: one prediction per (cell, sample), failures among them."""
        pairs = [
            (cell, sample)
            for sample in unit.samples
            for cell in self.cells
            if cell.benchmark == sample.benchmark and (wanted is None or (cell.id, sample.key) in wanted)
        ]
        if not pairs:
            return []
        first = unit.samples[0]
        try:
            image = load() if load else self.benchmarks[first.benchmark].load_image(first.image_ref)
        except INFRASTRUCTURE:
            raise
        except Exception as error:
            return [failed(cell, sample, error) for cell, sample in pairs]
        with ThreadPoolExecutor(self.endpoint.clients) as threads:
            return list(threads.map(lambda pair: self._answer(image, *pair), pairs))

    def _answer(self, image: Image.Image, cell: Cell, sample: Sample) -> Prediction:
        benchmark = self.benchmarks[sample.benchmark]
        text = ""
        try:
            limit = self.settings.max_new_tokens or benchmark.max_new_tokens
            reply = self.endpoint.ask(image, benchmark.prompt(sample, ENDPOINT), limit)
            self.counters.answers += 1
            text = reply.text
            scores = benchmark.score(text, sample.references, sample)
        except INFRASTRUCTURE:
            raise
        except Exception as error:
            return replace(failed(cell, sample, error), text=text)
        told = {key: value for key, value in vars(reply).items() if key != "text"}
        return Prediction(cell.id, sample, text, {**scores, KEY: told})
