"""Files as other tools, spreadsheets and people leave them, as rows of plain values. Knows no tool's columns."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hero_ray.core.errors import DatasetError, MissingExtraError
from hero_ray.core.text import clean

MAX_BYTES = 1 << 30
MAX_UNPACKED_BYTES = 1 << 28
"""An .xlsx is a zip: 200 KB of it can unpack to gigabytes."""
MAX_TEXT = 1_000_000
"""Characters of one cell; real answers stay below 32,767, what Excel can hold."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS = ("\t", ",", ";", "|")

Row = Mapping[str, Any]


def check(path: Path) -> None:
    """Refuse what is no file of a size that can be read. Raises `DatasetError`."""
    try:
        if not path.is_file():
            raise DatasetError(f"{str(path)!r} does not exist; expected lmms-eval's samples or a VLMEvalKit table")
        size = path.stat().st_size
    except (ValueError, OSError) as problem:  # a NUL or half a character in the name, or no permission
        raise DatasetError(f"{str(path)!r} cannot be opened: {problem}") from None
    if size > MAX_BYTES:
        raise DatasetError(f"{path.name} has {size / 2**30:.1f} GiB; files up to {MAX_BYTES >> 30} GiB are read")


def text_of(path: Path, encoding: str | None = None) -> str:
    """A text file, in the encoding its first bytes announce, else UTF-8.

    Which of the older encodings a file has (GBK, Latin-1 ...) cannot be told from it, so it has to be said.

    Raises:
        DatasetError: not this encoding; the message names the line.
    """
    data = path.read_bytes()
    found = encoding or next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(found)
    except LookupError:
        raise DatasetError(f"encoding {found!r} is unknown; write, for example, --encoding gbk") from None
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise DatasetError(
            f"{path.name} line {line} is not {found} text; say which encoding it has, for example --encoding gbk (or "
            "utf-16, latin-1), or save the file as UTF-8"
        ) from None


def json_content(path: Path, encoding: str | None = None) -> Any:
    """A JSON value, its texts such as databases take them.

    Of a file with one JSON value a line it is the list of them (empty lines left out), whatever the file is called.

    Raises:
        DatasetError: neither.
    """
    text = text_of(path, encoding).lstrip("\ufeff")
    try:
        return clean(json.loads(text))
    except RecursionError:
        raise DatasetError(f"{path.name} is nested too deeply to be read") from None
    except ValueError as problem:
        whole = str(problem)
    return list(_json_lines(path, text, whole))


def _json_lines(path: Path, text: str, whole: str) -> Iterator[Any]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise DatasetError(f"{path.name} has no lines")
    for number, line in lines:
        try:
            yield clean(json.loads(line))
        except RecursionError:
            raise DatasetError(f"{path.name} line {number} is nested too deeply to be read") from None
        except ValueError as problem:
            if number == lines[0][0] and path.suffix != ".jsonl":
                raise DatasetError(f"{path.name} is neither JSON nor JSON lines: {whole}") from None
            raise DatasetError(f"{path.name} line {number} is not JSON: {problem}") from None


def separated(path: Path, column: str, encoding: str | None = None) -> list[Row]:
    """Rows of a .tsv or .csv; the separator is the one under which the header has `column`, else that of the ending.

    Raises:
        DatasetError: not text, or no table.
    """
    text = text_of(path, encoding).lstrip("\ufeff")  # what is decoded holds no half characters
    if "\x00" in text:
        raise DatasetError(f"{path.name} holds NUL characters; save it as UTF-8 text, or say --encoding utf-16")
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(2**31 - 1)  # VLMEvalKit tables may hold base64 pictures
    try:
        header = {mark: _header(text, mark) for mark in (usual, *_SEPARATORS)}
        separator = next((mark for mark, names in header.items() if column in names), usual)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        next(lines, None)
        filled = [line for line in lines if any(map(str.strip, line)) and not (separator == "|" and _is_rule(line))]
        return _rows(path, header[separator], filled)
    except csv.Error as problem:
        raise DatasetError(f"{path.name} is no table that can be read: {problem}") from None


