"""Flat rows to csv, parquet, json and LaTeX; runs to experiment trackers after the fact."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hero_ray.core.errors import MissingExtraError
from hero_ray.results.averages import averages, flagged
from hero_ray.results.contenders import Results
from hero_ray.results.shown import tables
from hero_ray.results.ties import Ties
from hero_ray.results.writer import csv_cell
from hero_ray.store.records import CELL

Rows = Sequence[Mapping[str, Any]]
SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".tex": "latex"}
"""Format by the ending of a file's name, where none is asked for."""


def to_csv(rows: Rows) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def to_json(rows: Rows, run: Mapping[str, Any]) -> str:
    """The rows with the run's provenance."""
    return json.dumps(
        {"run": dict(run), "rows": [dict(row) for row in rows]}, indent=1, default=str, ensure_ascii=False
    )


def to_parquet(rows: Rows, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def to_latex(found: Sequence[Results]) -> str:
    """The methods table of the dashboard and of the share bundle, one for each model."""
    made = (
        tables.method_table(each.marks(), averages(each), flagged(each), each.unit, below=Ties(each).below)
        for each in found
    )
    return "\n".join(map(tables.to_latex, made))


def to_mlflow(rows: Rows, run: Mapping[str, Any], experiment: str) -> int:
    """One MLflow run per cell, at the tracking server MLFLOW_TRACKING_URI names; returns how many."""
    try:
        import mlflow
    except ImportError:
        raise MissingExtraError("mlflow", "track") from None
    mlflow.set_experiment(experiment)
    for row in rows:
        with mlflow.start_run(run_name=_tracked_name(row)):
            mlflow.log_params(_settings(row) | {"git_commit": run.get("git_commit"), "run_id": run.get("id")})
            mlflow.log_metrics(_measures(row))
    return len(rows)


def to_wandb(rows: Rows, run: Mapping[str, Any], project: str) -> int:
    """One Weights & Biases run per cell; returns how many."""
    try:
        import wandb
    except ImportError:
        raise MissingExtraError("wandb", "track") from None
    for row in rows:
        config = _settings(row) | {"git_commit": run.get("git_commit"), "run_id": run.get("id")}
        tracked = wandb.init(project=project, name=_tracked_name(row), config=config, reinit="finish_previous")
        tracked.log(_measures(row))
        tracked.finish()
    return len(rows)


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in CELL}


def _tracked_name(row: Mapping[str, Any]) -> str:
    return f"{row['model']}/{row['label']}/{row['benchmark']}"


def _measures(row: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a row under names of their own: the metric under its key, costs and timings under theirs."""
    skip = {*CELL, "value", "scale", "n_failed"}
    found = {row["metric"]: row["value"]}
    found |= {k: v for k, v in row.items() if k not in skip and isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {name: float(value) for name, value in found.items()}
