"""Rows on disk: Parquet and JSONL files read as streams, one cell at a time where pixels are concerned.

A table opens its files lazily and never pickles a handle, so a benchmark object stays cheap to send to a worker.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from hero_ray.core.errors import DatasetError
from hero_ray.core.text import clean

Locator = list[int] | int
"""Where a row is: [file, row group, row in group] of Parquet, byte offset of JSONL. JSON-able."""

BATCH_ROWS = 256
BATCH_BYTES = 64 * 2**20
"""Rows of large cells come in smaller batches: 256 pictures of 8K as text would be gigabytes."""
GROUP_CACHE_BYTES = 256 * 2**20
_WHOLE_FILE_BYTES = 64 * 2**20
_PROBES, _PROBE_BYTES = 16, 2**20


class RowTable(Protocol):
    """A streamable table."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names."""
        ...

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[Locator, dict[str, Any]]]:
        """Every row in file order, only the named columns."""
        ...

    def cell(self, locator: Locator, column: str) -> Any:
        """One cell."""
        ...

    def fingerprint(self) -> str:
        """Content hash."""
        ...


class ParquetTable:
    """One or more Parquet files of equal layout, in the given order."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(map(Path, files))

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files}

    @cached_property
    def _open(self) -> list[Any]:
        import pyarrow
        import pyarrow.parquet as parquet

        opened = []
        for path in self.files:
            try:
                opened.append(parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20))
            except (OSError, pyarrow.ArrowInvalid) as error:
                raise DatasetError(f"cannot read Parquet {str(path)!r}: {error}") from error
        return opened

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._open[0].schema_arrow.names)

    @property
    def num_rows(self) -> int:
        return sum(file.metadata.num_rows for file in self._open)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[Locator, dict[str, Any]]]:
        for number, file in enumerate(self._open):
            for group in range(file.num_row_groups):
                at = 0
                for batch in self._batches(number, group, columns):
                    # Column-wise conversion of a whole batch would hold every picture twice.
                    for row in range(batch.num_rows):
                        cells = {name: batch.column(i)[row].as_py() for i, name in enumerate(batch.schema.names)}
                        cells = clean(cells)
                        yield [number, group, at], cells
                        at += 1

    def _batches(self, number: int, group: int, columns: Sequence[str]) -> Iterator[Any]:
        """A row group's columns, a bounded part at a time."""
        file = self._open[number]
        meta = file.metadata.row_group(group)
        parts = [meta.column(i) for i in range(meta.num_columns)]
        size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in columns)
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES * max(1, meta.num_rows) // max(1, size)))
        with _reading(self.files[number]):
            yield from file.iter_batches(rows, row_groups=[group], columns=list(columns))

    def cell(self, locator: Locator, column: str) -> Any:
        if isinstance(locator, int):
            raise DatasetError(f"row {locator} is not [file, row group, row] of {self.files[0].name}: the data changed")
        number, group, row = locator
        if not (0 <= number < len(self._open) and 0 <= group < self._open[number].num_row_groups):
            raise DatasetError(f"row {locator} is outside {[path.name for path in self.files]}: the data changed")
        chunk = self._group(number, group, column)
        if chunk is None:
            return self._scan(number, group, row, column)
        if not 0 <= row < len(chunk):  # a file that lost its end under an open reader gives no rows and no error
            raise DatasetError(f"row {row} is outside row group {group} of {self.files[number].name}: the data changed")
        return chunk[row].as_py()

    def _group(self, number: int, group: int, column: str) -> Any:
        """A row group's column, kept because rows are asked for in order; None when too large to keep."""
        cached = self.__dict__.get("_cached")
        if cached is not None and cached[0] == (number, group, column):
            return cached[1]
        meta = self._open[number].metadata.row_group(group)
        if meta.total_byte_size > GROUP_CACHE_BYTES:
            return None
        with _reading(self.files[number]):
            table = self._open[number].read_row_group(group, columns=[column])
        chunk = table.column(0).combine_chunks() if table.num_rows else table.column(0)
        self.__dict__["_cached"] = ((number, group, column), chunk)
        return chunk

    def _scan(self, number: int, group: int, row: int, column: str) -> Any:
        """A cell of a row group too large to keep: the scan goes on from where the last one stopped, since rows are
        asked for in order, and begins anew where one is asked for again."""
        place, at, batch, rest = self.__dict__.pop("_scanning", (None, 0, None, None))
        if place != (number, group, column) or row < at:
            at, batch, rest = 0, None, self._batches(number, group, [column])
        while batch is None or row >= at + batch.num_rows:
            at += 0 if batch is None else batch.num_rows
            batch = next(rest, None)
            if batch is None:
                name = self.files[number].name
                raise DatasetError(f"row {row} is outside row group {group} of {name}: the data changed")
        self.__dict__["_scanning"] = ((number, group, column), at, batch, rest)
        return batch.column(0)[row - at].as_py()

    def fingerprint(self) -> str:
        return fingerprint(self.files)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Damage inside a file, or its loss, as an error of the data: no fault of the row that was asked for."""
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DatasetError(f"{str(path)!r} cannot be read any more: {str(error).splitlines()[0]}") from error


class JsonlTable:
    """One JSON object per line; blank lines are skipped."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.files = (self.path,)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        for _, row in self.rows(()):
            return tuple(row)
        raise DatasetError(f"{str(self.path)!r} has no rows")

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[Locator, dict[str, Any]]]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise DatasetError(f"cannot read {str(self.path)!r}: {error.strerror or error}") from error
        with file:
            offset = 0
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield offset, self._parse(line, number)
                offset += len(line)

    def _parse(self, line: bytes, number: int | str) -> dict[str, Any]:
        try:
            row = clean(json.loads(line))
        except RecursionError as error:
            raise DatasetError(f"{self.path.name} line {number} is nested too deeply") from error
        except ValueError as error:
            raise DatasetError(f"{self.path.name} line {number} is not JSON: {_why(line, error)}") from error
        if not isinstance(row, dict):
            what = type(row).__name__
            raise DatasetError(f"{self.path.name} line {number} is a JSON {what}; expected one object per line")
        return row

    def cell(self, locator: Locator, column: str) -> Any:
        if not isinstance(locator, int):
            raise DatasetError(f"row {locator} is not a byte offset of {self.path.name}: the data changed")
        with _reading(self.path), self.path.open("rb") as file:
            file.seek(locator)
            return self._parse(file.readline(), f"at byte {locator}").get(column)

    def fingerprint(self) -> str:
        return fingerprint(self.files, whole=True)


def _why(line: bytes, error: ValueError) -> str:
    if line.lstrip().startswith(b"["):
        return "it begins a list over several lines; write one object per line"
    if isinstance(error, UnicodeDecodeError) or b"\x00" in line:
        return "it is not UTF-8 text; save the file as UTF-8"
    return str(error)


def fingerprint(files: Sequence[Path], whole: bool = False) -> str:
    """Content hash of files in order, names left out; the same for a hub copy and a local one.

    Files above 64 MiB are probed: their size, their end (a Parquet footer, which holds the statistics and offsets of
    every page) and sixteen spread blocks of 1 MiB. Hashing 7 GB of pictures at every start costs more than it tells.

    Args:
        whole: probe none: a format without such a footer may differ in a few bytes anywhere.
    """
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{size}:".encode())
        with path.open("rb") as file:
            if whole or size <= _WHOLE_FILE_BYTES:
                while block := file.read(_PROBE_BYTES):
                    digest.update(block)
                continue
            for probe in range(_PROBES):
                file.seek(probe * (size - _PROBE_BYTES) // (_PROBES - 1))
                digest.update(file.read(_PROBE_BYTES))
    return digest.hexdigest()[:16]
