"""On what a search is judged, and the refusal to search on what sweeps report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray import benchmarks
from hero_ray.core.errors import ConfigError

FLAG = "--on-reported-split"


def split_of(benchmark: Any) -> str:
    """The split a benchmark object reads; `file` for a file of one's own, whose role only its owner knows."""
    if benchmark.name.startswith("file:"):
        return "file"
    where = getattr(benchmark, "where", None)
    return str(benchmark.split if where is None else where.split)


def is_reported(benchmark: Any) -> bool:
    """Whether sweeps report on this very split unless told otherwise."""
    if benchmark.name.startswith("file:"):
        return False
    return split_of(benchmark) == split_of(type(benchmark)())


def on_validation(task: str, options: Mapping[str, Any]) -> Any:
    """A benchmark to choose settings on; embedded ones take their validation split unless `options` say otherwise."""
    own = benchmarks.resolve(task).startswith("synth-")
    return benchmarks.get(task, **{**({"split": "validation"} if own else {}), **options})


def opened(tasks: Sequence[str], options: Mapping[str, Any], on_reported_split: bool = False) -> list[Any]:
    """The benchmarks of a search; the embedded ones take their validation split unless `options` name another.

    Raises:
        ConfigError: no task, or one on the split that sweeps report on.
        InputError: an unknown benchmark, or rows that cannot be read.
    """
    if not tasks:
        raise ConfigError("no benchmark to tune on; give --benchmark NAME")
    found = []
    for task in tasks:
        benchmark = on_validation(task, options)
        if is_reported(benchmark) and not on_reported_split:
            raise ConfigError(
                f"{benchmark.name}, split {split_of(benchmark)!r}, is what sweeps report on: parameters chosen there "
                f"flatter themselves. Give another with --source split=NAME, or {FLAG}, which the preset records"
            )
        benchmark.require()
        found.append(benchmark)
    return found
