"""What is different between two nights, beside the results: commit, packages, hardware, weights, data, code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hero_ray.core import plugins
from hero_ray.core.plan import spec_changes
from hero_ray.nightly.records import Night

PANEL_KEYS = (
    "models",
    "model_args",
    "methods",
    "budgets",
    "tasks",
    "limit",
    "seed",
    "random_seeds",
    "straw_men",
    "include",
    "exclude",
    "baseline",
    "max_new_tokens",
    "budget_base",
    "newline_policy",
)
"""Sweep keys that decide which cells a panel has and what is asked in them."""

NO_CAUSES = ("invariance", "resumed")
"""Entries of a run's environment that are learned under way: a measurement, and what a resumed part ran on."""


def panel_changed(before: Night, after: Night) -> bool:
    """Whether the two nights were asked for different cells."""
    return any(before.config.get(key) != after.config.get(key) for key in PANEL_KEYS)


def what_changed(before: Night, after: Night) -> tuple[tuple[str, str, str], ...]:
    """(what, before, after) for everything recorded that differs between two nights, commit first."""
    found = []
    if before.git_commit != after.git_commit:
        found.append(("commit", str(before.git_commit), str(after.git_commit)))
    found += _environment(before.environment, after.environment)
    seen: dict[str, tuple[str, str, str]] = {}
    for label in sorted(before.cells.keys() & after.cells.keys()):
        for change in spec_changes(before.cells[label].spec, after.cells[label].spec):
            seen.setdefault(change[0], change)
    found += seen.values()
    for key in PANEL_KEYS:
        if before.config.get(key) != after.config.get(key):
            found.append((f"panel: {key}", str(before.config.get(key)), str(after.config.get(key))))
    return tuple(found)


def _environment(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    old, new = dict(before.get("packages") or {}), dict(after.get("packages") or {})
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name, str(old.get(name, "absent")), str(new.get(name, "absent"))
    was, now = (dict(side.get(plugins.RECORD) or {}) for side in (before, after))
    for name in sorted(was.keys() & now.keys()):  # their code is in the cells, and which there are in the panel
        if was[name]["package"] != now[name]["package"]:
            yield f"package of {name}", was[name]["package"], now[name]["package"]
    for name in sorted((before.keys() | after.keys()) - {"packages", plugins.RECORD, *NO_CAUSES}):
        if before.get(name) != after.get(name):
            yield name, str(before.get(name)), str(after.get(name))
