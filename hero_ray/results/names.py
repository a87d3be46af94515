"""What a budget, a method with its parameters and a cell are called: one name for all surfaces.

A name has a key that can be typed (`hero:alpha=0.5,variant=paper@20%`, the contender form) and, for tables and charts,
a series (`hero (paper, alpha=0.5)`) and a budget (`20%`). Both tell as much as tells a method from its siblings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hero_ray.core.budgets import label_of
from hero_ray.core.plan import FULL as FULL
from hero_ray.core.types import Cell
from hero_ray.store import CellRow, PointRow
from hero_ray.store.figures import TrendRow

EMBEDDED_NOTE = "Figures on embedded models show the tool at work; they are no evidence about methods on real models."


OWN = "own"
"""The budget of a method whose count is its own; its true tokens stand beside it."""

Setting = CellRow | PointRow | TrendRow | Cell
"""What has a name; all of these hold `model method variant params retention_ratio tokens seed`."""


@dataclass(frozen=True)
class Name:
    """The name of one setting; several seeds share it.

    Attributes:
        key: as users type it; unique among the settings of one model.
        series: the method as legends and tables show it.
        budget: what was asked for, `20%` or `576tok`.
    """

    key: str
    series: str
    budget: str

    def __str__(self) -> str:
        return f"{self.series} at {self.budget}" if self.budget != OWN else f"{self.series} at its own count"


def is_embedded(model: str) -> bool:
    """Whether a model ships with the package, so that `EMBEDDED_NOTE` is due."""
    return model.startswith("hero-tiny")


def cautions(model: str) -> list[str]:
    """What stands below every verdict about this model."""
    return [EMBEDDED_NOTE] if is_embedded(model) else []


def budget_of(cell: Setting) -> str:
    """What a cell was asked to keep, or that its method decides."""
    if cell.own_count:
        return OWN
    return label_of(None if cell.tokens else cell.retention_ratio, cell.tokens)


def settings(cell: Setting) -> str:
    """Everything that makes a line of its own in tables and charts: budget and seed left out."""
    return json.dumps([cell.model, cell.method, cell.variant, _params(cell)], sort_keys=True)


def name_all(cells: Iterable[Setting]) -> list[Name]:
    """A name for each cell, in their order; parameters appear where cells of one model and method differ in them."""
    cells = list(cells)
    siblings: dict[tuple[str, str], dict[str, Setting]] = {}
    for cell in cells:
        siblings.setdefault((cell.model, cell.method), {}).setdefault(settings(cell), cell)
    told = {key: _told(cell, list(group.values())) for group in siblings.values() for key, cell in group.items()}
    return [_name(cell, told[settings(cell)]) for cell in cells]


def seeds_told(cells: Sequence[Setting], names: Sequence[Name]) -> list[str]:
    """` seed 1` behind the names whose setting ran with several seeds, "" behind the others."""
    seeded = {name.key for cell, name in zip(cells, names, strict=True) if cell.seed}
    return [f" seed {cell.seed}" if name.key in seeded else "" for cell, name in zip(cells, names, strict=True)]


def _params(cell: Setting) -> dict[str, Any]:
    return {key: value for key, value in cell.params.items() if key != "seed"}


def _told(cell: Setting, siblings: Sequence[Setting]) -> dict[str, Any]:
    """Parameters that tell a setting from its siblings, the variant among them unless it is the usual and only one."""
    held = [_params(other) for other in siblings]
    several = len({other.variant for other in siblings}) > 1
    differing = {key for key in set().union(*held) if any(other.get(key) != held[0].get(key) for other in held)}
    told = {key: value for key, value in _params(cell).items() if key in differing}
    return told | ({"variant": cell.variant} if several or cell.variant != "exact" else {})


def _name(cell: Setting, told: Mapping[str, Any]) -> Name:
    budget = budget_of(cell)
    typed = ",".join(f"{param}={told[param]}" for param in sorted(told))
    key = f"{cell.method}:{typed}" if typed else cell.method
    words = [] if cell.variant == "exact" else [cell.variant]
    words += [f"{param}={_short(told[param])}" for param in sorted(told.keys() - {"variant"})]
    series = f"{cell.method} ({', '.join(words)})" if words else cell.method
    return Name(key if cell.method == FULL or cell.own_count else f"{key}@{budget}", series, budget)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_short, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
