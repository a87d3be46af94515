"""Row files of sweeps on their way into the database: their columns, and the load.

Files may be loaded any number of times, beside a sweep or after it, by several at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hero_ray.core.errors import RowFileError
from hero_ray.store import Store, bulk, row_files
from hero_ray.store.records import RowFile

FILES_AT_ONCE = 64
ROWS_AT_ONCE = 30_000
"""Rows that one transaction loads, where a single file has no more; below `merge.BLOCK`, the most cuts at once."""
MARK = "run.json"
"""What shows a run's folder to be the one that its driver sees."""

_BY_NAME = {name: pa.string() for name in (*bulk.CUT, *bulk.OWN)} | {
    **dict.fromkeys(("budget_nominal", "n_selected", "n_visual_llm", "n_text", "attempts"), pa.int32()),
    **dict.fromkeys(("equivalent_tokens", "encode_flops", "score", "flops"), pa.float64()),
    "kv_bytes": pa.int64(),
    "keep_mask": pa.binary(),
}
SCHEMA = pa.schema([("cell_id", pa.string()), ("sample_id", pa.string()), *_BY_NAME.items()])
"""Columns of a file: those of the view `predictions`, JSON as text."""


def to_table(batch: bulk.Batch) -> pa.Table:
    """The rows of a unit in the columns of `SCHEMA`."""
    nothing = (None,) * len(bulk.CUT)
    rows = [
        (*key, *(nothing if place is None else batch.cuts[place]), *own) for key, (place, *own) in batch.rows.items()
    ]
    columns = zip(*rows, strict=True) if rows else ((),) * len(SCHEMA)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


@dataclass(frozen=True)
class Loaded:
    """What a load did.

    Attributes:
        lost: what is wrong with files that could not be loaded.
    """

    files: int = 0
    rows: int = 0
    lost: tuple[str, ...] = ()

    def __add__(self, other: Loaded) -> Loaded:
        return Loaded(self.files + other.files, self.rows + other.rows, self.lost + other.lost)


def load(store: Store, run_id: str, unit: str | None = None, folder: Path | None = None, replan: bool = True) -> Loaded:
    """Bring the row files of a run (or of one unit of it) into the database; what is there already stays.

    Args:
        folder: where the sweep's `rows_folder` is seen from here, if elsewhere.
        replan: forget files that are gone or damaged, so that the sweep asks their units again.

    Raises:
        RowFileError: the run's folder is not here. Nothing was changed.
    """
    done, after = Loaded(), 0
    while files := store.read(row_files.waiting, run_id, unit, after, FILES_AT_ONCE):
        after = files[-1].number
        for own in {_place(file, folder).parents[1] for file in files}:
            if not (own / MARK).is_file():
                raise RowFileError(
                    f"{own}, which holds rows of run {run_id}, is not here; mount it, name its folder with --folder, "
                    "or, if it is lost, run the sweep again"
                )
        for some in _portions(files):
            done += _load_some(store, run_id, some, folder, replan)
    return done


def _load_some(store: Store, run_id: str, files: Sequence[RowFile], folder: Path | None, replan: bool) -> Loaded:
    read, lost = dict[int, bulk.Batch](), list[str]()
    for file in files:
        try:
            read[file.number] = _read(file, _place(file, folder))
        except RowFileError as problem:
            if store.read(row_files.waiting, run_id, file.unit_id, file.number - 1, 1)[:1] != [file]:
                continue  # loaded by somebody else meanwhile, who removed it then
            lost.append(str(problem))
            if replan:
                store.transaction(row_files.lose, file)
    good = [file for file in files if file.number in read]
    taken = store.add_rows(row_files.take, run_id, good, read)
    for file in good:
        with suppress(OSError):
            _place(file, folder).unlink(missing_ok=True)
    return Loaded(len(taken), sum(file.n_rows for file in good if file.number in taken), tuple(lost))


def _portions(files: Sequence[RowFile]) -> Iterator[list[RowFile]]:
    some: list[RowFile] = []
    for file in files:
        if some and sum(one.n_rows for one in some) + file.n_rows > ROWS_AT_ONCE:
            yield some
            some = []
        some.append(file)
    if some:
        yield some


def _place(file: RowFile, folder: Path | None) -> Path:
    path = Path(file.path)
    return path if folder is None else folder.joinpath(*path.parts[-3:])


def _read(file: RowFile, path: Path) -> bulk.Batch:
    """The rows of a file, which must be those that were written. Raises RowFileError if it is gone or damaged."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise RowFileError(f"row file {path}: {problem.strerror or type(problem).__name__}") from None
    if len(content) != file.n_bytes or hashlib.sha256(content).hexdigest() != file.sha256:
        raise RowFileError(f"row file {path} is damaged: {len(content)} bytes that are not the {file.n_bytes} written")
    table = pq.read_table(pa.BufferReader(content), schema=SCHEMA)
    if table.num_rows != file.n_rows:
        raise RowFileError(f"row file {path} has {table.num_rows} rows, expected {file.n_rows}")
    batch = bulk.Batch(file.run_id)
    cells, samples, *columns = (column.to_pylist() for column in table.columns)
    cuts = zip(*columns[: len(bulk.CUT)], strict=True)
    own = zip(*columns[len(bulk.CUT) :], strict=True)
    for key, cut, rest in zip(zip(cells, samples, strict=True), cuts, own, strict=True):
        batch.add_told(key, cut, rest)
    return batch
