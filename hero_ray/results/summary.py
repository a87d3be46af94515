"""The final table in lmms-eval's markdown form with cost columns, and the last line for scripts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from hero_ray.core.plan import FULL
from hero_ray.store import Store
from hero_ray.store.records import PointRow

EMBEDDED_NOTE = "Figures on embedded models show the tool at work; they are no evidence about methods on real models."


def table(points: Sequence[PointRow], benchmarks: Sequence[str]) -> str:
    """One row per model, method setting and budget; scores x100 with the half width of their 95 % interval.

    Seeds of one method are averaged in the row (their intervals too). Costs are means over samples; speed comes from
    the profile pass.
    """
    rows: dict[tuple[str, str, str], list[PointRow]] = defaultdict(list)
    varied = _varied(points)
    for point in points:
        rows[point.model, _method_label(point, varied), _budget_label(point)].append(point)
    head = ["Model", "Method", "Budget", *benchmarks, "Visual tokens", "GFLOPs", "KV KiB", "TTFT ms", "Decode tok/s"]
    lines = [_line(head), _line([":--"] * 3 + ["--:"] * (len(head) - 3))]
    for (model, method, budget), group in rows.items():
        scores = [_score([p for p in group if p.benchmark == name]) for name in benchmarks]
        lines.append(_line([model, method, budget, *scores, *_costs(group)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _varied(points: Sequence[PointRow]) -> dict[str, set[str]]:
    """Method -> parameters (never the seed) that its points differ in: what a label must say."""
    seen: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for point in points:
        if point.params not in seen[point.method]:
            seen[point.method].append(point.params)
    return {
        method: {
            key
            for key in set().union(*settings) - {"seed"}
            if any(setting.get(key) != settings[0].get(key) for setting in settings)
        }
        for method, settings in seen.items()
    }


def _method_label(point: PointRow, varied: Mapping[str, set[str]]) -> str:
    name = point.method if point.variant == "exact" else f"{point.method} ({point.variant})"
    told = [f"{key}={_short(point.params[key])}" for key in sorted(varied[point.method] & point.params.keys())]
    return f"{name} {', '.join(told)}" if told else name


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_short, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _budget_label(point: PointRow) -> str:
    return f"{point.tokens}tok" if point.tokens else f"{100 * point.retention_ratio:g}%"


def _score(group: Sequence[PointRow]) -> str:
    if not group:
        return "-"
    scale = 100.0 / group[0].scale
    value = scale * mean(p.value for p in group)
    halves = [(p.ci_high - p.ci_low) / 2 for p in group if p.ci_low is not None and p.ci_high is not None]
    spread = f" ± {scale * mean(halves):.1f}" if halves else ""
    mark = "†" if any(p.stop_reason for p in group) else ""
    return f"{value:.1f}{spread}{mark}"


def _costs(group: Sequence[PointRow]) -> list[str]:
    def average(values: Sequence[float | None]) -> float | None:
        present = [value for value in values if value is not None]
        return mean(present) if present else None

    def shown(value: float | None, divisor: float = 1.0, form: str = ".1f") -> str:
        return "-" if value is None else format(value / divisor, form)

    def profiled(name: str) -> float | None:
        return average([p.profile.get(name) for p in group])

    return [
        shown(average([p.n_visual_llm for p in group])),
        shown(average([p.flops for p in group]), 1e9, ".3f"),
        shown(average([p.kv_bytes for p in group]), 1024),
        shown(profiled("ttft_ms_p50"), form=".2f"),
        shown(profiled("decode_tokens_per_s"), form=".0f"),
    ]


def notes(points: Sequence[PointRow], failures: Mapping[str, int]) -> list[str]:
    """What a reader of the table must know."""
    lines = []
    if points:
        least = min(point.n for point in points)
        lines.append(f"± is half a 95% interval clustered by picture; n >= {least} questions per figure.")
    if any(point.model.startswith("hero-tiny") for point in points):
        lines.append(EMBEDDED_NOTE)
    stopped = [point for point in points if point.stop_reason]
    if stopped:
        most = max(point.n for point in points)
        saved = sum(most - point.n for point in stopped)
        lines.append(f"† {len(stopped)} cells were decided early by racing; about {saved} answers were saved.")
    beaten = straw_man_flags(points)
    if beaten:
        lines.append("Not above the best straw man on average: " + ", ".join(beaten) + ".")
    for kind, count in failures.items():
        lines.append(f"{count} sample(s) failed with {kind}; see `hero-ray status --failures`.")
    return lines


def straw_man_flags(points: Sequence[PointRow]) -> list[str]:
    """Methods whose mean over benchmarks does not exceed the best straw man's at the same budget."""
    straw, varied = {"random", "spatial", "spatial-pool", "downsample"}, _varied(points)
    by_key: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        by_key[point.model, _budget_label(point)][_method_label(point, varied)].append(point.value / point.scale)
    flags = []
    for (model, budget), methods in by_key.items():
        best = max((mean(v) for name, v in methods.items() if name.split()[0] in straw), default=None)
        for name, values in methods.items():
            if best is not None and name.split()[0] not in straw and name != FULL and mean(values) <= best:
                flags.append(f"{name} at {budget} ({model})")
    return flags


def last_line(store: Store, run_id: str, status: str, cells: int, seconds: float, **more: Any) -> str:
    """The JSON object that ends a sweep's output."""
    answered, failures = store.totals(run_id)
    record = {
        "run_id": run_id,
        "status": status,
        "cells": cells,
        "samples": answered,
        "failed": failures,
        "db": store.shown_url,
        "seconds": round(seconds, 2),
        **more,
    }
    return json.dumps(record)
