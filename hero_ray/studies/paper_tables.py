"""Runs of the papers' sweep files as tables: a row per setting and budget, a column per benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hero_ray.methods import create
from hero_ray.studies.records import FigureTable

if TYPE_CHECKING:
    from hero_ray.store import PointRow, RunRow, Store


def setting(method: str, variant: str, params: Mapping[str, Any]) -> str:
    """A method with what differs from its defaults: `hero (paper): alpha 1`."""
    usual = create(method, variant=variant).parameters() if variant else create(method).parameters()
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in usual.items()}
    changed = [f"{k} {_short(v)}" for k, v in params.items() if k != "seed" and (k not in plain or v != plain[k])]
    name = method if variant in ("", "exact") else f"{method} ({variant})"
    return f"{name}: {', '.join(changed)}" if changed else name


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 1:
        return f"{value[0]}-{value[-1]}"
    return str(value[0]) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def table(run: RunRow, points: Sequence[PointRow]) -> FigureTable:
    """Main scores out of 100 with their 95 % interval; seeds of one setting are averaged, without an interval."""
    names = list(dict.fromkeys(point.benchmark for point in points))
    rows: dict[tuple[str, str, float], dict[str, list[PointRow]]] = {}
    for point in points:
        key = (point.model, setting(point.method, point.variant, point.params), point.retention_ratio)
        rows.setdefault(key, {}).setdefault(point.benchmark, []).append(point)
    made = []
    for (model, what, ratio), found in rows.items():
        tokens = [point.n_visual_llm for group in found.values() for point in group if point.n_visual_llm is not None]
        mean = f"{np.mean(tokens):.0f}" if tokens else ""
        made.append((model, what, f"{100 * ratio:g} %", mean, *(_cell(found.get(name, [])) for name in names)))
    title = f"{run.sweep_name}, run {run.id}, commit {run.git_commit or 'unknown'}, seed {run.config.get('seed', 0)}"
    limit = run.config.get("limit")
    if limit:
        title += f", first {limit} questions of each benchmark only"
    return FigureTable(title, ("model", "setting", "kept", "visual tokens", *names), tuple(made))


def _cell(points: Sequence[PointRow]) -> str:
    if not points:
        return ""
    value = float(np.mean([100 * point.value / point.scale for point in points]))
    if len(points) > 1:
        return f"{value:.1f} ({len(points)} seeds)"
    low, high = points[0].ci_low, points[0].ci_high
    if low is None or high is None:
        return f"{value:.1f}"
    return f"{value:.1f} [{100 * low / points[0].scale:.0f}, {100 * high / points[0].scale:.0f}]"


def every(store: Store, prefix: str = "") -> list[FigureTable]:
    """A table for the newest complete run of every sweep whose name begins with `prefix`, by name."""
    newest: dict[str, RunRow] = {}
    for run in store.runs():
        if run.status == "complete" and run.sweep_name.startswith(prefix):
            newest.setdefault(run.sweep_name, run)
    return [table(newest[name], store.points([newest[name].id])) for name in sorted(newest)]
