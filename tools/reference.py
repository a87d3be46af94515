"""docs/reference.md from the package itself: the Python names that others may import, with their docstrings.

python -m tools.reference > docs/reference.md
"""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

HEAD = """# Python

Written by `make docs` from the package itself. These names stay where they are whatever moves inside the package
([Releases](releases.md)); all others are ours to move. Nothing here starts Ray.
"""
NAMES = {
    "hero_ray": ("load_model",),
    "hero_ray.vlm": ("VisionLanguageModel", "open_picture"),
    "hero_ray.methods": ("create", "names"),
    "hero_ray.benchmarks": ("get",),
    "hero_ray.models": ("load",),
    "hero_ray.evaluate": ("Evaluator",),
    "hero_ray.profiling": ("ledger",),
    "hero_ray.stats": ("mean_interval", "paired", "non_inferiority"),
    "hero_ray.store": ("open_store",),
    "hero_ray.config": ("SweepConfig",),
}
"""Module and the names of it that others may import; `hero_ray.errors` is shown as a tree."""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for module, names in NAMES.items():
        found = importlib.import_module(module)
        for name in names:
            lines += entry(f"{module}.{name}", getattr(found, name))
    errors = importlib.import_module("hero_ray.errors")
    lines += ["## `hero_ray.errors`", "", "Every error made on purpose; a caller may catch any level of the tree.", ""]
    return "\n".join([*lines, *tree(errors.HeroRayError, 0)]) + "\n"


def entry(path: str, thing: Any) -> list[str]:
    """Heading, signature, docstring; of a class also its public methods."""
    if inspect.ismodule(thing):
        return [f"## `{path}`", "", *fenced(inspect.getdoc(thing) or "", "text")]
    lines = [f"## `{path}`", "", *fenced(signature(path.rpartition(".")[2], thing), "python"), *documented(thing)]
    for name, member in sorted(vars(thing).items()) if inspect.isclass(thing) else ():
        if not name.startswith("_") and inspect.isfunction(member) and member.__doc__:
            lines += [f"### `{path.rpartition('.')[2]}.{name}`", "", *fenced(signature(name, member), "python")]
            lines += documented(member)
    return lines


def documented(thing: Any) -> list[str]:
    """First sentence as text, the rest as it is written, so that its columns stay."""
    first, _, rest = (inspect.getdoc(thing) or "").partition("\n\n")
    return [" ".join(first.split()), "", *(fenced(rest, "text") if rest.strip() else [])]


def signature(name: str, thing: Any) -> str:
    """`name(argument: type = default)`, one argument a line where it is long."""
    shown = inspect.signature(thing)
    parts = [argument(one) for one in shown.parameters.values() if one.name != "self"]
    end = "" if shown.return_annotation is inspect.Signature.empty else f" -> {shown.return_annotation}"
    line = f"{name}({', '.join(parts)}){end}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){end}"


def argument(one: inspect.Parameter) -> str:
    """`name: type = default`; what pydantic checks beyond the type is left out."""
    kind = one.annotation.__origin__ if hasattr(one.annotation, "__metadata__") else one.annotation
    written = kind if isinstance(kind, str) else inspect.formatannotation(kind).replace("typing.", "")
    given = "" if one.default is inspect.Parameter.empty else f" = {one.default!r}"
    stars = "**" if one.kind is one.VAR_KEYWORD else "*" if one.kind is one.VAR_POSITIONAL else ""
    return f"{stars}{one.name}" + ("" if kind is inspect.Parameter.empty else f": {written}") + given


def fenced(text: str, language: str) -> list[str]:
    return [f"```{language}", text.rstrip(), "```", ""]


def tree(error: type[Exception], depth: int) -> list[str]:
    """An error, what it says of itself, and those below it."""
    said = " ".join((inspect.getdoc(error) or "").partition("\n\n")[0].split())
    lines = [f"{'    ' * depth}- `{error.__name__}`: {said}"]
    for below in sorted(error.__subclasses__(), key=lambda one: one.__name__):
        if below.__module__ == error.__module__:  # one that stands elsewhere is that room's own
            lines += tree(below, depth + 1)
    return lines


if __name__ == "__main__":
    sys.stdout.write(page())
