"""What an lmms-eval results file says of the samples beside it: model, settings and figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hero_ray.core.errors import DatasetError
from hero_ray.core.text import brief
from hero_ray.results.exchange import raw
from hero_ray.results.exchange.lmms_export import task_name

_NUMBERS: dict[str, tuple[Any, float, float]] = {
    "retention_ratio": (float, 1e-6, 1),
    "tokens": (int, 1, 2**31 - 1),
    "seed": (int, 0, 2**31 - 1),  # what PostgreSQL's integers hold
}
_ERROR = re.compile(r"_stderr(?:_clt|_clustered)?$")


@dataclass(frozen=True)
class Beside:
    """Empty where there is no results file. `task`: the task's own name, where the file's name had to change it."""

    model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    stderr: Mapping[str, float] = field(default_factory=dict)
    task: str = ""


def model_of(model_args: str, where: str) -> tuple[str, dict[str, Any]]:
    """Model and settings of `model_args`, `pretrained=NAME,key=value,...`.

    Raises:
        DatasetError: a budget or seed that is none.
    """
    pairs = (part.partition("=") for part in model_args.split(","))
    settings: dict[str, Any] = {key.strip(): value for key, equals, value in pairs if equals}
    return str(settings.pop("pretrained", "")), _checked(settings, where)


def _checked(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings with budget and seed as numbers that a cell can have."""
    checked = dict(settings)
    for key, (kind, low, high) in _NUMBERS.items():
        if checked.get(key) is None:
            continue
        try:
            checked[key] = kind(checked[key])
        except (TypeError, ValueError, OverflowError):
            raise DatasetError(f"{where}: model_args say {key}={brief(settings[key])}, which is no number") from None
        if not low <= checked[key] <= high:
            raise DatasetError(f"{where}: model_args say {key}={checked[key]}, which is not within {low} to {high}")
    return checked


def beside(path: Path, before: str, after: str, task: str, filter: str | None) -> Beside:
    """What the results file that belongs to a samples file says.

    Args:
        before, after: the time in the samples file's name, in lmms-eval's place or in lm-evaluation-harness'.
        filter: whose figures to take where there are several.

    Raises:
        DatasetError: the file is there and is no results file.
    """
    names = [f"{before}_results.json" if before else "results.json", *([f"results{after}.json"] if after else [])]
    file = next((path.with_name(name) for name in (*names, "results.json") if path.with_name(name).is_file()), None)
    if file is None or file == path:
        return Beside()
    raw.check(file)
    content = raw.json_content(file)
    if not isinstance(content, Mapping):
        raise DatasetError(f"{file.name} beside {path.name} is no lmms-eval results file; move it away to leave it out")
    config = _mapping(content.get("config"))
    args = config.get("model_args")
    if isinstance(args, Mapping):
        args = ",".join(f"{key}={value}" for key, value in args.items())
    model, settings = model_of(str(args or ""), file.name)
    model = model or str(content.get("model_name") or "")
    if isinstance(ours := _mapping(config.get("hero_ray")).get("settings"), Mapping):
        settings = _checked(ours, file.name)
    results = _mapping(content.get("results"))
    own = next((name for name in results if task_name(str(name)) == task), "")
    metrics, stderr = _figures(_mapping(results.get(own)), filter)
    return Beside(model, settings, metrics, stderr, str(own))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _figures(found: Mapping[str, Any], filter: str | None) -> tuple[dict[str, float], dict[str, float]]:
    """Figures and standard errors by metric, of a filter, else of "none", else of the first there is."""
    numbers: dict[str, dict[str, float]] = {}
    for key, value in found.items():
        name, comma, kind = str(key).rpartition(",")
        figure = None if isinstance(value, bool) else raw.number(value)
        if comma and figure is not None:
            numbers.setdefault(kind, {})[name] = figure
    chosen = numbers.get(filter or "none", next(iter(numbers.values()), {}))
    # Since v0.6 there are also `_stderr_clt` and `_stderr_clustered`; of F1 and its like they are the accuracy's.
    metrics = {name: value for name, value in chosen.items() if not _ERROR.search(name)}
    stderr = {name: chosen[f"{name}_stderr"] for name in metrics if f"{name}_stderr" in chosen}
    return metrics, stderr
