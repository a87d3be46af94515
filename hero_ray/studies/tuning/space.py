"""What may vary in a search: `alpha=0..1,temperature_cls=0.1..10:log,cls_source=post_ln|projected`.

Bounds and choices are tried on the method itself before anything runs, so that a trial cannot fail for a typing error.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hero_ray.core.budgets import parse_budget
from hero_ray.core.config import MethodEntry
from hero_ray.core.encoded import Needs, VisionInfo
from hero_ray.core.errors import ConfigError, ParameterError
from hero_ray.methods import create
from hero_ray.methods.base import Method, field_types

BUDGET = "budget"
_NUMBER = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(:log)?", re.IGNORECASE)
_BETWEEN = re.compile(r",(?=\s*\w+\s*=)")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `log` draws them by magnitude."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @property
    def samples(self) -> tuple[Any, ...]:
        """Every integer, or the ends and the middle."""
        if self.integer:
            return tuple(range(int(self.low), int(self.high) + 1))
        return (self.low, (self.low + self.high) / 2, self.high)

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """A few values."""

    values: tuple[Any, ...]

    @property
    def samples(self) -> tuple[Any, ...]:
        return self.values

    def __str__(self) -> str:
        return "|".join(map(str, self.values))


Dimension = Range | Choice


@dataclass(frozen=True)
class Space:
    """A method with what is fixed of it, what may vary, and its budget or budgets.

    Attributes:
        entry: the method and its fixed parameters.
        dimensions: parameter -> what it may be; the budget, where it varies, under `budget`.
        ratio: the retention ratio where it is fixed.
    """

    entry: MethodEntry
    dimensions: Mapping[str, Dimension]
    ratio: float | None

    def trial(self, values: Mapping[str, Any]) -> tuple[MethodEntry, float]:
        """The method and the ratio of one point of the space."""
        params = {name: value for name, value in values.items() if name != BUDGET}
        ratio = float(values[BUDGET]) if self.ratio is None else self.ratio
        return self.entry.model_copy(update={"params": {**self.entry.params, **params}}), ratio

    def default(self) -> dict[str, Any] | None:
        """The method's own defaults as a point of the space; None where one of them lies outside."""
        usual, point = method_of(self.entry), {}
        for name, dimension in self.dimensions.items():
            if name == BUDGET:
                point[name] = dimension.samples[len(dimension.samples) // 2]
                continue
            value = getattr(usual, name)
            inside = (
                isinstance(value, int | float) and dimension.low <= value <= dimension.high
                if isinstance(dimension, Range)
                else value in dimension.values
            )
            if not inside:
                return None
            point[name] = value
        return point

    def decoded(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A point as Tune holds it (choices as JSON text, since Optuna keeps plain values) in the method's own."""
        values: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            if isinstance(dimension, Choice):
                values[name] = _frozen(json.loads(config[name]))
            else:
                values[name] = int(config[name]) if dimension.integer else float(f"{config[name]:.6g}")
        return values

    def encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `decoded`."""
        choices = {name for name, dimension in self.dimensions.items() if isinstance(dimension, Choice)}
        return {name: json.dumps(values[name]) if name in choices else values[name] for name in self.dimensions}

    def needs(self, vision: VisionInfo) -> Needs:
        """All that any trial can read, so that one encoding serves them all."""
        needs = method_of(self.entry).needs(vision)
        for entry in _corners(self.entry, self.dimensions):
            needs = needs | method_of(entry).needs(vision)
        return needs


def parse_space(text: str, entry: MethodEntry, budget: str) -> Space:
    """Read `--space` and `--budget` and try them on the method.

    Raises:
        ConfigError: not in one of the known forms, or nothing varies.
        ParameterError: a parameter that the method does not have, or a bound or choice that it refuses.
        BudgetError: a budget outside (0, 1].
    """
    types = field_types(type(method_of(entry)))
    dimensions: dict[str, Dimension] = {}
    for part in filter(None, (part.strip() for part in _BETWEEN.split(text))):
        name, equals, raw = (piece.strip() for piece in part.partition("="))
        if not equals or not raw:
            raise ConfigError(
                f"--space {part!r} is not PARAMETER=RANGE; write alpha=0..1, or cls_source=post_ln|projected"
            )
        if name not in types or name == "variant":
            raise ParameterError(
                f"{entry.name} has no parameter {name!r} to search; it has {sorted(set(types) - {'variant'})}"
            )
        if name in entry.params or name in dimensions:
            raise ConfigError(f"--space names {name!r}, which is fixed or named already; give it once")
        dimensions[name] = _dimension(name, raw, types[name])
    spread = _budget(budget)
    if isinstance(spread, Range | Choice):
        dimensions[BUDGET] = spread
    if not dimensions:
        raise ConfigError("nothing varies: give --space PARAMETER=LOW..HIGH,... or a --budget of several")
    for corner in _corners(entry, dimensions):
        method_of(corner)
    return Space(entry, dimensions, None if isinstance(spread, Range | Choice) else spread)


def method_of(entry: MethodEntry) -> Method:
    """The method of an entry, its lists as tuples."""
    return create(entry.name, **entry.params, **({"variant": entry.variant} if entry.variant else {}))


def _corners(entry: MethodEntry, dimensions: Mapping[str, Dimension]) -> Iterator[MethodEntry]:
    """One parameter at a time at each of its extremes and choices."""
    for name, dimension in dimensions.items():
        for value in dimension.samples if name != BUDGET else ():
            yield entry.model_copy(update={"params": {**entry.params, name: value}})


def _dimension(name: str, raw: str, expected: Any) -> Dimension:
    match = _RANGE.fullmatch(raw)
    if match is None:
        values = tuple(_frozen(yaml.safe_load(value)) for value in raw.split("|"))
        if len(values) < 2:
            raise ConfigError(f"--space {name}={raw}: one value leaves nothing to search; write LOW..HIGH or A|B")
        return Choice(values)
    if not {int, float} & _kinds(expected):
        raise ParameterError(f"--space {name}={raw}: {name} is no number; list its choices as A|B")
    return _range(name, match, integer=float not in _kinds(expected))


def _range(name: str, match: re.Match[str], integer: bool) -> Range:
    text = match[0]
    low, high = float(match[1]), float(match[2])
    if not low < high:
        raise ParameterError(f"--space {name}={text}: the range is empty; write the smaller bound first")
    if match[3] and low <= 0.0:
        raise ParameterError(f"--space {name}={text}: a logarithmic range must begin above 0")
    if integer and not (low.is_integer() and high.is_integer()):
        raise ParameterError(f"--space {name}={text}: {name} takes whole numbers")
    return Range(low, high, bool(match[3]), integer)


def _kinds(expected: Any) -> set[Any]:
    arguments = typing.get_args(expected)
    if typing.get_origin(expected) in (typing.Literal, tuple):
        return set()
    return set().union(*map(_kinds, arguments)) if arguments else {expected}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _budget(text: str) -> float | Dimension:
    if match := _RANGE.fullmatch(text.strip()):
        found = _range(BUDGET, match, integer=False)
        for end in (found.low, found.high):
            parse_budget(end)
        return found
    ratios = []
    for part in text.split("|"):
        ratio = parse_budget(part).ratio
        if ratio is None:
            raise ConfigError(f"--budget {part!r}: a search needs a share such as 0.2 or 20%, not a token count")
        ratios.append(ratio)
    return ratios[0] if len(ratios) == 1 else Choice(tuple(ratios))
