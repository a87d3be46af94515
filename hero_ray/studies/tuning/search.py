"""Ray Tune over one bench: trials are light, the model and its encodings live in a single actor that they all ask.

So every picture is encoded once per search (and once more after a resume), whatever the number of trials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hero_ray.core.config import MethodEntry
from hero_ray.core.errors import ConfigError, HeroRayError, InputError, MissingExtraError
from hero_ray.core.secret import for_workers, hand_over
from hero_ray.studies.tuning import tuner
from hero_ray.studies.tuning.space import Space, parse_space
from hero_ray.studies.tuning.tuner import Trial

ASKED = "search.json"


@dataclass(frozen=True)
class Search:
    """One search, JSON-able: what `--resume` must find unchanged.

    Attributes:
        method: a method entry as a mapping; its parameters are fixed.
        space, budget: as on the command line.
        options: of every benchmark, such as `split`.
        limit: documents of each benchmark.
        trials: points tried.
    """

    model: str
    method: Mapping[str, Any]
    space: str
    budget: str
    tasks: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    trials: int = 20
    seed: int = 0
    on_reported_split: bool = False
    budget_base: str = "real"
    model_args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def points(self) -> Space:
        """The search space, checked."""
        return parse_space(self.space, MethodEntry(**self.method), self.budget)


class BenchActor:
    """One loaded model with its questions and encodings, in a process of its own.

    Every trial of a search asks this one, which is why pictures are encoded once.
    """

    def load(self, search: Search, secrets: Mapping[str, str]) -> None:
        """Load the model; no constructor, so that what it refuses arrives as the error it is."""
        from hero_ray import models
        from hero_ray.studies.calibration import Questions
        from hero_ray.studies.tuning.bench import Bench
        from hero_ray.studies.tuning.validation import opened, split_of

        hand_over(secrets)
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


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        facts: of the bench: revision, splits, fingerprints, questions, pictures, encodes.
        chosen: the best trial, or the one asked for.
        beside: the chosen trial and the method's defaults, in pairs.
    """

    space: Space
    trials: list[Trial]
    facts: Mapping[str, Any]
    chosen: Trial
    beside: Mapping[str, Any]


def folder(out: Path, name: str) -> Path:
    """Where a search keeps its state."""
    return out.resolve() / name


def prepare(search: Search, out: Path, name: str, resume: bool) -> None:
    """Check that a search may start, or go on, under its name.

    Raises:
        ConfigError: the name is taken, there is nothing to resume, or what is resumed was asked differently.
        MissingExtraError: Optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
        from ray import tune  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "optuna", "tune") from error
    file = folder(out, name) / ASKED
    asked = json.loads(json.dumps(asdict(search)))
    if not resume:
        if file.exists():
            raise ConfigError(f"a search named {name!r} lies in {file.parent}; give --resume, or another --name")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
        return
    if not file.is_file():
        raise ConfigError(f"nothing to resume: no search named {name!r} in {out}")
    known = json.loads(file.read_text(encoding="utf-8"))
    for key, value in asked.items():
        if known.get(key) != value:
            raise ConfigError(f"--resume {name!r}: {key} was {known.get(key)!r} and is {value!r} now; ask for the same")


def run(search: Search, out: Path, name: str, resume: bool = False, choose: int | None = None) -> Found:
    """All trials of a search; Ray is connected already.

    Args:
        choose: number of the trial to take; the best if None.

    Raises:
        InputError: no trial gave a figure, or the one to take did not.
    """
    import ray

    space = search.points
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    bench: Any = ray.remote(BenchActor).options(num_cpus=0.5, num_gpus=gpus).remote()
    try:
        _named(ray, bench.load.remote(search, for_workers()))
        trials = tuner.trials(space, bench, folder(out, name), resume, search.trials, search.seed)
        if all(trial.error for trial in trials):
            raise InputError(
                f"no trial gave a figure; the first failed with: {trials[0].error if trials else 'none ran'}"
            )
        chosen = best(trials) if choose is None else numbered(trials, choose)
        beside = ray.get(bench.against_default.remote(dict(chosen.values)))
        return Found(space, trials, ray.get(bench.facts.remote()), chosen, beside)
    finally:
        with suppress(Exception):
            ray.kill(bench)


def _named(ray: Any, reference: Any) -> None:
    """Wait for the actor; what it refused by name comes out under that name."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, HeroRayError):
            raise error.cause from None
        raise


def best(trials: list[Trial]) -> Trial:
    """The highest score; ties go to fewer tokens, then to the earlier trial."""
    return min((t for t in trials if not t.error), key=lambda t: (-t.score, t.tokens, t.number))


def numbered(trials: list[Trial], number: int) -> Trial:
    """One trial.

    Raises:
        InputError: there is no such trial, or it failed.
    """
    found = next((trial for trial in trials if trial.number == number and not trial.error), None)
    if found is None:
        good = ", ".join(str(trial.number) for trial in trials if not trial.error)
        raise InputError(f"--export {number}: no such trial with a figure; there are {good}")
    return found


def front(trials: list[Trial]) -> set[int]:
    """Numbers of the trials that no other beats in both score and tokens."""
    from hero_ray.stats.frontier import pareto

    good = [trial for trial in trials if not trial.error]
    keep = pareto([trial.tokens for trial in good], [trial.score for trial in good])
    return {trial.number for trial, kept in zip(good, keep, strict=True) if kept}
