"""Rows of large sweeps as Parquet files on shared storage, and how they come into the database.

A worker writes the rows of a unit to a file of its own (`FOLDER/RUN/xx/UNIT-ATTEMPT-....parquet`, complete or not there
at all) and tells the database its hash, so that the database sees a few statements a unit, however many answers it has.
`row_loading.load` brings files in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from hero_ray.core.errors import ConfigError, RowFileError
from hero_ray.core.types import Prediction, Sample
from hero_ray.pipeline.row_loading import MARK, load, to_table
from hero_ray.store import ImageRecord, Store, answers, bulk, row_files
from hero_ray.store.engine import parse_url, sqlite_path
from hero_ray.store.records import RowFile

if TYPE_CHECKING:
    from hero_ray.pipeline.facts import Plan

OUTSIDE_FROM = 1_000_000
"""Planned answers from which on `rows: auto` writes files, where it was told a folder."""


def folder_of(plan: Plan, store: Store) -> Path | None:
    """Where a sweep's rows go until they are loaded; None for straight into the database.

    Raises:
        ConfigError: files were asked for, and there is no folder for them.
    """
    config = plan.config
    given = Path(config.rows_folder).absolute() if config.rows_folder else None
    if config.rows == "auto":
        large = sum(plan.expected.values()) >= OUTSIDE_FROM and config.until == "all"
        return given if large else None
    if config.rows == "database" or given is not None:
        return None if config.rows == "database" else given
    if (path := sqlite_path(parse_url(store.url))) is None:
        raise ConfigError("`rows: parquet` needs `rows_folder`: a folder that every node of the cluster sees")
    return Path(f"{path.absolute()}.rows")


def run_folder(folder: Path, run_id: str) -> Path:
    """A run's own part of a folder."""
    plain = re.fullmatch(r"[\w-][\w.-]*", run_id)
    return folder / (run_id if plain else hashlib.sha256(run_id.encode()).hexdigest()[:24])


def begin(store: Store, run_id: str, folder: Path | None, say: Callable[[str], None]) -> None:
    """Make a run's folder, with a mark by which workers know that it is the same one.

    Args:
        folder: None for rows straight into the database; what an earlier execution left in files is loaded first.

    Raises:
        RowFileError: it cannot be made or written, or files are not here.
    """
    if folder is None:
        for lost in load(store, run_id).lost:
            say(f"{lost}; its picture is asked again")
        return
    own = run_folder(folder, run_id)
    try:
        own.mkdir(parents=True, exist_ok=True)
        (own / MARK).write_text(json.dumps({"run_id": run_id}), encoding="utf-8")
    except OSError as problem:
        raise _unwritable(own, problem) from None


def _unwritable(path: Path, problem: OSError) -> RowFileError:
    why = problem.strerror or type(problem).__name__
    return RowFileError(f"rows cannot be written to {path}: {why}; make room, or give another `rows_folder`")


class RowWriter:
    """Writes the units of one worker.

    Raises:
        RowFileError: the folder is not the one that the driver sees.
    """

    def __init__(self, store: Store, run_id: str, folder: Path, main_metrics: Mapping[str, str]) -> None:
        self._store, self._run_id, self._folder = store, run_id, run_folder(folder, run_id)
        self._main_metrics = main_metrics
        if not (self._folder / MARK).is_file():
            raise RowFileError(
                f"{self._folder} of the sweep's driver is not here; `rows_folder` must be a folder that every node sees"
            )
        self._cells = store.read(bulk.cell_numbers, run_id)

    def done(self, unit: str, samples: Sequence[str]) -> dict[str, set[str]]:
        """`answers.done_cells` of a unit, whose own files are loaded first; spared where nobody began it."""
        if not self._store.read(answers.is_begun, self._run_id, [unit]):
            return {}
        load(self._store, self._run_id, unit=unit)
        return self._store.read(answers.done_cells, self._run_id, samples)

    def write(
        self,
        unit: str,
        attempt: int,
        predictions: Sequence[Prediction],
        images: Sequence[ImageRecord],
        questions: int,
    ) -> None:
        """Commit all that was missing of a unit: first a file, then what the database knows of it.

        Args:
            questions: how many the unit has.
        """
        samples = list({id(p.sample): p.sample for p in predictions}.values())
        batch = bulk.Batch.of(self._run_id, predictions, samples, self._main_metrics)
        settled = questions if all(p.error_type in (None, *answers.PERMANENT) for p in predictions) else None
        self.tell(self.keep(unit, attempt, batch), batch, samples, images, settled)

    def keep(self, unit: str, attempt: int, batch: bulk.Batch) -> RowFile:
        """Write the file of a unit, of which the database knows nothing yet."""
        name = hashlib.sha256(unit.encode()).hexdigest()[:20]
        path = self._folder / name[:2] / f"{name}-{attempt}-{uuid.uuid4().hex[:8]}.parquet"
        digest, size = _keep(path, to_table(batch))
        return RowFile(0, self._run_id, unit, str(path), len(batch.rows), size, digest)

    def tell(
        self,
        file: RowFile,
        batch: bulk.Batch,
        samples: Sequence[Sample],
        images: Sequence[ImageRecord],
        settled: int | None,
    ) -> None:
        """`store.row_files.add`, behind the unit's other files."""
        note = (file, batch, self._cells, samples, images, settled)
        try:
            self._store.transaction(row_files.add, *note)
        except bulk.SeenBefore:  # of a worker that was given up for dead
            load(self._store, self._run_id, unit=file.unit_id)
            self._store.transaction(row_files.add, *note)


def _keep(path: Path, table: pa.Table) -> tuple[str, int]:
    """Write a file that is complete once it has its name; its SHA-256 and bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue()
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as problem:
        part.unlink(missing_ok=True)
        raise _unwritable(path.parent, problem) from None
    return hashlib.sha256(content).hexdigest(), content.size


def finish(store: Store, run_id: str, folder: Path | None) -> None:
    """Load all that waits of a run that nobody else works on, and clear its folder away.

    Raises:
        RowFileError: some files are gone or damaged; their units are asked again by the same sweep.
    """
    done = load(store, run_id)
    if done.lost:
        raise RowFileError(
            f"{len(done.lost)} row files could not be loaded ({done.lost[0]}); run the same command again to answer "
            "their pictures anew"
        )
    store.transaction(row_files.forget_loaded, run_id)
    if folder is not None:
        shutil.rmtree(run_folder(folder, run_id), ignore_errors=True)


def folders(store: Store, run_ids: Sequence[str]) -> set[Path]:
    """Folders of runs of which row files are not loaded."""
    return {Path(file.path).parents[1] for run_id in run_ids for file in store.read(row_files.waiting, run_id)}
