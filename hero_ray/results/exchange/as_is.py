"""Figures of imported answers as the tool that made them says: its results file, else the mean of its own scores."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray import stats
from hero_ray.core.errors import DatasetError
from hero_ray.results.exchange import raw
from hero_ray.results.exchange.kit import SCORES as TABLE_SCORES
from hero_ray.results.exchange.records import ImportedTask
from hero_ray.stats.frontier import Z95
from hero_ray.store import MetricRow

_NO_MEAN = re.compile(r"f1|precision|recall|yes_ratio|perce(p)?tion|cognition|gpt_eval|submission", re.IGNORECASE)
"""Metrics of lmms-eval whose figure is not the mean of what its samples hold (pairs of MME, F1 of POPE, judges)."""
_SCALES = {"mme_perception_score": 2000.0, "mme_percetion_score": 2000.0, "mme_cognition_score": 800.0}
MEAN_NOTE = "mean of the samples' own scores, the tool's figure may be another"


def metric_rows(imported: ImportedTask) -> list[MetricRow]:
    """One row per metric that the file's samples or the results file beside it know.

    Raises:
        DatasetError: there is not one.
    """
    scored: dict[str, list[tuple[float, str]]] = {}
    records: set[str] = set()
    for place, answer in enumerate(imported.answers):
        for name, value in answer.scores.items():
            number = score_of(value)
            if isinstance(value, Mapping):
                records.add(name)
            if number is not None:
                scored.setdefault(name, []).append((number, answer.picture or answer.key or str(place)))
    names = dict.fromkeys([*scored, *imported.metrics])
    rows = [_row(imported, name, scored.get(name, ()), name in records) for name in names]
    found = [row for row in rows if row is not None]
    if not found:
        held = ", ".join(sorted(records - {"options"}))
        of_what = f" that make a figure (it holds records of {held})" if held else ""
        raise DatasetError(f"no scores in the file{of_what}; leave out --as-is to have the answers scored by our rules")
    return found


def score_of(value: Any) -> float | None:
    """A sample's score: a number, a record's own "score", or whether its "pred" is its "answer"; None for neither."""
    if isinstance(value, Mapping):
        told = value.get("score")
        if told is None and isinstance(value.get("pred"), str) and isinstance(value.get("answer"), str):
            return float(value["pred"].strip().lower() == value["answer"].strip().lower())
        value = told
    return raw.number(value)


def _row(imported: ImportedTask, name: str, scored: Sequence[tuple[float, str]], record: bool) -> MetricRow | None:
    interval = stats.mean_interval([value for value, _ in scored], [key for _, key in scored]) if scored else None
    figure = imported.metrics.get(name)
    if figure is None:
        if interval is None or (record and _NO_MEAN.search(name)):
            return None
        figure = interval.value
    n = len(scored) or len(imported.answers)
    scale = _SCALES.get(name, 1.0 if abs(figure) <= 1 else 100.0)
    if interval is not None and math.isclose(interval.value, figure, rel_tol=1e-6, abs_tol=1e-9):
        note = MEAN_NOTE if (record or name in TABLE_SCORES) and name not in imported.metrics else ""
        bounds = (interval.low, interval.high, interval.n_clusters)
        return MetricRow(name, figure, n, "", *bounds, scale=scale, interval=interval.kind, flags=note)
    error = imported.stderr.get(name)
    low, high = (None, None) if error is None else (figure - Z95 * error, figure + Z95 * error)
    return MetricRow(name, figure, n, "", low, high, None, scale=scale, flags="the results file's figure")
