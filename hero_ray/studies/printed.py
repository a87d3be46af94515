"""Values that a paper's table prints, as cells to look for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hero_ray.results import published
from hero_ray.studies import verify_rules as rules

TableName = tuple[str, str]


@dataclass(frozen=True)
class PrintedValue:
    """One printed value and the cell that would measure it. `params` are those that differ from the default."""

    model: str
    method: str
    params: Mapping[str, Any]
    budget: float | None
    benchmark: str
    category: str
    value: float
    digits: str
    paper: str
    setting: str
    doubt: str = ""


def printed_values(table: TableName) -> list[PrintedValue]:
    """What a table prints of scores, as cells to look for."""
    results = [_result(row) for row in published.results() if (row["paper"], row["table"]) == table]
    ablations = [_ablation(row) for row in published.ablations() if (row["paper"], row["table"]) == table]
    return [printed for printed in (*results, *ablations) if printed is not None]


def _result(row: Mapping[str, Any]) -> PrintedValue | None:
    name = published.BENCHMARKS.get(row["benchmark"])
    if name is None or row["metric"] not in ("score_0_100", "mme_points"):
        return None
    return PrintedValue(
        model=row["model"],
        method=rules.METHODS.get(row["method"], row["method"]),
        params={},
        budget=row["budget"],
        benchmark=name,
        category="",
        value=row["value"],
        digits=row["printed"],
        paper=row["paper"],
        setting=row["method"],
    )


def _ablation(row: Mapping[str, Any]) -> PrintedValue | None:
    setting, name = rules.ablation_setting(row), published.BENCHMARKS.get(row["benchmark"])
    if setting is None or name is None or row["value"] is None:
        return None
    method, params, ratio = setting
    return PrintedValue(
        model=rules.ABLATION_MODEL[row["paper"]],
        method=method,
        params=params,
        budget=ratio,
        benchmark=name,
        category="" if row["category"] in rules.WHOLE else row["category"],
        value=row["value"],
        digits=row["printed"],
        paper=row["paper"],
        setting=f"{row['parameter']} {row['parameter_value']}",
        doubt="" if row["plot"] else "contradicts another table of the paper",
    )
