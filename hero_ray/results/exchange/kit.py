"""Prediction tables: VLMEvalKit's, LLaVA's answers, and such as people write by hand; one row per question."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hero_ray.core.errors import DatasetError
from hero_ray.results.exchange import raw
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask

TEXTS = ("prediction", "answer", "question", "category", *string.ascii_uppercase)
"""Columns whose cells are text whatever they look like."""
_NAMES = {
    "prediction": ("prediction", "text"),  # LLaVA's scripts say `text`, and `prompt` for the question
    "question": ("question", "prompt", "query"),
    "index": ("index", "question_id"),
    "picture": ("image_path", "imgname", "image"),
}
"""Our names of columns, and what other tools call them."""
SCORES = ("hit", "score")
"""What VLMEvalKit adds to a table once it has judged it; its figure (MME's, POPE's) need not be their mean."""
_LONGEST_NAME = 260
"""Of a picture; longer cells are the picture itself, as base64."""


def is_table(row: Mapping[str, Any]) -> bool:
    """Whether a row has answers in it: a `prediction`, or LLaVA's `text` beside its `prompt`."""
    return "prediction" in row or {"text", "prompt"} <= row.keys()


def read(path: Path, rows: Sequence[raw.Row], task: str | None) -> ImportedTask:
    """`{model}_{dataset}.xlsx` (or .tsv ...); what follows the data set in the name (`_auxmatch`) is no matter.

    Raises:
        DatasetError: no `prediction` column, or nothing that tells the questions apart.
    """
    if not rows or not is_table(rows[0]):
        found = [name for name in rows[0] if name] if rows else "no rows"
        raise DatasetError(f"{path.name}: a VLMEvalKit table has a column 'prediction'; found {found}")
    names = {ours: next((name for name in theirs if name in rows[0]), ours) for ours, theirs in _NAMES.items()}
    if not {names["index"], names["question"]} & rows[0].keys():
        raise DatasetError(f"{path.name} has neither `index` nor `question`, so its answers belong to no question")
    model, named = _named(path.stem)
    letters = _letters(rows)
    answers = [_answer(row, names, letters, f"{path.name} row {number}") for number, row in enumerate(rows, start=1)]
    return ImportedTask(task or named, _text(rows[0].get("model_id")) or model, answers, source=str(path))


def _named(stem: str) -> tuple[str, str]:
    """(model, data set) of `{model}_{dataset}[_more]`: the last known data set in the name, the longest of several.

    A name that holds no known data set is a model's.
    """
    found = []
    for name in _dataset_names():
        for match in re.finditer(rf"(?:^|_){re.escape(name)}(?=_|$)", stem, re.IGNORECASE):
            place = match.end() - len(name)
            found.append((match.end(), len(name), stem[: max(place - 1, 0)], stem[place : match.end()]))
    if not found:
        return stem, ""
    _, _, model, dataset = max(found)
    return model, dataset


def _dataset_names() -> list[str]:
    from hero_ray.benchmarks import get_class, names

    return [name for primary in names() for name in (primary, *get_class(primary).aliases)]


def _letters(rows: Sequence[raw.Row]) -> list[str]:
    """The columns A, B, C ... that hold options, without a gap."""
    have: list[str] = []
    for letter in string.ascii_uppercase:
        if letter not in rows[0]:
            break
        have.append(letter)
    return have


def _answer(row: Mapping[str, Any], names: Mapping[str, str], letters: Sequence[str], where: str) -> ImportedAnswer:
    prediction = _text(_alone(row.get(names["prediction"]), where))
    if len(prediction) > raw.MAX_TEXT:
        raise DatasetError(f"{where}: a prediction of {len(prediction)} characters; up to {raw.MAX_TEXT} are read")
    options = {name: row[name] for name in letters if row.get(name) not in (None, "")}
    scores = {name: value for name in SCORES if (value := _number(row.get(name))) is not None}
    key = re.sub(r"^(\d+)\.0+$", r"\1", _text(row.get(names["index"])).strip())  # pandas writes 1.0 once one is missing
    # LLaVA's question_id is the picture's where a data set has no other (MME, TextVQA).
    picture = _text(row.get(names["picture"])) or (key if names["index"] == "question_id" else "")
    return ImportedAnswer(
        document=None,
        key=key,
        prediction=prediction,
        target=_text(row.get("answer")),
        question=_text(row.get(names["question"])),
        scores={**scores, **({"options": options} if options else {})},
        category=_text(row.get("category")),
        picture=picture if len(picture) <= _LONGEST_NAME else "",
    )


def _alone(value: Any, where: str) -> Any:
    """A prediction, out of the list of one that some scripts write."""
    if isinstance(value, list) and len(value) == 1:
        return _alone(value[0], where)
    if isinstance(value, list | Mapping):
        raise DatasetError(f"{where}: the prediction is a {type(value).__name__}, expected one text")
    return value


def _number(value: Any) -> float | None:
    try:
        return float(value) if value not in (None, "") else None
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    """A cell as text: whole floats as integers, nothing (and pandas' NaN) as ""."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
