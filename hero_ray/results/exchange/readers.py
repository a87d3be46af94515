"""Read other tools' answers: lmms-eval samples and logs, VLMEvalKit prediction tables, and our own exports."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hero_ray.core.errors import DatasetError
from hero_ray.results.exchange import kit, raw
from hero_ray.results.exchange.lmms_results import Beside, beside, model_of
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask

# lmms-eval's TIME_samples_TASK.jsonl, and lm-evaluation-harness' samples_TASK_TIME.jsonl
_SAMPLES = re.compile(r"^(?P<before>.*?)_?samples_(?P<task>.+?)(?P<after>_\d{4}-\d\d-\d\dT[\d.-]+)?\.jsonl?$")
_BOOKKEEPING = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "doc_hash", "prompt_hash", "target_hash",
    "input", "key", "category", "score", "submission", "filter", "metrics", "token_counts", "input_media",
    "schema_version", "reasoning_tags", "time", "scenes",
}  # fmt: skip
_MMVET_ID = re.compile(r"v\d+_\d+$")
"""MM-Vet's own result file is one object, {id: answer}."""
_TABLES = (".xlsx", ".tsv", ".csv", ".txt")
_FORMS = "expected an lmms-eval samples file, an lmms-eval log (args, model_configs, logs) or rows with `prediction`"
MAX_LITERAL = 1_000_000


def read(path: Path, task: str | None = None, filter: str | None = None, encoding: str | None = None) -> ImportedTask:
    """A file of answers, known by what is in it.

    Args:
        task: benchmark, where neither name nor content says it.
        filter: of a file that holds several filters' answers, whose to take.
        encoding: of a text file that is neither UTF-8 nor marked as UTF-16.

    Raises:
        DatasetError: not a file we can read, one without answers, or with two different answers to one question.
        MissingExtraError: an .xlsx without openpyxl.
    """
    raw.check(path)
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        rows = raw.sheet(path, kit.TEXTS) if suffix == ".xlsx" else raw.separated(path, "prediction", encoding)
        found = kit.read(path, rows, task)
    elif suffix in (".jsonl", ".json"):
        found = _json(path, raw.json_content(path, encoding), task, filter)
    else:
        raise DatasetError(f"{path.name}: expected .jsonl or .json (lmms-eval), or a table: .xlsx, .tsv, .csv, .json")
    if not found.task:
        raise DatasetError(f"the name {path.name!r} does not say which benchmark it is of; give --task")
    return _without_repeats(found)


def _json(path: Path, content: Any, task: str | None, filter: str | None) -> ImportedTask:
    if isinstance(content, Mapping):
        if isinstance(content.get("logs"), list):
            return _old_log(path, content, task, filter)
        results = content.get("results")
        if isinstance(results, Mapping) and all(isinstance(figures, Mapping) for figures in results.values()):
            raise DatasetError(
                f"{path.name} holds lmms-eval's figures, not its answers; import the samples file that belongs to it "
                "(lmms-eval writes it with --log_samples)"
            )
        content = [content] if "doc_id" in content else _columns(content)
    if not isinstance(content, list):
        raise DatasetError(f"{path.name} is JSON without entries; {_FORMS}")
    if not content:
        raise DatasetError(f"{path.name} has no lines")
    strange = next((number for number, row in enumerate(content, start=1) if not isinstance(row, Mapping)), None)
    if strange is not None:
        raise DatasetError(f"{path.name}: entry {strange} is no JSON object; {_FORMS}")
    if any(name in content[0] for name in ("filtered_resps", "resps")) or _SAMPLES.match(path.name):
        return _samples(path, content, task, filter)
    rows = [{raw.tidy(name): value for name, value in row.items()} for row in content]
    if not kit.is_table(rows[0]):
        names = ", ".join(map(str, content[0]))[:200]
        raise DatasetError(f"{path.name}: found entries with {names or 'nothing'}; {_FORMS} (its column 'prediction')")
    return kit.read(path, rows, task)


def _columns(content: Mapping[str, Any]) -> list[Any]:
    """Rows of a table that pandas wrote column by column; of any other object its own refusal."""
    columns = {name: value for name, value in content.items() if isinstance(value, Mapping | list)}
    if kit.is_table(content) and not columns.keys() & {"prediction", "text"}:
        return [content]  # the only line of a table
    if content and all(_MMVET_ID.match(key) and isinstance(value, str) for key, value in content.items()):
        return [{"index": key, "prediction": text} for key, text in content.items()]
    if "prediction" not in columns or len(columns) != len(content):
        names = ", ".join(map(repr, list(content)[:6]))
        raise DatasetError(f"a JSON object with {names or 'no keys'} is no table of answers; {_FORMS}")
    rows = {tuple(cells) if isinstance(cells, Mapping) else len(cells) for cells in columns.values()}
    if len(rows) > 1:
        raise DatasetError(f"the columns {', '.join(columns)} do not have the same rows")
    cells = [list(v.values()) if isinstance(v, Mapping) else v for v in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]


