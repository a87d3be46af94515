"""What driver and workers tell each other; costs the driver no torch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

from hero_ray.core.plan import Settings, Unit
from hero_ray.core.tasks import TaskEntry
from hero_ray.core.types import Cell, Sample


@dataclass(frozen=True)
class WorkerJob:
    """Everything an actor needs, small enough to travel as constructor arguments."""

    run_id: str
    store_url: str = field(repr=False)
    model: str
    model_args: dict[str, Any]
    cells: tuple[Cell, ...]
    tasks: tuple[TaskEntry, ...]
    settings: Settings
    unit_timeout_s: float = 1800.0
    max_attempts: int = 3
    until_decided: bool = False
    threads: int | None = None
    gpus: float = 0.0
    loader: str = "hero_ray.models:load"
    commits: Mapping[str, str] = field(default_factory=dict)
    """What the plan read of the hub; every replica reads the same."""
    certify_after: str = ""
    """The unit whose replica certifies the model afterwards; none if the run has its certificate."""
    rows_folder: str = ""
    """Where rows are kept until they are loaded; straight into the database if empty."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the driver, for no worker's environment has them."""


_PARTS = tuple(part.name for part in fields(Sample))


def pack_unit(unit: Unit) -> bytes:
    """A unit as bytes: Ray would merge the keys of free-form dicts over a block.

    Those of all units lie with the driver and in Ray's memory at once; questions about one picture are much alike.
    """
    samples = [[getattr(sample, part) for part in _PARTS] for sample in unit.samples]
    return zlib.compress(json.dumps([unit.id, unit.image_key, samples]).encode(), 1)


def unit_key(unit: Unit, model: str) -> str:
    """What a unit is counted under: every model of a run begins and settles it for itself."""
    return f"{unit.id}@{model}"


def unpack_unit(packed: bytes) -> Unit:
    """The unit that `pack_unit` packed."""
    name, image_key, samples = json.loads(zlib.decompress(packed))
    return Unit(name, image_key, tuple(Sample(*sample) for sample in samples))


def load_callable(path: str) -> Callable[..., Any]:
    """`package.module:name` as an object."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


@dataclass
class UnitOutcome:
    """What the driver learns of a unit."""

    unit: str
    picture: str = ""
    answered: int = 0
    failed: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
