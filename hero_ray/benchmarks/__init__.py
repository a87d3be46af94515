"""Benchmarks, one file each: dataset rows to Samples, predictions to scores.

The file name is the benchmark's primary name; `synth.py` holds the seven embedded ones. A file with a class that has a
`name` is all it takes; packages of one's own add theirs through the entry point group `hero_ray.benchmarks`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from hero_ray.core.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from hero_ray.benchmarks.base import Benchmark

ENTRY_POINT_GROUP = "hero_ray.benchmarks"
_NOT_BENCHMARKS = {
    "base", "choices", "custom", "dataset", "images", "judge", "lmms", "sources", "synthetic", "tables", "vqa",
    "vqa_text", "yes_no",
}  # fmt: skip


@cache
def _catalogue() -> dict[str, type[Benchmark]]:
    found: dict[str, type[Benchmark]] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name not in _NOT_BENCHMARKS:
            module = importlib.import_module(f"{__name__}.{info.name}")
            for value in vars(module).values():
                if inspect.isclass(value) and value.__module__ == module.__name__ and "name" in vars(value):
                    _add(found, value)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        _add(found, point.load())
    return found


def _add(found: dict[str, type[Benchmark]], benchmark: Any) -> None:
    if benchmark.name in found:
        raise ParameterError(f"benchmark name {benchmark.name!r} is registered twice; rename one")
    found[benchmark.name] = benchmark


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


@cache
def _aliases() -> dict[str, str]:
    table: dict[str, str] = {}
    for name, benchmark in _catalogue().items():
        for alias in (name, *benchmark.aliases):
            taken = table.setdefault(_plain(alias), name)
            if taken != name:
                raise ParameterError(f"alias {alias!r} belongs to both {taken!r} and {name!r}")
    return table


def names() -> tuple[str, ...]:
    """Every registered benchmark's primary name, sorted."""
    return tuple(sorted(_catalogue()))


def resolve(name: str) -> str:
    """The primary name behind a name or alias; case, `-` and `_` do not matter.

    `file:PATH` and `lmms:TASK` are returned as they are.

    Raises:
        UnknownNameError: nothing is registered under `name`.
    """
    if name.startswith(("file:", "lmms:")):
        return name
    if _plain(name) not in _aliases():
        raise UnknownNameError("benchmark", name, [*names(), "file:PATH"])
    return _aliases()[_plain(name)]


def get_class(name: str) -> type[Benchmark]:
    """The class behind a name or alias.

    Raises:
        UnknownNameError: nothing is registered under `name`.
    """
    primary = resolve(name)
    if primary.startswith("file:"):
        from hero_ray.benchmarks.custom import FileBenchmark

        return FileBenchmark
    if primary.startswith("lmms:"):
        from hero_ray.benchmarks.lmms import LmmsBenchmark

        return LmmsBenchmark  # type: ignore[return-value]
    return _catalogue()[primary]


def get(name: str, flavour: str | None = None, **options: Any) -> Benchmark:
    """A benchmark by name, alias, `file:PATH` or `lmms:TASK`.

    Args:
        name: for example `textvqa_val`, `SQA-I`, `file:mine.jsonl`.
        flavour: scoring rules (`head v0.2.3 v0.2.0 hired vlmevalkit` where known); the default is the first.
        **options: of the benchmark, such as `data=FOLDER`; see `DatasetBenchmark`.

    Raises:
        UnknownNameError: no such benchmark or flavour.
        ParameterError: an option the benchmark does not have.
    """
    cls = get_class(name)
    primary = resolve(name)
    if primary.startswith(("file:", "lmms:")):
        options = {"target": primary.partition(":")[2], **options}
    known = set(inspect.signature(cls).parameters)
    unknown = set(options) - known
    if unknown:
        has = sorted(known - {"flavour", "target"})
        raise ParameterError(f"{primary} has no option {sorted(unknown)}; it has {has}")
    return cls(flavour=flavour, **options)  # type: ignore[call-arg]
