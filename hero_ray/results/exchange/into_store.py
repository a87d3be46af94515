"""Imported answers as a run of the database, so that they can be compared with our own."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hero_ray.core.errors import StoreError, UnknownNameError
from hero_ray.core.plan import FULL, digest
from hero_ray.core.types import Cell, Prediction, Sample
from hero_ray.results.exchange.as_is import metric_rows
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask
from hero_ray.results.exchange.rescore import rescore
from hero_ray.store import MetricRow, Store, maintenance
from hero_ray.store.writes import finite

_OWN = ("method", "variant", "retention_ratio", "tokens", "seed")


def import_task(
    store: Store, imported: ImportedTask, as_is: bool = False, flavour: str | None = None, **settings: Any
) -> tuple[str, int, int]:
    """Write imported answers as a complete run of one cell; an import that fails leaves no run.

    Args:
        imported: what a reader found.
        as_is: keep the scores of the file instead of scoring the answers by our rules; needs no dataset.
        flavour: whose scoring rules, where the answers are scored; default `head`.
        settings: method, straw_man, variant, retention_ratio, tokens, seed or model, where the file does not say (or
            is wrong).

    Returns:
        run id, answers kept, answers that belong to no sample.

    Raises:
        UnknownNameError: not a benchmark we know (unless `as_is`).
        DatasetError: no answer fits it, or (`as_is`) the file has no scores.
    """
    if as_is:
        metrics = metric_rows(imported)
        task = _primary(imported.task)
        predictions = _kept(task, imported.answers)
        cell = _cell(imported, task, "imported", "", settings)
        return _written(store, imported, cell, predictions, settings, metrics), len(predictions), 0
    from hero_ray.benchmarks import get

    benchmark = get(imported.task, flavour)
    found = rescore(imported, benchmark)
    predictions = [Prediction("", item.sample, item.prediction, item.scores) for item in found.scored]
    cell = _cell(imported, benchmark.name, benchmark.flavour, benchmark.fingerprint(), settings)
    run_id = _written(store, imported, cell, predictions, settings, benchmark)
    return run_id, len(predictions), len(found.unmatched)


def _written(
    store: Store,
    imported: ImportedTask,
    cell: Cell,
    predictions: Sequence[Prediction],
    settings: dict[str, Any],
    figures: Sequence[MetricRow] | Any,
) -> str:
    """The run's id. `figures`: what the file says, or the benchmark that makes them from the answers."""
    run_id = f"import-{uuid.uuid4().hex[:8]}"
    config = {"name": "import", "source": Path(imported.source).name, "settings": dict(imported.settings), **settings}
    try:
        store.create_run(run_id, "import", config, digest(config), trigger="import")
        store.add_cells(run_id, [cell], {cell.id: len(predictions)})
        store.set_status(run_id, "running")
        store.write_unit(run_id, [replace(item, cell_id=cell.id) for item in predictions])
        if isinstance(figures, Sequence):
            store.write_metrics(run_id, cell.id, figures)
        else:
            from hero_ray.results.close import close_cells

            close_cells(store, run_id, [cell], {cell.benchmark: figures})
        store.set_status(run_id, "complete")
    except BaseException:
        with contextlib.suppress(StoreError):  # the database may be what failed
            maintenance.prune(store, [run_id])
        raise
    return run_id


def _primary(task: str) -> str:
    """A benchmark we know by its own name, whatever the tool calls it."""
    from hero_ray.benchmarks import get_class

    try:
        return get_class(task).name
    except UnknownNameError:
        return task


def _kept(task: str, answers: Sequence[ImportedAnswer]) -> list[Prediction]:
    """Answers under the file's own scores; a file that names no picture makes every question its own cluster."""
    seen: Counter[str] = Counter()
    kept = []
    for place, answer in enumerate(answers):
        key = answer.key or str(place if answer.document is None else answer.document)
        seen[key] += 1
        key = key if seen[key] == 1 else f"{key}#{seen[key]}"  # as for datasets: MME's id is that of two questions
        target = finite(answer.target)
        sample = Sample(task, key, answer.question, target, f"{task}/{answer.picture or key}", None, answer.category)
        kept.append(Prediction("", sample, answer.prediction, finite(dict(answer.scores))))
    return kept


def _cell(imported: ImportedTask, benchmark: str, flavour: str, fingerprint: str, settings: dict[str, Any]) -> Cell:
    known = {**imported.settings, **{key: value for key, value in settings.items() if value is not None}}
    model = str(known.get("model") or imported.model or "imported")
    method = str(known.get("method", FULL))
    ratio = float(known.get("retention_ratio", 1.0))
    tokens = int(known["tokens"]) if known.get("tokens") else None
    # Without a method among them, the settings are another tool's (device_map, dtype ...) and no parameters of ours.
    ours = "method" in imported.settings
    params = {key: value for key, value in imported.settings.items() if ours and key not in _OWN}
    spec = {
        "imported": Path(imported.source).name,
        "model": model,
        "model_args": {} if ours else dict(imported.settings),
        "method": method,
        "ratio": ratio,
        "tokens": tokens,
        "params": params,
        "benchmark": benchmark,
        "flavour": flavour,
        "fingerprint": fingerprint,
    }
    variant, seed = str(known.get("variant", "exact")), int(known.get("seed", 0))
    return Cell(
        digest([spec, variant, seed]), model, method, variant, params, ratio, benchmark, flavour, tokens, seed, spec,
        bool(known.get("straw_man")),
    )  # fmt: skip
