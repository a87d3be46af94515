"""The bench inside its actor process: every trial of a search asks this one, which is why pictures are encoded once."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hero_ray.studies.tuning.search import Search


class BenchActor:
    """One loaded model with its questions and encodings."""

    def load(self, search: Search) -> None:
        """Load the model; no constructor, so that what it refuses arrives as the error it is."""
        from hero_ray import models
        from hero_ray.studies.calibration import Questions
        from hero_ray.studies.tuning.bench import Bench
        from hero_ray.studies.tuning.validation import opened, split_of

        found = opened(search.tasks, search.options, search.on_reported_split)
        adapter = models.load(search.model, **search.model_args)
        questions = Questions.of(found, search.limit)
        self._space = search.points
        self._bench = Bench(adapter, questions, self._space, search.budget_base)  # type: ignore[arg-type]
        self._facts = {
            "revision": adapter.info.revision,
            "splits": {benchmark.name: split_of(benchmark) for benchmark in found},
            "fingerprints": {benchmark.name: benchmark.fingerprint() for benchmark in found},
            "questions": len(questions.samples),
            "pictures": self._bench.num_pictures,
        }

    def measure(self, config: dict[str, Any]) -> dict[str, float]:
        """Figures of one point, given as Tune holds it."""
        found = self._bench.measure(*self._space.trial(self._space.decoded(config)))
        return {"score": found.score, "tokens": found.tokens, "flops": found.flops}

    def against_default(self, values: dict[str, Any]) -> dict[str, Any]:
        """A point beside the method's defaults at the same budget, in pairs."""
        entry, ratio = self._space.trial(values)
        usual = self._bench.measure(self._space.entry, ratio)
        paired = self._bench.against(self._bench.measure(entry, ratio), usual)
        return {"default_score": usual.score, "default_tokens": usual.tokens, "paired": asdict(paired)}

    def facts(self) -> dict[str, Any]:
        """Revision, splits and counts, encodes among them."""
        return self._facts | {"encodes": self._bench.counters.encodes}
