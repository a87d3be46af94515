"""A run as Every Eval Ever's files: an aggregate and an instance file per cell.

What the format has a field for stands there: scores with intervals and numbers of samples, questions, answers, errors,
the generation limit. Method, budget, costs and speed stand as texts in its free fields, by name for readers; the cell,
the run and each row once more as JSON, from which `reading` makes the very same run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hero_ray.core.errors import InputError
from hero_ray.core.plan import ENDPOINT
from hero_ray.core.version import __version__
from hero_ray.results.exchange.every_eval_ever import form, usage
from hero_ray.results.exchange.every_eval_ever.form import dumps, texts
from hero_ray.results.names import budget_of, name_all
from hero_ray.store import CellRow, MetricRow, RunRow, Store, figures, verifications
from hero_ray.store.records import CELL
from hero_ray.store.verifications import WholeAnswer

SPEEDS = {
    "ttft_ms_p50": ("Time to first token, median", "ms"),
    "ttft_ms_p95": ("Time to first token, 95th percentile", "ms"),
    "tpot_ms_p50": ("Time per output token, median", "ms"),
    "prefill_ms": ("Prefill", "ms"),
    "peak_memory_bytes": ("Peak memory", "bytes"),
}
"""Timed figures of a profile for which less is better: name and unit."""
PLACES = ("db", "rows_folder", "output_path")
"""Keys of a configuration that name places of the machine it ran on: left out of what is given away."""
_ROW = (
    "text", "score", "scores", "n_text", "budget_nominal", "n_selected", "n_visual_llm", "equivalent_tokens",
    "visual_per_layer", "flops", "encode_flops", "kv_bytes", "geometry", "error_type", "error_message", "attempts",
)  # fmt: skip
_READABLE = ("n_text", "budget_nominal", "n_selected", "n_visual_llm", "equivalent_tokens", "flops", "kv_bytes")
_NOT_OF_PROFILES = {"run_id", "cell_id", "cell_tokens", *CELL} - {"tokens"}
_PROGRESS = ("n_expected", "stop_reason", "stop_pictures", "stop_log_e")


def write_run(
    store: Store, run_id: str, folder: str | Path, model: str | None = None, count: usage.Count | None = None
) -> list[Path]:
    """All files of a run below `folder`/data, or none: they are moved there when the last one is whole and valid.

    Args:
        count: tokens of an answer of our own; without it no usage of such answers is written.

    Raises:
        InputError: the folder cannot be written, or the run holds no figures.
    """
    run, target = store.run(run_id), Path(folder)
    cells = [cell for cell in store.cells(run.id) if model in (None, cell.model)]
    names = {cell.id: name.key for cell, name in zip(cells, name_all(cells), strict=True)}
    metrics = store.metrics(run.id)
    written: list[Path] = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".unfinished-", dir=target) as made:
            for position, cell in enumerate(cells):
                if rows := metrics.get(cell.id):
                    written += _write(store, run, (position, cell, names[cell.id]), rows, Path(made), count)
            for path in written:
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(made) / path).replace(target / path)
    except OSError as problem:
        raise InputError(f"cannot write the folder {target}: {problem.strerror or problem}") from None
    if not written:
        raise InputError(f"run {run.id} holds no figures to export{f' of {model}' if model else ''}")
    return [target / path for path in written]


def _write(
    store: Store,
    run: RunRow,
    placed: tuple[int, CellRow, str],
    rows: Sequence[MetricRow],
    root: Path,
    count: usage.Count | None,
) -> list[Path]:
    """Args: placed: the cell behind its place in the run and before its name."""
    _, cell, _ = placed
    file = form.identity(run.id, cell.id)
    aggregate = form.place(cell.benchmark, cell.model, f"{file}.json")
    instances = aggregate.with_name(f"{file}_samples.jsonl")
    evaluation = f"{cell.benchmark}/{form.model_id(cell.model)}/{run.id}/{cell.id}"
    main = next(f"{evaluation}/{_metric_id(row)}" for row in rows if row.is_main and not row.category)
    lines = [
        _instance(cell, answer, evaluation, main) | _counted(cell, answer, count)
        for answer in sorted(store.read(verifications.whole_answers, run.id, cell.id), key=lambda a: a.sample_id)
    ]
    for number, line in enumerate(lines, start=1):
        form.check(line, "instance_level_eval", f"{instances.name} line {number}")
    content = "".join(dumps(line) + "\n" for line in lines).encode()
    document = _aggregate(store, run, placed, rows, evaluation)
    if lines:
        document["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": instances.as_posix(),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(content).hexdigest(),
            "total_rows": len(lines),
        }
    form.check(document, "eval", aggregate.name)
    (root / aggregate).parent.mkdir(parents=True, exist_ok=True)
    (root / aggregate).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if lines:
        (root / instances).write_bytes(content)
    return [aggregate, instances] if lines else [aggregate]


def _aggregate(
    store: Store, run: RunRow, placed: tuple[int, CellRow, str], rows: Sequence[MetricRow], evaluation: str
) -> dict[str, Any]:
    position, cell, name = placed
    profiles = [row for row in store.read(figures.profiles, [run.id]) if row["cell_id"] == cell.id]
    told = {key: getattr(run, key) for key in ("id", "sweep_name", "config", "trigger", "git_commit", "environment")}
    told["config"] = {key: value for key, value in run.config.items() if key not in PLACES}
    moments = {"created_at": run.created_at, "finished_at": run.finished_at}
    ours = cell.spec.get("imported") is None
    results = [_result(cell, row, evaluation) for row in rows]
    results += [_speed(cell, row, evaluation, key) for row in profiles for key in SPEEDS if row.get(key) is not None]
    seconds = str(int((run.finished_at or run.created_at).timestamp()))
    return {
        "schema_version": form.VERSION,
        "evaluation_id": evaluation,
        "evaluation_timestamp": str(int((run.started_at or run.created_at).timestamp())),
        "retrieved_timestamp": seconds,
        "source_metadata": {
            "source_name": "hero_ray",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "third_party",
            "additional_details": texts(
                {
                    form.RUN_KEY: told | {k: str(v) for k, v in moments.items() if v},
                    form.CELL_KEY: {key: getattr(cell, key) for key in ("id", *CELL, "spec", *_PROGRESS)}
                    | {"position": position},
                    form.PROFILES_KEY: [
                        {key: row[key] for key in row if key not in _NOT_OF_PROFILES} for row in profiles
                    ],
                }
            ),
        },
        "eval_library": {
            "name": "hero_ray" if ours else "unknown",
            "version": str((run.environment.get("packages") or {}).get("hero-ray", __version__)) if ours else "unknown",
        },
        "model_info": {
            "name": cell.model,
            "id": form.model_id(cell.model),
            "developer": form.model_id(cell.model).rpartition("/")[0],
            "additional_details": {
                "deployment_type": "self_deployed" if ours else "unknown",
                "model_availability": "open_weights" if ours else "unknown",
            },
        },
        "evaluation_results": [result | {"generation_config": _generation(cell, name)} for result in results],
    }


def _metric_id(row: MetricRow) -> str:
    return row.metric + (f"/{row.category}" if row.category else "")


def _result(cell: CellRow, row: MetricRow, evaluation: str) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {"num_samples": row.n}
    if row.ci_low is not None and row.ci_high is not None:
        method = f"{row.interval or 'unknown'}, clustered by picture"
        bounds = {"lower": row.ci_low, "upper": row.ci_high, "confidence_level": 0.95, "method": method}
        uncertainty["confidence_interval"] = bounds
    details = texts({form.METRIC_KEY: asdict(row), "n_pictures": row.n_clusters, "flags": row.flags or None})
    return {
        "evaluation_result_id": f"{evaluation}/{_metric_id(row)}",
        "evaluation_name": cell.benchmark + (f".{row.category}" if row.category else ""),
        "source_data": {
            "dataset_name": cell.benchmark,
            "source_type": "other",
            "additional_details": texts({"flavour": cell.flavour, "fingerprint": _data(cell)}),
        },
        "metric_config": {
            "metric_id": f"{cell.benchmark}.{row.metric}",
            "metric_name": row.metric,
            "metric_unit": "proportion" if row.scale == 1.0 else "points",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": min(0.0, row.value),
            "max_score": max(row.scale, row.value),
        },
        "score_details": {"score": row.value, "uncertainty": uncertainty, "details": details},
    }


def _data(cell: CellRow) -> str | None:
    found = cell.spec.get("benchmark")
    return str(found.get("data")) if isinstance(found, Mapping) else None


def _speed(cell: CellRow, row: Mapping[str, Any], evaluation: str, key: str) -> dict[str, Any]:
    """A timed figure as a result of its own: the format times single answers, a profile times requests alone."""
    shown, unit = SPEEDS[key]
    batch = f"batch{row['batch_size']}.new{row['new_tokens']}"
    return {
        "evaluation_result_id": f"{evaluation}/profile/{batch}/{key}",
        "evaluation_name": f"{cell.benchmark}.profile.{batch}",
        "source_data": {"dataset_name": cell.benchmark, "source_type": "other"},
        "metric_config": {
            "metric_id": f"{form.OURS}.{key}",
            "metric_name": shown,
            "metric_unit": unit,
            "lower_is_better": True,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": "Infinity",
        },
        "score_details": {
            "score": float(row[key]),
            "details": texts({"certificate_hash": row["certificate_hash"], "certificate": row["certificate"]}),
            "uncertainty": {"num_samples": int(row["n"])} if row.get("n") else {},
        },
    }


def _generation(cell: CellRow, name: str) -> dict[str, Any]:
    limit = (cell.spec.get("generation") or {}).get("max_new_tokens")
    arguments = {"temperature": 0.0, "max_tokens": int(limit)} if limit is not None else {}
    readable: dict[str, Any] = {
        "cell": name,
        "method": cell.method,
        "variant": cell.variant,
        "params": dict(cell.params),
    }
    readable |= {"budget": budget_of(cell), "retention_ratio": cell.retention_ratio, "seed": cell.seed}
    readable |= {f"mean_{key}": getattr(cell, f"mean_{key}") for key in ("n_visual_llm", "flops", "kv_bytes")}
    return {"generation_args": arguments, "additional_details": texts(readable)}


def _counted(cell: CellRow, answer: WholeAnswer, count: usage.Count | None) -> dict[str, Any]:
    """Usage of an answer of our own, where nobody else has said any."""
    told = ENDPOINT in (answer.stored["scores"] or {})
    return {} if count is None or told else usage.counted(cell.model, answer.stored, count)


def _instance(cell: CellRow, answer: WholeAnswer, evaluation: str, result: str) -> dict[str, Any]:
    stored, question = answer.stored, answer.question
    reference = question["reference"]
    listed = reference if isinstance(reference, list) and all(isinstance(one, str) for one in reference) else None
    references = listed if listed is not None else [] if reference is None else [dumps(reference)]
    failed = stored["error_type"] is not None
    score = 0.0 if stored["score"] is None else float(stored["score"])
    row = {key: stored[key] for key in _ROW}
    row["keep_mask"] = None if stored["keep_mask"] is None else base64.b64encode(stored["keep_mask"]).decode()
    readable = {"category": question["category"] or None, "image": question["image_hash"]}
    readable |= {key: stored[key] for key in _READABLE}
    extracted = {
        "turn_idx": 0,
        "source": "output.raw",
        "extracted_value": stored["text"],
        "extraction_method": f"hero_ray scorer, flavour {cell.flavour or 'default'}",
        "is_terminal": True,
    }
    return {
        "schema_version": form.VERSION,
        "evaluation_id": evaluation,
        "model_id": form.model_id(cell.model),
        "evaluation_name": cell.benchmark,
        "evaluation_result_id": result,
        "sample_id": question["sample_key"],
        "sample_hash": form.sample_hash(question["question"], references),
        "interaction_type": "single_turn",
        "input": {"raw": question["question"], "reference": references},
        "output": {"raw": [stored["text"]]},
        "answer_attribution": [] if failed else [extracted],
        "evaluation": {"score": score, "is_correct": score >= 1.0},
        "error": f"{stored['error_type']}: {stored['error_message'] or ''}" if failed else None,
        "metadata": texts(readable | {form.ROW_KEY: row | {"question": dict(question)}}),
        **usage.written(stored["scores"]),
    }
