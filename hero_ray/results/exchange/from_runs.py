"""A run of the database as the records and rows that files are made of."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hero_ray.benchmarks import get
from hero_ray.core.errors import HeroRayError, InputError
from hero_ray.core.types import Metric
from hero_ray.results.exchange.lmms_export import write
from hero_ray.results.exchange.records import ImportedAnswer, ModelRun, TaskResult
from hero_ray.results.named import picture_of
from hero_ray.results.names import budget_of, name_all, settings
from hero_ray.stats.frontier import Z95
from hero_ray.store import CellRow, MetricRow, PointRow, RunRow, ScoreRow, Store
from hero_ray.store.records import CELL

_FLAT = (
    "run_id", "cell_id", *CELL, "metric", "category", "value", "ci_low", "ci_high", "n", "n_clusters", "n_failed",
    "scale", "n_selected", "n_visual_llm", "equivalent_tokens", "flops", "kv_bytes",
)  # fmt: skip
_PROFILE = (
    "batch_size", "new_tokens", "tflops_paper", "tflops_model", "peak_memory_bytes", "prefill_ms", "ttft_ms_p50",
    "ttft_ms_p95", "tpot_ms_p50", "decode_tokens_per_s", "certificate_hash",
)  # fmt: skip


def figures(store: Store, run_id: str, categories: bool = True) -> list[dict[str, Any]]:
    """One flat row per cell and main figure (and per category), with intervals, costs and `profile_*` columns."""
    points = store.points([run_id])
    if categories:
        points += store.points([run_id], categories=True)
    return [_flat(point, name.key) for point, name in zip(points, name_all(points), strict=True)]


def _flat(point: PointRow, label: str) -> dict[str, Any]:
    row = {name: getattr(point, name) for name in _FLAT}
    row["params"] = json.dumps(dict(point.params), sort_keys=True)
    return row | {f"profile_{name}": point.profile.get(name) for name in _PROFILE} | {"label": label}


def predictions(store: Store, run_id: str) -> list[dict[str, Any]]:
    """One row per sample and cell, failures included."""
    rows, cells = [], store.cells(run_id)
    pictures = {name: picture_of(name) for name in {cell.benchmark for cell in cells}}
    for cell in cells:
        own: dict[str, Any] = {"run_id": run_id, "cell_id": cell.id, "model": cell.model, "method": cell.method}
        own |= {"retention_ratio": cell.retention_ratio, "seed": cell.seed, "benchmark": cell.benchmark}
        for answer in store.cell_scores(run_id, cell.id, failed=True):
            rows.append(own | {"picture": pictures[cell.benchmark](answer.extra)} | _sample(answer))
    return rows


def _sample(row: ScoreRow) -> dict[str, Any]:
    own = (
        "sample_id",
        "sample_key",
        "image_key",
        "category",
        "question",
        "text",
        "score",
        "error_type",
        "error_message",
    )
    return {name: getattr(row, name) for name in own} | {
        "reference": json.dumps(row.reference, ensure_ascii=False),
        "scores": json.dumps(dict(row.scores), ensure_ascii=False),
    }


def model_runs(store: Store, run_id: str, samples: bool = True, model: str | None = None) -> Iterator[ModelRun]:
    """Every model setting of a run as lmms-eval would have run it: all benchmarks of a setting together.

    A benchmark that a setting was asked in two ways (flavours, answer lengths) makes a second one, as one results file
    holds one figure per task.
    """
    run, metrics = store.run(run_id), store.metrics(run_id)
    groups: dict[tuple[str, int], list[CellRow]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for cell in store.cells(run_id):
        if model in (None, cell.model):
            key = json.dumps([settings(cell), budget_of(cell), cell.seed, _spec(cell)], sort_keys=True)
            groups.setdefault((key, seen[key, cell.benchmark]), []).append(cell)
            seen[key, cell.benchmark] += 1
    for cells in groups.values():
        yield ModelRun(
            model=cells[0].model,
            tasks=[_task(store, run.id, cell, metrics.get(cell.id, []), samples) for cell in cells],
            settings=_settings(cells[0]),
            started=(run.started_at or run.created_at).isoformat(),
            seconds=_seconds(run),
            git_commit=run.git_commit or "",
            batch_size=run.config.get("batch_size"),
            limit=run.config.get("limit"),
            spec=_spec(cells[0]),
        )


def _spec(cell: CellRow) -> dict[str, Any]:
    """What a cell keeps of its model and its way of cutting, beyond method and parameters."""
    return {key: cell.spec[key] for key in ("model", "budget", "newline_policy") if key in cell.spec}


def _seconds(run: RunRow) -> float:
    if run.started_at is None or run.finished_at is None:
        return 0.0
    return (run.finished_at - run.started_at).total_seconds()


def _settings(cell: CellRow) -> dict[str, Any]:
    budget: dict[str, Any] = {"tokens": cell.tokens} if cell.tokens else {"retention_ratio": cell.retention_ratio}
    return {"method": cell.method, "variant": cell.variant, **cell.params, **budget, "seed": cell.seed}


def _task(store: Store, run_id: str, cell: CellRow, metrics: Sequence[MetricRow], samples: bool) -> TaskResult:
    whole = [row for row in metrics if not row.category]
    rows = sorted(store.cell_scores(run_id, cell.id), key=lambda row: _natural(row.sample_key)) if samples else []
    answers = [
        ImportedAnswer(
            row.extra.get("doc_id", place),
            row.sample_key,
            row.text,
            row.reference,
            row.question,
            _plain(row.scores),
            row.category,
        )
        for place, row in enumerate(rows)
    ]
    errors = {row.metric: _stderr(row) for row in whole}
    generation = cell.spec.get("generation") or {}
    return TaskResult(
        task=cell.benchmark,
        metrics=_lmms_keys(cell, metrics),
        answers=answers,
        num_documents=cell.n_expected,
        stderr={name: value for name, value in errors.items() if value is not None},
        num_answered=cell.n_done,
        max_new_tokens=generation.get("max_new_tokens"),
        flavour=cell.flavour,
        prompt_hash=str(generation.get("prompt") or ""),
    )


def _lmms_keys(cell: CellRow, rows: Sequence[MetricRow]) -> dict[str, float]:
    """Figures under lmms-eval's keys; a benchmark of someone's own without such keys gives its whole-set figures."""
    try:
        benchmark = get(cell.benchmark, cell.flavour)
    except HeroRayError:
        benchmark = None
    keys = getattr(benchmark, "lmms_keys", None)
    if keys is None:
        return {row.metric: row.value for row in rows if not row.category}
    return dict(keys([Metric(row.metric, row.value, row.n, row.category) for row in rows]))


def _stderr(row: MetricRow) -> float | None:
    """Standard error implied by the 95 % interval (clustered by picture, unlike lmms-eval's own)."""
    return None if row.ci_low is None or row.ci_high is None else (row.ci_high - row.ci_low) / (2 * Z95)


def _natural(key: str) -> list[tuple[int, int, str]]:
    """Sort key under which q2 comes before q10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", key) if part]


def _plain(scores: Any) -> dict[str, Any]:
    return dict(scores)


def write_run(
    store: Store, run_id: str, folder: str | Path, samples: bool = False, model: str | None = None
) -> list[Path]:
    """lmms-eval's results files of a run, one folder per model setting; with `samples` also one line per answer.

    All files or none: they are made beside their place and moved there when the last one is whole.

    Raises:
        InputError: the folder cannot be written.
    """
    run, target = store.run(run_id), Path(folder)
    time = run.finished_at or run.started_at or run.created_at
    try:
        target.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".unfinished-", dir=target) as made:
            whole = Path(made)
            parts = [
                path.relative_to(whole)
                for setting in model_runs(store, run.id, samples, model)
                for path in write(setting, whole, time, samples)
            ]
            for part in parts:
                (target / part).parent.mkdir(exist_ok=True)
                (whole / part).replace(target / part)
    except OSError as problem:
        raise InputError(f"cannot write the folder {target}: {problem.strerror or problem}") from None
    return [target / part for part in parts]
