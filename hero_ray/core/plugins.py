"""Entry points of other packages: one loader for every group, so that one broken plug-in breaks nothing else.

A plug-in that raises while it is imported, that is not what its group holds, or whose names belong to somebody else is
left out with one warning line. That line names its distribution, its entry point and what is wrong; so does the error
for whoever asks for it by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hero_ray.core.errors import HeroRayError, PluginError

log = logging.getLogger(__name__)

Accept = Callable[[str, Any], tuple[Any, tuple[str, ...]]]
"""Takes an entry point's name and what it loads; gives what the catalogue keeps and the names that this answers to.
Raises PluginError where it is not what the group holds; whatever else it raises is the plug-in's fault too."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of another package.

    Attributes:
        group, name, value: as its distribution declares them.
        distribution: name and version.
        loaded: what the catalogue keeps; None where `error` says why there is nothing.
        answers_to: names taken, in the group's own spelling.
    """

    group: str
    name: str
    value: str
    distribution: str
    loaded: Any = field(default=None, repr=False)
    answers_to: tuple[str, ...] = ()
    error: str = ""

    @property
    def fault(self) -> str:
        """One line: who, which entry point, what is wrong."""
        return f"{self.distribution}, entry point {self.name!r} ({self.value}) of {self.group}: {self.error}"


@cache
def load(group: str, accept: Accept) -> tuple[Plugin, ...]:
    """Every plug-in of a group, imported once per process; each one that is left out is warned of then."""
    # By name, not in the order of the path; what two metadata folders say alike (a renamed package's) counts once.
    points = {(point.name, point.value): point for point in entry_points(group=group)}
    tried = [_open(points[key], accept) for key in sorted(points)]
    owners: dict[str, list[Plugin]] = {}
    for plugin in tried:
        for name in plugin.answers_to:
            owners.setdefault(name, []).append(plugin)
    settled = tuple(_alone(plugin, owners) for plugin in tried)
    for plugin in settled:
        if plugin.error:
            log.warning("plug-in left out: %s", plugin.fault)
    return settled


def refuse(name: str, plugins: Iterable[Plugin]) -> None:
    """Say why a name is missing, if a plug-in that was left out has it.

    Raises:
        PluginError: one has.
    """
    for plugin in plugins:
        if plugin.error and plugin.name == name:
            raise PluginError(
                f"{name!r} cannot be used: {plugin.fault}. Mend, update or uninstall that package; "
                "`hero-ray doctor` lists all plug-ins"
            )


def _open(point: EntryPoint, accept: Accept) -> Plugin:
    owner = point.dist
    called = f"{owner.metadata['Name']} {owner.metadata['Version']}" if owner else "a package without a name"
    plugin = Plugin(point.group, point.name, point.value, called)
    try:
        loaded, answers_to = accept(point.name, point.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may do anything, `sys.exit()` too
        return replace(plugin, error=_in_words(error))
    return replace(plugin, loaded=loaded, answers_to=answers_to)


def _in_words(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, HeroRayError) else f"{type(error).__name__}: {lines[0][:300]}".rstrip(": ")


def _alone(plugin: Plugin, owners: dict[str, list[Plugin]]) -> Plugin:
    """Of two packages with one name neither is taken: which one would be chance."""
    for name in plugin.answers_to:
        if others := [other for other in owners[name] if other is not plugin]:
            error = f"{name!r} is also added by {others[0].distribution} ({others[0].value}); uninstall one"
            return replace(plugin, loaded=None, answers_to=(), error=error)
    return plugin
