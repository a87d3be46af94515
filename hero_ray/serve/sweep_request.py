"""What a sweep may ask for over HTTP: less than a sweep file, since its sender is not the owner of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hero_ray import benchmarks, methods
from hero_ray.core.config import SweepConfig, build
from hero_ray.core.errors import ConfigError
from hero_ray.core.plan import check_rules

FORBIDDEN = ("db", "rows", "rows_folder", "output_path", "log_samples", "model_args")
"""Keys that name other databases, folders or loader options: not for callers over HTTP."""
MOST = {
    "random_seeds": 100,
    "replicas": 64,
    "gpus_per_replica": 16,
    "batch_size": 1024,
    "max_new_tokens": 4096,
    "max_attempts": 10,
    "unit_timeout_s": 86_400,
    "profile.images": 100,
    "profile.repeats": 1000,
    "profile.warmup": 1000,
    "profile.new_tokens": 4096,
    "profile.batch_size": 1024,
}
"""Numbers that would keep the cluster busy for ever, or ask it for what it has not."""
MOST_NAME_CHARACTERS = 200
MOST_CELLS = 20_000
"""Models x tasks x methods x budgets x seeds; each is a row in the database before anything is answered."""


def checked(document: Mapping[str, Any], models: Sequence[str]) -> SweepConfig:
    """A sweep as its file would be read.

    Args:
        models: those that the service has.

    Raises:
        InputError: not a sweep, one that reaches beyond the service, or one that asks for too much or for nothing.
    """
    for key in FORBIDDEN:
        if key in document:
            raise ConfigError(f"`{key}` cannot be set over HTTP")
    if _names_a_preset(document):
        raise ConfigError("presets are files of the host and cannot be named over HTTP; write method and params out")
    config = build(document)
    if len(config.name) > MOST_NAME_CHARACTERS:
        raise ConfigError(f"`name` has {len(config.name)} characters; over HTTP {MOST_NAME_CHARACTERS} are the most")
    for model in config.models:
        if model not in models:
            raise ConfigError(f"this service sweeps {', '.join(models)} only")
    for task in config.tasks:
        if ":" in task.name or task.source:
            raise ConfigError("files and data folders cannot be named over HTTP; use a registered benchmark")
        benchmarks.get(task.name, task.flavour)
    for method in config.all_methods:
        methods.create(method.name, **method.params | ({"variant": method.variant} if method.variant else {}))
    _check_size(config)
    check_rules(config, [benchmarks.resolve(task.name) for task in config.tasks])
    return config


def _check_size(config: SweepConfig) -> None:
    for key, most in MOST.items():
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if isinstance(value, int | float) and value > most:
            raise ConfigError(f"`{key}` is {value:g}; over HTTP {most} is the most")
    points = sum(
        len(method.budgets or config.budgets) * len(method.seeds or range(config.random_seeds))
        for method in config.all_methods
    )
    cells = len(config.models) * len(config.tasks) * points
    if cells > MOST_CELLS:
        raise ConfigError(f"the sweep may have {cells} cells; over HTTP {MOST_CELLS} are the most")


def _names_a_preset(document: Mapping[str, Any]) -> bool:
    entries = document.get("methods")
    texts = entries.split(",") if isinstance(entries, str) else entries if isinstance(entries, list) else []
    short = any(isinstance(text, str) and text.strip().startswith("preset:") for text in texts)
    return short or any("preset" in entry for entry in _mappings(document))


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping inside a document, itself included."""
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from _mappings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _mappings(inner)
