"""Every Eval Ever's files as a run of the database: our own as the run they were written from, others as they are."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from hero_ray.core.errors import DatasetError, StoreError
from hero_ray.core.plan import ENDPOINT, digest
from hero_ray.core.types import Cell, Sample
from hero_ray.results.exchange import raw
from hero_ray.results.exchange.every_eval_ever import form, usage
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask
from hero_ray.store import MetricRow, Store, bulk, maintenance
from hero_ray.store.records import CELL, Stopped, sample_id

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Log:
    """One aggregate file with its instance file's lines; none where it names no such file."""

    path: Path
    document: Document
    lines: Sequence[Document]

    @property
    def ours(self) -> Mapping[str, str]:
        """What `writing` left in the free fields; empty for another tool's file."""
        found: Mapping[str, str] = self.document["source_metadata"].get("additional_details") or {}
        return found if {form.CELL_KEY, form.RUN_KEY} <= found.keys() else {}

    def told(self, key: str) -> Any:
        """One of our own free fields.

        Raises:
            DatasetError: it is no JSON.
        """
        try:
            return json.loads(self.ours[key])
        except ValueError:
            raise DatasetError(f"{self.path.name}: the field {key} is no JSON; the file was altered") from None


def is_log(path: Path) -> bool:
    """Whether a path is an aggregate file, or a folder that holds some."""
    try:
        if path.is_dir():
            return any(is_log(each) for each in _candidates(path))
        if path.suffix != ".json" or not path.is_file() or path.stat().st_size > raw.MAX_BYTES:
            return False
        return b'"evaluation_results"' in path.read_bytes()
    except (OSError, ValueError):  # a name that cannot be one, or no permission: whoever reads it says so
        return False


