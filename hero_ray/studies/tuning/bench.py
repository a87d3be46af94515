"""One trial after another on one loaded model: pictures are read and encoded once, whatever the number of trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hero_ray import stats
from hero_ray.core.config import MethodEntry
from hero_ray.core.encoded import BudgetBase
from hero_ray.core.errors import InputError
from hero_ray.core.plan import Settings, digest
from hero_ray.core.types import Cell, Prediction, Scored
from hero_ray.engine.cut import Counters
from hero_ray.engine.evaluate import Evaluator, Memory
from hero_ray.models.base import Adapter
from hero_ray.studies.calibration import Questions
from hero_ray.studies.tuning.space import Space, method_of


@dataclass(frozen=True)
class Figures:
    """What one trial measured.

    Attributes:
        score: main metrics as shares, averaged over benchmarks.
        tokens: visual tokens alive per LLM block and question, the mean.
        flops: of a whole answer, the mean.
        answers: score of every question, in one order for all trials.
    """

    score: float
    tokens: float
    flops: float
    answers: tuple[float, ...]


class Bench:
    """The questions, the model, and every encoding made so far."""

    def __init__(self, adapter: Adapter, questions: Questions, space: Space, base: BudgetBase = "real") -> None:
        self._adapter, self._questions, self._space = adapter, questions, space
        self._settings = Settings(budget_base=base)
        self._memory = Memory(space.needs(adapter.vision))
        self._units = questions.units
        self.counters = Counters()
        order = [sample for unit in self._units for sample in unit.samples]
        self.images = tuple(sample.image_key for sample in order)
        self._order = {(sample.benchmark, sample.key): at for at, sample in enumerate(order)}

    @property
    def num_pictures(self) -> int:
        return len(self._units)

    def measure(self, entry: MethodEntry, ratio: float) -> Figures:
        """Answer every question once.

        Raises:
            InputError: a question could not be answered.
        """
        method = method_of(entry)
        cells = [
            Cell(
                digest([name, method.parameters(), ratio]),
                self._adapter.info.name,
                entry.name,
                method.variant,
                method.parameters(),
                ratio,
                name,
                benchmark.flavour,
            )
            for name, benchmark in self._questions.benchmarks.items()
        ]
        evaluator = Evaluator(
            self._adapter, cells, self._questions.benchmarks, self._settings, self.counters, memory=self._memory
        )
        return self._figures([prediction for unit in self._units for prediction in evaluator.evaluate(unit)])

    def _figures(self, predictions: Sequence[Prediction]) -> Figures:
        answers = np.zeros(len(self._order))
        scored: dict[str, list[Scored]] = {name: [] for name in self._questions.benchmarks}
        for one in predictions:
            if one.error_type is not None or one.tokens is None:
                raise InputError(f"question {one.sample.key} failed: {one.error_type}: {one.error_message}")
            benchmark = self._questions.benchmarks[one.sample.benchmark]
            scored[one.sample.benchmark].append(Scored(one.sample, one.text, one.scores))
            value = one.scores.get(benchmark.main_metric, next(iter(one.scores.values())))
            answers[self._order[one.sample.benchmark, one.sample.key]] = float(
                value["score"] if isinstance(value, dict) else value
            )
        return Figures(
            score=float(np.mean([self._main(name, rows) for name, rows in scored.items()])),
            tokens=float(np.mean([one.tokens.equivalent_tokens for one in predictions if one.tokens])),
            flops=float(np.mean([one.flops or 0.0 for one in predictions])),
            answers=tuple(answers.tolist()),
        )

    def _main(self, name: str, scored: Sequence[Scored]) -> float:
        benchmark = self._questions.benchmarks[name]
        found = benchmark.aggregate(scored)
        return next(m.value for m in found if m.name == benchmark.main_metric and not m.category) / benchmark.scale

    def against(self, first: Figures, second: Figures) -> stats.Paired:
        """Paired comparison of two trials on their shared questions, clustered by picture."""
        return stats.paired(np.array(first.answers), np.array(second.answers), np.array(self.images, dtype=object))
