"""Pruning methods, one file each; the file name is the method name.

`names()` reads file names only, so a catalogue costs no torch import unless other packages add methods.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

from hero_ray.core import plugins
from hero_ray.core.errors import ParameterError, PluginError, UnknownNameError
from hero_ray.core.text import brief

if TYPE_CHECKING:
    from hero_ray.core.plugins import Plugin
    from hero_ray.methods.base import Method

_NOT_METHODS = {"base", "kit"}
ENTRY_POINT_GROUP = "hero_ray.methods"


def _method_name(module: str) -> str:
    """`prumerge_plus` -> `prumerge+`, `spatial_pool` -> `spatial-pool`, `random_` -> `random`."""
    return module.rstrip("_").replace("_plus", "+").replace("_", "-")


@cache
def _own() -> dict[str, str]:
    """Name -> module of the methods of this package."""
    return {
        _method_name(info.name): f"{__name__}.{info.name}"
        for info in pkgutil.iter_modules(__path__)
        if info.name not in _NOT_METHODS
    }


def foreign() -> tuple[Plugin, ...]:
    """Methods of other packages; those that cannot be used are among them and say why."""
    return plugins.load(ENTRY_POINT_GROUP, _accept)


def _accept(name: str, loaded: Any) -> tuple[type[Method], tuple[str, ...]]:
    if name in _own():
        raise PluginError(f"{name!r} is the name of a built-in method; rename it")
    method = _class_in(vars(loaded).values() if isinstance(loaded, ModuleType) else [loaded], name)
    if method is None:
        raise PluginError(f"it holds no Method whose name is {name!r}")
    _try(method)
    return method, (name,)


def _try(cls: type[Method]) -> None:
    """Ask what catalogues and planners ask of every method, so that none of them stumbles over this one."""
    from hero_ray.core.encoded import VisionInfo
    from hero_ray.methods.base import Stage

    if cls.stage not in get_args(Stage):
        raise PluginError(f"its stage is {cls.stage!r}, not one of {', '.join(get_args(Stage))}")
    method = cls()
    method.parameters()
    method.needs(VisionInfo(num_layers=24, feature_layer=23))


def _class_in(values: Iterable[Any], name: str) -> type[Method] | None:
    from hero_ray.methods.base import Method

    return next((v for v in values if isinstance(v, type) and issubclass(v, Method) and v.name == name), None)


def names() -> tuple[str, ...]:
    """Every method name that can be used, built in or from an entry point, sorted."""
    return tuple(sorted([*_own(), *(plugin.name for plugin in foreign() if not plugin.error)]))


def get(name: str) -> type[Method]:
    """The class behind a method name.

    Raises:
        UnknownNameError: nothing is registered under `name`.
        PluginError: another package's method that cannot be used.
    """
    if name in _own():
        method = _class_in(vars(importlib.import_module(_own()[name])).values(), name)
        if method is None:
            raise ParameterError(f"{_own()[name]} holds no Method whose name is {name!r}; its file says so")
        return method
    for plugin in foreign():
        if plugin.name == name and not plugin.error:
            return plugin.loaded  # type: ignore[no-any-return]
    plugins.refuse(name, foreign())
    raise UnknownNameError("method", name, names())


def code_of(method: Method) -> int | str:
    """Code of a method as it enters a cell's id: its version, and of another package's `+` and a hash of its source."""
    plugin = next((one for one in foreign() if one.name == method.name and not one.error), None)
    return f"{method.version}+{plugin.code}" if plugin else method.version


def create(name: str, /, **parameters: Any) -> Method:
    """A method with its parameters set.

    Raises:
        UnknownNameError: no such method. PluginError: another package's that cannot be used.
        ParameterError: an unknown parameter, or a value out of range.
    """
    cls = get(name)
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = set(parameters) - known
    if unknown:
        raise ParameterError(f"{name} has no parameter {brief(sorted(unknown))}; it has {sorted(known)}")
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()}
    return cls(**frozen)  # type: ignore[arg-type]