def _candidates(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.json") if path.is_file())


def read(path: Path) -> list[Log]:
    """Every log of a file or a folder, held against the published schema and its own checksum.

    Raises:
        DatasetError: not valid, an instance file that is missing, cut or belongs to another evaluation.
    """
    return [_read(each) for each in ([path] if path.is_file() else _candidates(path)) if is_log(each)]


def _read(path: Path) -> Log:
    raw.check(path)
    document = raw.json_content(path)
    form.check(document, "eval", path.name)
    if document["schema_version"] != form.VERSION:
        raise DatasetError(f"{path.name} has schema {document['schema_version']!r}; {form.VERSION} is read")
    detailed = document.get("detailed_evaluation_results")
    if detailed is None:
        return Log(path, document, ())
    file = path.with_name(Path(detailed["file_path"]).name)
    raw.check(file)
    content = file.read_bytes()
    known = {"sha256": hashlib.sha256, "md5": hashlib.md5}.get(detailed.get("hash_algorithm", ""))
    if known and detailed.get("checksum") and known(content).hexdigest() != detailed["checksum"]:
        raise DatasetError(f"{file.name} is not the file that {path.name} was written with: its checksum differs")
    lines = list(_lines(file, content, document["evaluation_id"]))
    if detailed.get("total_rows", len(lines)) != len(lines):
        raise DatasetError(f"{file.name} has {len(lines)} lines, {path.name} says {detailed['total_rows']}")
    return Log(path, document, lines)


def _lines(file: Path, content: bytes, evaluation: str) -> Iterator[Document]:
    for number, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        where = f"{file.name} line {number}"
        try:
            line = json.loads(text)
        except ValueError:
            raise DatasetError(f"{where} is no JSON") from None
        form.check(line, "instance_level_eval", where)
        if line["evaluation_id"] != evaluation:
            raise DatasetError(f"{where} belongs to evaluation {line['evaluation_id']!r}, not to {evaluation!r}")
        yield line


def imported(log: Log) -> ImportedTask:
    """Another tool's log as answers with the file's own scores and figures.

    Raises:
        DatasetError: it holds figures alone, or answers that are conversations.
    """
    if not log.lines:
        raise DatasetError(
            f"{log.path.name} holds figures and no answers; the instance file that belongs to it is needed"
        )
    results = {result.get("evaluation_result_id"): result for result in log.document["evaluation_results"]}
    first = log.document["evaluation_results"][0]
    chosen = results.get(log.lines[0].get("evaluation_result_id"), first)
    name = chosen["metric_config"].get("metric_name") or chosen["metric_config"].get("metric_id") or "score"
    answers = [_answer(line, name, log.path.name) for line in log.lines if _is_of(line, chosen)]
    uncertainty = chosen["score_details"].get("uncertainty") or {}
    error = (uncertainty.get("standard_error") or {}).get("value")
    return ImportedTask(
        task=chosen["source_data"]["dataset_name"],
        model=log.document["model_info"]["name"],
        answers=answers,
        metrics={name: float(chosen["score_details"]["score"])},
        stderr={} if error is None else {name: float(error)},
        source=str(log.path),
    )


def _is_of(line: Document, result: Document) -> bool:
    """One record a sample and result: those of one result are one answer each."""
    linked = line.get("evaluation_result_id")
    return linked in (None, result.get("evaluation_result_id"))


def _answer(line: Document, metric: str, where: str) -> ImportedAnswer:
    if line["interaction_type"] != "single_turn":
        raise DatasetError(
            f"{where}: sample {line['sample_id']!r} is {line['interaction_type']}; single answers are read"
        )
    said = line["output"]["raw"]
    reference = line["input"]["reference"]
    return ImportedAnswer(
        None, line["sample_id"], said[0] if said else "", reference, line["input"]["raw"],
        {metric: float(line["evaluation"]["score"])} | ({ENDPOINT: told} if (told := usage.read(line)) else {}),
    )  # fmt: skip


def import_logs(store: Store, logs: Sequence[Log], source: Path) -> tuple[str, int]:
    """Our own logs of one run as that run under a new id; one that fails leaves none.

    Returns:
        run id, answers.

    Raises:
        DatasetError: logs of several runs, or a field of ours that was altered beyond reading.
    """
    runs = {log.ours[form.RUN_KEY] for log in logs}
    if len(runs) != 1:
        raise DatasetError(f"{source} holds {len(runs)} runs; import the folder of each by itself")
    told = logs[0].told(form.RUN_KEY)
    run_id = f"import-{uuid.uuid4().hex[:8]}"
    config = {"name": "import", "source": source.name, "run": told["id"], "sweep": told["config"]}
    answers = 0
    try:
        logs = sorted(logs, key=lambda log: log.told(form.CELL_KEY)["position"])
        store.create_run(
            run_id,
            told["sweep_name"],
            config,
            digest([config, run_id]),
            told["environment"],
            told["git_commit"],
            "import",
        )
        store.set_status(run_id, "running")
        cells = [_cell(log.told(form.CELL_KEY)) for log in logs]
        expected = {cell.id: log.told(form.CELL_KEY)["n_expected"] for cell, log in zip(cells, logs, strict=True)}
        store.add_cells(run_id, cells, expected)
        for cell, log in zip(cells, logs, strict=True):
            answers += _fill(store, run_id, cell, log)
        store.set_status(run_id, "complete")
    except (KeyError, TypeError, ValueError) as problem:
        _undo(store, run_id)
        raise DatasetError(f"{source}: a field of ours was altered beyond reading: {problem!r}") from problem
    except BaseException:
        _undo(store, run_id)
        raise
    return run_id, answers


def import_ours(store: Store, path: Path) -> str:
    """The id of the run that a file or folder of `export -f eee` becomes.

    Raises:
        DatasetError: there is none, or another tool's.
    """
    logs = [log for log in read(path) if log.ours] if path.exists() else []
    if not logs:
        raise DatasetError(f"{str(path)!r} holds no file of `hero-ray export -f eee`; other files are imported first")
    return import_logs(store, logs, path)[0]


def _undo(store: Store, run_id: str) -> None:
    with contextlib.suppress(StoreError):  # the database may be what failed
        maintenance.prune(store, [run_id])


def _cell(told: Document) -> Cell:
    return Cell(**{name: told[name] for name in ("id", *CELL, "spec")})


def _fill(store: Store, run_id: str, cell: Cell, log: Log) -> int:
    rows, samples = [], []
    for line in log.lines:
        row = json.loads(line["metadata"][form.ROW_KEY])
        sample = _sample(row.pop("question"))
        mask = row["keep_mask"]
        row["keep_mask"] = None if mask is None else base64.b64decode(mask)
        # What readers of the format see is what comes in, not a copy beside it.
        row["text"], sample = line["output"]["raw"][0], replace(sample, question=line["input"]["raw"])
        if row["score"] is not None:
            row["score"] = line["evaluation"]["score"]
        if not usage.is_counted(row, line) and (said := usage.read(line)):
            scores = row["scores"] or {}
            row["scores"] = scores | {ENDPOINT: (scores.get(ENDPOINT) or {}) | said}
        samples.append(sample)
        rows.append(row | {"run_id": run_id, "cell_id": cell.id, "sample_id": sample_id(sample)})
    store.add_samples(samples)

    def write(connection: Connection) -> None:
        bulk.write_rows(connection, rows)

    store.transaction(write)
    told = [result["score_details"] for result in log.document["evaluation_results"]]
    metrics = [
        MetricRow(**json.loads(one["details"][form.METRIC_KEY]) | {"value": one["score"]})
        for one in told
        if form.METRIC_KEY in (one.get("details") or {})
    ]
    store.write_metrics(run_id, cell.id, metrics)
    held = log.told(form.CELL_KEY)
    if held["stop_reason"]:
        store.stop_cell(
            run_id, cell.id, Stopped(held["stop_reason"], held["stop_pictures"] or 0, held["stop_log_e"] or 0.0)
        )
        store.summarise(run_id, [cell.id])
    for profile in log.told(form.PROFILES_KEY):
        store.write_profile(run_id, cell.id, profile)
    return len(rows)


def _sample(held: Document) -> Sample:
    return Sample(
        benchmark=held["benchmark"],
        key=held["sample_key"],
        question=held["question"],
        references=held["reference"],
        image_key=held["image_hash"],
        image_ref=None,
        category=held["category"],
        extra=held["extra"] or {},
    )
