"""What a search found, for people, for scripts and as a preset."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hero_ray.core import presets
from hero_ray.results.writer import Grid, grid
from hero_ray.studies.tuning.search import Found, Search, front
from hero_ray.studies.tuning.space import method_of
from hero_ray.studies.tuning.tuner import Trial


def table(found: Found) -> Grid:
    """Trials, the undominated ones marked."""
    names = list(found.space.dimensions)
    kept = front(found.trials)
    rows = []
    for trial in sorted(found.trials, key=lambda t: (bool(t.error), t.tokens, -t.score)):
        point = [_shown(trial.values[name]) for name in names]
        figures = [f"{trial.score:.4f}", f"{trial.tokens:.1f}", f"{trial.flops / 1e9:.4g}"]
        end = ["failed", "", "", trial.error] if trial.error else [*figures, "*" if trial.number in kept else ""]
        rows.append([trial.number, *point, *end])
    return grid(["trial", *names, "score", "tokens", "GFLOPs", "front"], rows)


def notes(found: Found) -> list[str]:
    """The chosen trial beside the defaults."""
    paired = found.beside["paired"]
    bounds = "" if paired["low"] is None else f" [{paired['low']:+.4f}, {paired['high']:+.4f}]"
    return [
        f"chosen: trial {found.chosen.number}, {_point(found.chosen)}: score {found.chosen.score:.4f}, "
        f"{found.chosen.tokens:.1f} tokens; defaults {found.beside['default_score']:.4f}, "
        f"{found.beside['default_tokens']:.1f} tokens",
        f"difference per question {paired['difference']:+.4f}{bounds}, p = {paired['p_value']:.3g}, n = {paired['n']}: "
        f"optimistic, since the best of {len(found.trials)} trials is judged on the questions that chose it",
        f"{found.facts['encodes']} encodes of {found.facts['pictures']} pictures over {len(found.trials)} trials",
    ]


def record(found: Found, name: str) -> dict[str, Any]:
    """The last line, for scripts."""
    paired = found.beside["paired"]
    return {
        "tune": name,
        "trials": len(found.trials),
        "failed": sum(bool(trial.error) for trial in found.trials),
        "encodes": found.facts["encodes"],
        "pictures": found.facts["pictures"],
        "front": sorted(front(found.trials)),
        "best": {"trial": found.chosen.number, "values": plain(found.chosen.values), "score": found.chosen.score}
        | {"tokens": found.chosen.tokens},
        "default_score": found.beside["default_score"],
        "difference": {key: paired[key] for key in ("difference", "low", "high", "p_value", "n")},
    }


def export(search: Search, found: Found, name: str) -> Path:
    """Write the chosen trial as a preset that sweeps can name."""
    from hero_ray.pipeline.provenance import git_commit

    entry, ratio = found.space.trial(found.chosen.values)
    paired = found.beside["paired"]
    tuned = presets.Tuned(
        model=search.model,
        revision=found.facts["revision"],
        splits=found.facts["splits"],
        fingerprints=found.facts["fingerprints"],
        limit=search.limit,
        questions=found.facts["questions"],
        pictures=found.facts["pictures"],
        on_reported_split=search.on_reported_split,
        budget=ratio,
        budget_base=search.budget_base,
        space={key: str(value) for key, value in found.space.dimensions.items()},
        trials=len(found.trials),
        seed=search.seed,
        score=found.chosen.score,
        default_score=found.beside["default_score"],
        difference=paired["difference"],
        low=paired["low"],
        high=paired["high"],
        tokens=found.chosen.tokens,
        commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    made = presets.Preset(method=entry.name, variant=method_of(entry).variant, params=plain(entry.params), tuned=tuned)
    return presets.write(made, name)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as YAML and JSON have them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _point(trial: Trial) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in trial.values.items())


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)