def _is_rule(line: Sequence[str]) -> bool:
    """`|---|:--:|`, under the header of a Markdown table."""
    return not "".join(line).strip("-: ")


def _rows(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows by column. A column of the same name or a cell too many would put one text in another's place."""
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DatasetError(f"{path.name} has two columns {twice[0]!r}; rename one")
    for number, line in enumerate(lines, start=1):
        if len(line) < len(header) or any(str(cell or "").strip() for cell in line[len(header) :]):
            raise DatasetError(
                f"{path.name} row {number} has {len(line)} cells and the header {len(header)}; a text that holds the "
                'separator, a quotation mark or a line break has to stand in quotation marks ("...")'
            )
    return [dict(zip(header, line, strict=False)) for line in lines]


def _header(text: str, separator: str) -> list[str]:
    return [tidy(name) for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])]


def number(value: Any) -> float | None:
    """A finite number (booleans are 0 and 1) as a float; None for anything else."""
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:  # JSON's integers have no limit
        return None


def tidy(name: Any) -> str:
    """A column's name as tools write it: `Prediction ` is `prediction`; option letters stay as they are."""
    text = str(name if name is not None else "").strip()
    return text if len(text) == 1 else text.lower()


def sheet(path: Path, texts: Sequence[str]) -> list[Row]:
    """Rows of the first sheet of an .xlsx.

    A cell that begins with `=` is a formula to Excel, and an answer such as "=5" that a tool wrote comes back as the
    formula's value, 0. In the columns `texts` the formula's own text is taken, elsewhere its value.

    Raises:
        DatasetError: no Excel file, or a dangerous one.
        MissingExtraError: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError("openpyxl", "exchange") from error
    _check_zip(path)
    try:
        rows = _cells(openpyxl, path, formulas=True)
        if any(_is_formula(value) for row in rows for name, value in row.items() if name not in texts):
            values = _cells(openpyxl, path, formulas=False)
            rows = [_joined(row, value, texts) for row, value in zip(rows, values, strict=True)]
    except DatasetError:
        raise
    except Exception as problem:  # openpyxl lets whatever its parsers raise through
        raise DatasetError(f"{path.name} is no Excel file that can be read: {problem!r}"[:400]) from None
    found = [{name: clean(_formula_text(value)) for name, value in row.items()} for row in rows]
    return [row for row in found if any(value not in (None, "") for value in row.values())]


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        raise DatasetError(f"{path.name} is no Excel file (.xlsx); save the table as .xlsx, .tsv or .csv") from None
    if unpacked > MAX_UNPACKED_BYTES:
        raise DatasetError(
            f"{path.name} unpacks to {unpacked >> 20} MiB; up to {MAX_UNPACKED_BYTES >> 20} MiB are read"
        )


def _cells(openpyxl: Any, path: Path, formulas: bool) -> list[Row]:
    book = openpyxl.load_workbook(path, read_only=True, data_only=not formulas)
    try:
        lines = book.worksheets[0].iter_rows(values_only=True)
        header = [tidy(cell) for cell in next(lines, ())]
        return _rows(path, header, [(*line, *[None] * (len(header) - len(line))) for line in lines])
    finally:
        book.close()


def _is_formula(value: Any) -> bool:
    return hasattr(value, "ref") or (isinstance(value, str) and value.startswith("="))


def _joined(row: Row, value: Row, texts: Sequence[str]) -> dict[str, Any]:
    taken = {name: row[name] if name in texts else value.get(name) for name in row}
    return {name: row[name] if _is_formula(row[name]) and new is None else new for name, new in taken.items()}


def _formula_text(value: Any) -> Any:
    """An array formula is written `{=A1}`."""
    return "{" + str(value.text) + "}" if hasattr(value, "ref") and hasattr(value, "text") else value
