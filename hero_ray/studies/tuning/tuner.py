"""A search in the words of Ray Tune: Optuna proposes points for two objectives, and what was tried survives a kill."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hero_ray.studies.tuning.space import Choice, Space
from hero_ray.studies.tuning.trainable import measured

TRIAL_CPUS = 0.1
"""A trial only waits for the actor."""


@dataclass(frozen=True)
class Trial:
    """One point with its figures; `error` instead of figures where it failed."""

    number: int
    values: Mapping[str, Any]
    score: float = 0.0
    tokens: float = 0.0
    flops: float = 0.0
    error: str = ""


def tune_space(space: Space) -> dict[str, Any]:
    """The space in Tune's words; Optuna keeps only plain values, so choices travel as JSON text."""
    from ray import tune

    found: dict[str, Any] = {}
    for name, dimension in space.dimensions.items():
        if isinstance(dimension, Choice):
            found[name] = tune.choice([json.dumps(value) for value in dimension.values])
        elif dimension.integer:
            draw = tune.lograndint if dimension.log else tune.randint
            found[name] = draw(int(dimension.low), int(dimension.high) + 1)
        else:
            found[name] = (tune.loguniform if dimension.log else tune.uniform)(dimension.low, dimension.high)
    return found


def trials(space: Space, bench: Any, path: Path, resume: bool, count: int, seed: int) -> list[Trial]:
    """Run or go on with a search of `count` points; every trial with its figures or its error."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")  # a killed search loses about its last second
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    import optuna
    from ray import tune

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for chatter in ("ray.tune", "ray.train"):
        logging.getLogger(chatter).setLevel(logging.ERROR)
    trainable = tune.with_resources(tune.with_parameters(measured, bench=bench), {"cpu": TRIAL_CPUS})
    if resume and tune.Tuner.can_restore(str(path)):
        tuner = tune.Tuner.restore(str(path), trainable=trainable, resume_unfinished=True, resume_errored=True)
    else:
        tuner = _tuner(space, trainable, path, count, seed)
    grid, made = tuner.fit(), []
    for number in range(len(grid)):
        result = grid[number]
        values = space.decoded(result.config or {})
        if result.error is not None or not result.metrics or "score" not in result.metrics:
            made.append(Trial(number, values, error=str(result.error).strip().splitlines()[-1][:300]))
            continue
        score, tokens, flops = (float(result.metrics[key]) for key in ("score", "tokens", "flops"))
        made.append(Trial(number, values, score, tokens, flops))
    return made


def _tuner(space: Space, trainable: Any, path: Path, count: int, seed: int) -> Any:
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    default = space.default()
    algorithm = OptunaSearch(
        metric=["score", "tokens"],
        mode=["max", "min"],
        seed=seed,
        points_to_evaluate=None if default is None else [space.encoded(default)],
    )
    return tune.Tuner(
        trainable,
        param_space=tune_space(space),
        tune_config=tune.TuneConfig(
            search_alg=algorithm, num_samples=count, max_concurrent_trials=1, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name=path.name, storage_path=str(path.parent), verbose=0, callbacks=[_progress(count)]
        ),
    )


def _progress(total: int) -> Any:
    from ray import tune

    class Progress(tune.Callback):
        """One line per finished trial; Tune's own table says more than fits."""

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            at = ", ".join(f"{key}={value}" for key, value in result.get("config", {}).items())
            line = f"trial {len(trials)}/{total}: score {result['score']:.4f}, {result['tokens']:.1f} tokens; {at}\n"
            sys.stderr.write(line)
            sys.stderr.flush()

    return Progress()
