"""Benchmarks, one file each: dataset rows to Samples, predictions to scores.

The file name is the benchmark's primary name; `synth.py` holds the seven embedded ones. A file with a class that has a
`name` is all it takes; packages of one's own add theirs through the entry point group `hero_ray.benchmarks`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hero_ray.core import plugins
from hero_ray.core.errors import ParameterError, PluginError, UnknownNameError

if TYPE_CHECKING:
    from hero_ray.benchmarks.base import Benchmark
    from hero_ray.core.plugins import Plugin

ENTRY_POINT_GROUP = "hero_ray.benchmarks"
_NOT_BENCHMARKS = {
    "audit", "base", "choices", "custom", "dataset", "hub_rows", "images", "judge", "judged_choices", "letters", "lmms",
    "own_cells", "own_pictures", "picture_cells", "sources", "synthetic", "tables", "vqa", "vqa_text", "yes_no",
}  # fmt: skip


_ASKED = ("samples", "fingerprint", "require", "load_image", "prompt", "score", "aggregate")
"""What sweeps call on a benchmark; see `base.Benchmark`."""


@cache
def _own() -> dict[str, type[Benchmark]]:
    """Primary name -> class of the benchmarks of this package."""
    found: dict[str, type[Benchmark]] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name not in _NOT_BENCHMARKS:
            module = importlib.import_module(f"{__name__}.{info.name}")
            for value in vars(module).values():
                if inspect.isclass(value) and value.__module__ == module.__name__ and "name" in vars(value):
                    _add(found, value)
    return found


def _add(found: dict[str, type[Benchmark]], benchmark: Any) -> None:
    if benchmark.name in found:
        raise ParameterError(f"benchmark name {benchmark.name!r} is registered twice; rename one")
    found[benchmark.name] = benchmark


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


@cache
def _own_aliases() -> dict[str, str]:
    """Plain spelling of a name or alias -> primary name."""
    table: dict[str, str] = {}
    for name, benchmark in _own().items():
        for alias in (name, *benchmark.aliases):
            taken = table.setdefault(_plain(alias), name)
            if taken != name:
                raise ParameterError(f"alias {alias!r} belongs to both {taken!r} and {name!r}")
    return table


def foreign() -> tuple[Plugin, ...]:
    """Benchmarks of other packages; those that cannot be used are among them and say why."""
    return plugins.load(ENTRY_POINT_GROUP, _accept)


def _accept(name: str, loaded: Any) -> tuple[type[Benchmark], tuple[str, ...]]:
    if not isinstance(loaded, type):
        raise PluginError(f"it is no benchmark class but {type(loaded).__name__} {str(loaded)[:80]!r}")
    cls: Any = loaded
    if missing := [method for method in _ASKED if not callable(getattr(cls, method, None))]:
        raise PluginError(f"{cls.__name__} is no benchmark; it lacks {', '.join(missing)}")
    if "flavour" not in inspect.signature(cls).parameters:
        raise PluginError(f"{cls.__name__} cannot be made with `flavour=...`")
    spoken = (cls.name, *cls.aliases)
    if not all(isinstance(one, str) and one for one in (*spoken, *cls.flavours)) or not cls.flavours:
        raise PluginError(f"{cls.__name__} needs a `name`, `aliases` and at least one of `flavours`, all text")
    if taken := [alias for alias in spoken if _plain(alias) in _own_aliases()]:
        raise PluginError(f"{taken[0]!r} is the name of a built-in benchmark; rename it")
    return cls, tuple(dict.fromkeys(map(_plain, spoken)))


def _usable() -> list[Plugin]:
    return [plugin for plugin in foreign() if not plugin.error]


def names() -> tuple[str, ...]:
    """Primary name of every benchmark that can be used, sorted."""
    return tuple(sorted([*_own(), *(plugin.loaded.name for plugin in _usable())]))


def resolve(name: str) -> str:
    """The primary name behind a name or alias; case, `-` and `_` do not matter.

    `file:PATH` and `lmms:TASK` are returned as they are.

    Raises:
        UnknownNameError: nothing is registered under `name`.
        PluginError: another package's benchmark that cannot be used.
    """
    if name.startswith(("file:", "lmms:")):
        return name
    plain = _plain(name)
    if plain in _own_aliases():
        return _own_aliases()[plain]
    for plugin in _usable():
        if plain in plugin.answers_to:
            return str(plugin.loaded.name)
    plugins.refuse(name, foreign())
    is_file = Path(name).suffix.lower() in (".jsonl", ".json", ".parquet", ".csv", ".tsv") or os.path.exists(name)
    raise UnknownNameError("benchmark", name, [*names(), "file:PATH"], f"file:{name}" if is_file else "")


def get_class(name: str) -> type[Benchmark]:
    """The class behind a name or alias.

    Raises:
        UnknownNameError, PluginError: as `resolve`.
    """
    primary = resolve(name)
    if primary.startswith("file:"):
        from hero_ray.benchmarks.custom import FileBenchmark

        return FileBenchmark
    if primary.startswith("lmms:"):
        from hero_ray.benchmarks.lmms import LmmsBenchmark

        return LmmsBenchmark  # type: ignore[return-value]
    if primary in _own():
        return _own()[primary]
    return next(plugin.loaded for plugin in _usable() if plugin.loaded.name == primary)  # type: ignore[no-any-return]


def code_of(primary: str) -> str:
    """Hash of the source behind another package's benchmark, by its primary name; "" for one of ours."""
    return next((plugin.code for plugin in _usable() if plugin.loaded.name == primary), "")


def get(name: str, flavour: str | None = None, **options: Any) -> Benchmark:
    """A benchmark by name, alias, `file:PATH` or `lmms:TASK`.

    Args:
        name: for example `textvqa_val`, `SQA-I`, `file:mine.jsonl`.
        flavour: scoring rules (`head v0.2.3 v0.2.0 hired vlmevalkit` where known); the default is the first.
        **options: of the benchmark, such as `data=FOLDER`; see `DatasetBenchmark`.

    Raises:
        UnknownNameError: no such benchmark or flavour. PluginError: another package's that cannot be used.
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
