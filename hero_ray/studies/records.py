"""What a study is given and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from hero_ray.models.base import Adapter
from hero_ray.stats import Interval

LAYER_DEPTH = 24
"""Depth of the towers the papers study; layers named for it are mapped to shallower towers."""


@dataclass(frozen=True)
class StudyRequest:
    """One study on one model.

    Attributes:
        adapter: the loaded model.
        tasks: benchmarks that pictures and questions come from, the study's own default if empty.
        limit: pictures looked at.
        sources: options of every benchmark, such as `data=FOLDER` or `split=validation`.
        methods: for studies that compare methods.
        ratio: retention ratio, for studies that prune.
    """

    adapter: Adapter
    tasks: tuple[str, ...] = ()
    limit: int = 20
    sources: Mapping[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    ratio: float = 0.2


@dataclass(frozen=True)
class FigureTable:
    """Figures of a study as rows of plain values."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        name: as in `hero-ray study NAME`.
        title, note: for people; the note says what the figures do not show.
        charts: `lines`, `heat` or `dots` records, the form the dashboard draws.
        tables: the same figures, and those without a chart.
        pictures: file stem -> picture.
        findings: named figures, for tests and scripts.
    """

    name: str
    title: str
    note: str
    charts: tuple[Mapping[str, Any], ...] = ()
    tables: tuple[FigureTable, ...] = ()
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)
    findings: Mapping[str, Any] = field(default_factory=dict)


def lines(title: str, series: Sequence[Mapping[str, Any]], x_title: str, y_title: str) -> dict[str, Any]:
    """A chart of named curves; a curve may carry `low` and `high` beside `y`."""
    return {"kind": "lines", "title": title, "series": list(series), "x_title": x_title, "y_title": y_title}


def heat(title: str, x: Sequence[Any], y: Sequence[Any], z: Sequence[Sequence[float]], unit: str) -> dict[str, Any]:
    """A matrix chart."""
    return {"kind": "heat", "title": title, "x": list(x), "y": list(y), "z": [list(row) for row in z], "unit": unit}


def dots(title: str, names: Sequence[str], series: Sequence[Mapping[str, Any]], x_title: str) -> dict[str, Any]:
    """A row per name, and in each a dot per series with its interval: `x`, `low` and `high`, None for no bound."""
    return {"kind": "dots", "title": title, "names": list(names), "series": list(series), "x_title": x_title}


def curve(name: str, x: Sequence[Any], intervals: Sequence[Interval]) -> dict[str, Any]:
    """A named curve, with intervals where every point has one."""
    made: dict[str, Any] = {"name": name, "x": list(x), "y": [item.value for item in intervals]}
    if all(item.low is not None and item.high is not None for item in intervals):
        made |= {"low": [item.low for item in intervals], "high": [item.high for item in intervals]}
    return made


def figures(interval: Interval) -> tuple[float | None, ...]:
    """Value and bounds, rounded for a table."""
    return tuple(None if v is None else round(v, 4) for v in (interval.value, interval.low, interval.high))
