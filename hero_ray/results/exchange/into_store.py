"""Imported answers as a run of the database, so that they can be compared with our own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hero_ray import stats
from hero_ray.core.plan import FULL, digest
from hero_ray.core.types import Cell, Prediction, Sample
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask
from hero_ray.results.exchange.rescore import rescore
from hero_ray.store import MetricRow, Store

_OWN = ("method", "variant", "retention_ratio", "tokens", "seed")


def import_task(store: Store, imported: ImportedTask, as_is: bool = False, **settings: Any) -> tuple[str, int, int]:
    """Write imported answers as a complete run of one cell.

    Args:
        imported: what a reader found.
        as_is: keep the scores of the file instead of scoring the answers by our rules; needs no dataset.
        settings: method, straw_man, variant, retention_ratio, tokens, seed or model, where the file does not say (or
            is wrong).

    Returns:
        run id, answers kept, answers that belong to no sample.

    Raises:
        UnknownNameError: not a benchmark we know (unless `as_is`). DatasetError: no answer fits it.
    """
    if as_is:
        predictions, unmatched, flavour, fingerprint = _kept(imported), 0, "imported", ""
    else:
        from hero_ray.benchmarks import get

        benchmark = get(imported.task)
        found = rescore(imported, benchmark)
        predictions = [Prediction("", item.sample, item.prediction, item.scores) for item in found.scored]
        unmatched, flavour, fingerprint = len(found.unmatched), benchmark.flavour, benchmark.fingerprint()
    cell = _cell(imported, predictions[0].sample.benchmark, flavour, fingerprint, settings)
    run_id = f"import-{uuid.uuid4().hex[:8]}"
    config = {"name": "import", "source": Path(imported.source).name, "settings": dict(imported.settings), **settings}
    store.create_run(run_id, "import", config, digest(config), trigger="import")
    store.add_cells(run_id, [cell], {cell.id: len(predictions)})
    store.set_status(run_id, "running")
    store.write_unit(run_id, [_of_cell(item, cell.id) for item in predictions])
    if as_is:
        store.write_metrics(run_id, cell.id, _means(store, run_id, cell.id))
    else:
        from hero_ray.results.close import close_cells

        close_cells(store, run_id, [cell], {cell.benchmark: benchmark})
    store.set_status(run_id, "complete")
    return run_id, len(predictions), unmatched


def _kept(imported: ImportedTask) -> list[Prediction]:
    """Answers under the file's own scores; a file that names no picture makes every question its own cluster."""
    return [
        Prediction("", _sample(imported.task, place, answer), answer.prediction, dict(answer.scores))
        for place, answer in enumerate(imported.answers)
    ]


def _sample(task: str, place: int, answer: ImportedAnswer) -> Sample:
    key = answer.key or str(place if answer.document is None else answer.document)
    return Sample(task, key, answer.question, answer.target, f"{task}/{key}", None, answer.category)


def _of_cell(prediction: Prediction, cell_id: str) -> Prediction:
    return Prediction(cell_id, prediction.sample, prediction.text, prediction.scores)


def _cell(imported: ImportedTask, benchmark: str, flavour: str, fingerprint: str, settings: dict[str, Any]) -> Cell:
    known = {**imported.settings, **{key: value for key, value in settings.items() if value is not None}}
    model = str(known.get("model") or imported.model or "imported")
    method = str(known.get("method", FULL))
    ratio = float(known.get("retention_ratio", 1.0))
    tokens = int(known["tokens"]) if known.get("tokens") else None
    params = {key: value for key, value in imported.settings.items() if key not in _OWN}
    spec = {"imported": Path(imported.source).name, "model": model, "method": method, "ratio": ratio, "tokens": tokens,
            "params": params, "benchmark": benchmark, "flavour": flavour, "fingerprint": fingerprint}  # fmt: skip
    variant, seed = str(known.get("variant", "exact")), int(known.get("seed", 0))
    return Cell(
        digest([spec, variant, seed]), model, method, variant, params, ratio, benchmark, flavour, tokens, seed, spec,
        bool(known.get("straw_man")),
    )  # fmt: skip


def _means(store: Store, run_id: str, cell_id: str) -> Sequence[MetricRow]:
    """The mean of every number the file scored its answers with."""
    rows = store.cell_scores(run_id, cell_id)
    names = {name: None for row in rows for name, value in row.scores.items() if isinstance(value, (int, float))}
    made = []
    for name in names:
        have = [row for row in rows if isinstance(row.scores.get(name), (int, float))]
        interval = stats.mean_interval([float(row.scores[name]) for row in have], [row.image_key for row in have])
        made.append(
            MetricRow(
                name, interval.value, interval.n, "", interval.low, interval.high, interval.n_clusters,
                interval=interval.kind,
            )
        )  # fmt: skip
    return made