def _old_log(path: Path, content: Mapping[str, Any], task: str | None, filter: str | None) -> ImportedTask:
    """`TASK.json` of lmms-eval v0.2.x and of HiRED's copy of it: everything in one file."""
    configs = content.get("model_configs")
    named = configs.get("task") if isinstance(configs, Mapping) else None
    given = content.get("args")
    args = given if isinstance(given, Mapping) else {}
    model, settings = model_of(str(args.get("model_args") or ""), path.name)
    found = _samples(path, content["logs"], task or (named if isinstance(named, str) and named else path.stem), filter)
    return replace(found, model=model or found.model or str(args.get("model") or ""), settings=settings)


def _samples(path: Path, rows: Sequence[Any], task: str | None, filter: str | None) -> ImportedTask:
    named = _SAMPLES.match(path.name)
    told = task or (named["task"] if named else "")
    chosen = _of_filter(rows, filter, path.name)
    if not chosen:
        raise DatasetError(f"{path.name} has no lines")
    answers = [_answer(row, f"{path.name} line {number}") for number, row in chosen]
    found = beside(path, named["before"] if named else "", (named["after"] or "") if named else "", told, filter)
    return _imported(found, told, path, answers)


def _imported(found: Beside, task: str, path: Path, answers: Sequence[ImportedAnswer]) -> ImportedTask:
    model = found.model or path.parent.name
    return ImportedTask(found.task or task, model, answers, found.settings, found.metrics, str(path), found.stderr)


def _of_filter(rows: Sequence[Any], filter: str | None, name: str) -> list[tuple[int, Mapping[str, Any]]]:
    """(line, row) of the rows of a filter; all of them where none is asked for."""
    numbered = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DatasetError(f"{name} line {number} is not an lmms-eval sample: it is no JSON object")
        numbered.append((number, row))
    if filter is None:
        return numbered
    there = list(dict.fromkeys(str(row["filter"]) for _, row in numbered if "filter" in row))
    if filter not in there:
        raise DatasetError(f"{name} has no filter {filter!r}; it has {', '.join(there) or 'none at all'}")
    return [(number, row) for number, row in numbered if row.get("filter") == filter]


def _answer(row: Mapping[str, Any], where: str) -> ImportedAnswer:
    if "doc_id" not in row or not ("filtered_resps" in row or "resps" in row):
        raise DatasetError(f"{where} is not an lmms-eval sample: it lacks doc_id, filtered_resps or resps")
    given = row["doc_id"]
    whole = isinstance(given, int) or (isinstance(given, float) and given.is_integer())
    if isinstance(given, bool) or not (whole or (isinstance(given, str) and given.isdecimal())):
        raise DatasetError(f"{where} is not an lmms-eval sample: its doc_id is {given!r}"[:300])
    document = int(given)
    prediction = _only_text(row["filtered_resps"] if "filtered_resps" in row else row["resps"], where)
    question = _first_text(row.get("input")) or _first_text(row.get("arguments"))
    scores = {str(name): value for name, value in row.items() if name not in _BOOKKEEPING}
    key, category = str(row.get("key") or ""), str(row.get("category") or "")
    return ImportedAnswer(document, key, prediction, _target(row.get("target")), question, scores, category)


def _first_text(value: Any) -> str:
    """The prompt: text, or the first of a request's arguments, in lists; "" where it is neither."""
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def _only_text(value: Any, where: str) -> str:
    """The one response, which lmms-eval wraps in up to two lists; several that are equal count as one."""
    texts, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, str):
            texts.append(item)
        else:
            raise DatasetError(f"{where}: a response is {type(item).__name__}, expected text")
    if len(set(texts)) > 1:
        raise DatasetError(f"{where} holds {len(texts)} different responses; one answer a question can be imported")
    if texts and len(texts[0]) > raw.MAX_TEXT:
        raise DatasetError(f"{where}: a response of {len(texts[0])} characters; up to {raw.MAX_TEXT} are read")
    return texts[0] if texts else ""


def _target(value: Any) -> Any:
    """A list of references that was written as text, as JSON (our own files) or by Python's `str` (lmms-eval).

    A bracket alone makes no list: "[5]" is an answer, the text of a list of answers has quotes inside.
    """
    if not isinstance(value, str) or value[:1] not in ("[", "{") or len(value) > MAX_LITERAL:
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        texts = isinstance(found, list) and bool(found) and all(isinstance(item, str | list | dict) for item in found)
        return found if texts or (isinstance(found, dict) and found) else value
    return value


def _without_repeats(found: ImportedTask) -> ImportedTask:
    """Equal repeats of a question (padding of several processes, filters that agree) are one answer, and counted.

    Raises:
        DatasetError: two different answers to one question.
    """
    kept: dict[tuple[Any, ...], ImportedAnswer] = {}
    for number, answer in enumerate(found.answers):
        name: tuple[Any, ...] = ("document", answer.document)
        if answer.document is None:  # where a key is the picture's, the question tells apart; without one it does alone
            name = ("key", answer.key, answer.question) if answer.key else ("row", number)
        first = kept.setdefault(name, answer)
        if _content(first) != _content(answer):
            raise DatasetError(
                f"{Path(found.source).name}: two different answers to {name[0]} {name[1]!r}: "
                f"{_short(first.prediction)} and {_short(answer.prediction)}; choose one with --filter, or remove one"
            )
    return replace(found, answers=list(kept.values()), repeated=len(found.answers) - len(kept))


def _content(answer: ImportedAnswer) -> str:
    return repr((answer.key, answer.prediction, answer.question, answer.scores))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
