"""Read other tools' answers: lmms-eval samples, VLMEvalKit prediction tables, and our own exports."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hero_ray.core.errors import DatasetError, MissingExtraError
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask

_SAMPLES = re.compile(r"^(?P<time>.*?)_?samples_(?P<task>.+)\.jsonl$")
_BOOKKEEPING = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "doc_hash", "prompt_hash", "target_hash",
    "input", "key", "category", "score", "submission",
}  # fmt: skip


def read(path: Path) -> ImportedTask:
    """A file of answers, by its name: `*samples_TASK.jsonl`, or a VLMEvalKit `.xlsx`, `.tsv`, `.csv` or `.json` table.

    Raises:
        DatasetError: not a file we can read, or one without answers.
        MissingExtraError: an .xlsx without openpyxl.
    """
    if not path.is_file():
        raise DatasetError(f"{str(path)!r} does not exist; expected an lmms-eval samples file or a VLMEvalKit table")
    if path.suffix == ".jsonl":
        return read_lmms_samples(path)
    if path.suffix in (".xlsx", ".tsv", ".csv", ".json"):
        return read_vlmevalkit(path)
    raise DatasetError(f"{path.name}: expected .jsonl (lmms-eval) or .xlsx, .tsv, .csv, .json (VLMEvalKit)")


def read_lmms_samples(path: Path) -> ImportedTask:
    """lmms-eval's `{time}_samples_{task}.jsonl`; the results file beside it, if any, gives model and figures."""
    named = _SAMPLES.match(path.name)
    if named is None:
        raise DatasetError(f"{path.name}: an lmms-eval samples file is named TIME_samples_TASK.jsonl")
    answers = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                answers.append(_lmms_answer(line, f"{path.name} line {number}"))
    if not answers:
        raise DatasetError(f"{path.name} has no lines")
    task = named["task"]
    model, settings, metrics = _beside(path.with_name(f"{named['time']}_results.json"), task)
    return ImportedTask(task, model or path.parent.name, answers, settings, metrics, str(path))


def _lmms_answer(line: str, where: str) -> ImportedAnswer:
    try:
        row = json.loads(line)
        prediction = _first_text(row.get("filtered_resps", row.get("resps")))
        document = row["doc_id"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DatasetError(f"{where} is not an lmms-eval sample: {error!r}") from error
    question = row.get("input") if isinstance(row.get("input"), str) else ""
    scores = {name: value for name, value in row.items() if name not in _BOOKKEEPING}
    key, category = str(row.get("key") or ""), str(row.get("category") or "")
    return ImportedAnswer(document, key, prediction, _target(row.get("target")), question or "", scores, category)


def _first_text(value: Any) -> str:
    """lmms-eval wraps responses in one or two lists."""
    while isinstance(value, list):
        if not value:
            return ""
        value = value[0]
    if not isinstance(value, str):
        raise TypeError(f"a response is {type(value).__name__}, expected text")
    return value


def _target(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in "[{" and value else value
    except ValueError:
        return value


def _beside(path: Path, task: str) -> tuple[str, dict[str, str], dict[str, float]]:
    """Model, settings and figures of the results file beside a samples file; empty without one."""
    if not path.is_file():
        return "", {}, {}
    content = json.loads(path.read_text(encoding="utf-8"))
    given = str((content.get("config") or {}).get("model_args") or "")
    settings = dict(pair.split("=", 1) for pair in given.split(",") if "=" in pair)
    model = settings.pop("pretrained", "") or str(content.get("model_name") or "")
    figures = (content.get("results") or {}).get(task) or {}
    metrics = {
        name.rpartition(",")[0]: float(value)
        for name, value in figures.items()
        if "," in name and "_stderr" not in name and isinstance(value, (int, float))
    }
    return model, settings, metrics


def read_vlmevalkit(path: Path) -> ImportedTask:
    """VLMEvalKit's `{model}_{dataset}.xlsx` (or .tsv, .csv, .json): one row per question with a `prediction`."""
    rows = _table(path)
    if not rows or "prediction" not in rows[0]:
        found = list(rows[0]) if rows else "no rows"
        raise DatasetError(f"{path.name}: a VLMEvalKit table has a column 'prediction'; found {found}")
    model, _, task = path.stem.partition("_")
    for dataset in sorted(_dataset_names(), key=len, reverse=True):
        if path.stem.lower().endswith("_" + dataset.lower()):
            model, task = path.stem[: -len(dataset) - 1], path.stem[-len(dataset) :]
            break
    return ImportedTask(task, model, [_kit_answer(row) for row in rows], source=str(path))


def _dataset_names() -> list[str]:
    from hero_ray.benchmarks import get_class, names

    return [name for primary in names() for name in (primary, *get_class(primary).aliases)]


def _kit_answer(row: Mapping[str, Any]) -> ImportedAnswer:
    extra = {name: row[name] for name in ("A", "B", "C", "D") if row.get(name) not in (None, "")}
    return ImportedAnswer(
        document=None,
        key=_text(row.get("index")),
        prediction=_text(row.get("prediction")),
        target=_text(row.get("answer")),
        question=_text(row.get("question")),
        scores={"options": extra} if extra else {},
        category=_text(row.get("category")),
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".xlsx":
        return _xlsx(path)
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, list) and all(isinstance(row, dict) for row in content) else []
    csv.field_size_limit(2**31 - 1)  # VLMEvalKit tables may hold base64 pictures
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def _xlsx(path: Path) -> list[dict[str, Any]]:
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError("openpyxl", "exchange") from error
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        lines = book.worksheets[0].iter_rows(values_only=True)
        header = [str(cell) for cell in next(lines, ())]
        return [dict(zip(header, line, strict=False)) for line in lines]
    finally:
        book.close()
