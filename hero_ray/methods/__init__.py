"""Pruning methods, one file each; the file name is the method name.

`names()` reads file names and entry points only, so a catalogue costs no torch import.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from hero_ray.core.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from hero_ray.methods.base import Method

_NOT_METHODS = {"base", "kit"}
ENTRY_POINT_GROUP = "hero_ray.methods"


def _method_name(module: str) -> str:
    """`prumerge_plus` -> `prumerge+`, `spatial_pool` -> `spatial-pool`, `random_` -> `random`."""
    return module.rstrip("_").replace("_plus", "+").replace("_", "-")


@cache
def _catalogue() -> dict[str, str]:
    own = {
        _method_name(info.name): f"{__name__}.{info.name}"
        for info in pkgutil.iter_modules(__path__)
        if info.name not in _NOT_METHODS
    }
    foreign: dict[str, str] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        # One package seen twice on the path says the same twice; two packages with one name do not.
        if point.name in own or foreign.setdefault(point.name, point.value) != point.value:
            raise ParameterError(
                f"entry point {point.name!r} ({point.value}) of group {ENTRY_POINT_GROUP!r} repeats the name of "
                "another method; rename it"
            )
    return own | foreign


def names() -> tuple[str, ...]:
    """Every registered method name, built in or from an entry point, sorted."""
    return tuple(sorted(_catalogue()))


def get(name: str) -> type[Method]:
    """The class behind a method name.

    Raises:
        UnknownNameError: nothing is registered under `name`.
    """
    catalogue = _catalogue()
    if name not in catalogue:
        raise UnknownNameError("method", name, catalogue)
    module, _, attribute = catalogue[name].partition(":")
    loaded = importlib.import_module(module)
    from hero_ray.methods.base import Method

    for value in [getattr(loaded, attribute)] if attribute else list(vars(loaded).values()):
        if isinstance(value, type) and issubclass(value, Method) and value.name == name:
            return value
    raise ParameterError(f"{catalogue[name]} holds no Method whose name is {name!r}; its file or entry point says so")


def create(name: str, **parameters: Any) -> Method:
    """A method with its parameters set.

    Raises:
        UnknownNameError: no such method.
        ParameterError: an unknown parameter, or a value out of range.
    """
    cls = get(name)
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = set(parameters) - known
    if unknown:
        raise ParameterError(f"{name} has no parameter {sorted(unknown)}; it has {sorted(known)}")
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()}
    return cls(**frozen)  # type: ignore[arg-type]
