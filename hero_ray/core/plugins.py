"""Entry points of other packages: one loader for every group, so that one broken plug-in breaks nothing else.

A plug-in that raises while it is imported, that is not what its group holds, or whose names belong to somebody else is
left out with one warning line. That line names its distribution, its entry point and what is wrong; so does the error
for whoever asks for it by name.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from hero_ray.core.errors import HeroRayError, PluginError

log = logging.getLogger(__name__)

RECORD = "plugins"
"""Entry of a run's environment: what of other packages it used, see `pipeline.provenance.plugins_of`."""

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
        code: hash of the source it was loaded from, see `code_of`; part of the ids of its cells.
    """

    group: str
    name: str
    value: str
    distribution: str
    loaded: Any = field(default=None, repr=False)
    answers_to: tuple[str, ...] = ()
    error: str = ""
    code: str = ""

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


def code_of(cls: type, module: str) -> str:
    """Hash of the Python source that another package's class comes from, ten hex digits.

    Covered: the module that the entry point names and those of the class and its bases, except hero_ray's and Python's
    own; of a module inside a package every `.py` file of that package, wherever it is installed. Not covered: other
    packages, compiled parts, and data that the code reads.

    Raises:
        PluginError: a module that lies in no file.
    """
    modules = {module, *(base.__module__ for base in cls.__mro__)}
    ours = {"hero_ray", *sys.stdlib_module_names}
    files: dict[str, Path] = {}
    for name in sorted(one for one in modules if one.partition(".")[0] not in ours):
        files |= _files(name)
    digest = hashlib.sha256()
    for called in sorted(files):
        content = files[called].read_bytes()
        digest.update(f"{called}:{len(content)}:".encode() + content)
    return digest.hexdigest()[:10]


def _files(module: str) -> dict[str, Path]:
    """The files of a module's outermost package, by their path in it; of one that is in no package its own."""
    parts = module.split(".")
    for name in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
        found = sys.modules.get(name)
        # A folder without `__init__.py` is a namespace: what else lies in it may be anybody's.
        if found is not None and hasattr(found, "__path__") and found.__file__:
            root = Path(found.__file__).parent
            if files := {f"{name}/{path.relative_to(root).as_posix()}": path for path in root.rglob("*.py")}:
                return files
    path = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    archive = next((place for place in (path, *path.parents) if place.is_file()), None)  # a module may lie in a zip
    if archive is None:
        raise PluginError(f"module {module} lies in no file, so that nobody could tell when its code changes")
    return {module: archive}


def _open(point: EntryPoint, accept: Accept) -> Plugin:
    owner = point.dist
    called = f"{owner.metadata['Name']} {owner.metadata['Version']}" if owner else "a package without a name"
    plugin = Plugin(point.group, point.name, point.value, called)
    try:
        loaded, answers_to = accept(point.name, point.load())
        code = code_of(loaded, point.module)  # now, not when it is asked for: an editor may be at the file
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may do anything, `sys.exit()` too
        return replace(plugin, error=_in_words(error))
    return replace(plugin, loaded=loaded, answers_to=answers_to, code=code)


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
