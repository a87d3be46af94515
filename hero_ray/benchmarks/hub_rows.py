"""A benchmark's rows from the hub, at one commit.

The `datasets` library (extra `hub`) says which files a configuration's split is; they lie in the hub's cache, and what
it said is noted there, so that nobody is asked again. Where only the first documents are wanted, only the files that
hold them are fetched.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hero_ray.benchmarks.tables import ParquetTable, RowTable
from hero_ray.core import hub
from hero_ray.core.errors import DatasetError, HubError, MissingExtraError
from hero_ray.core.hub_errors import said, status_of, why

DATA_FOLDER = "HERO_RAY_DATA"


@dataclass(frozen=True)
class Source:
    """A dataset on the hub.

    Attributes:
        ids: hub ids, the one to try first in front.
        config: configuration name; None for the only one.
        split: split of the rows.
        columns: columns the benchmark reads; their absence is an error at load time.
        image: the column with the picture; None where another source holds the pictures.
        rows: how many rows the full split has, None where not confirmed.
        also: columns that must exist but are read on demand only.
    """

    ids: tuple[str, ...]
    split: str
    columns: tuple[str, ...]
    config: str | None = None
    image: str | None = "image"
    rows: int | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """The first documents of a benchmark, all that a limit asks for.

    Attributes:
        documents: how many.
        count: how many a table has of them.
    """

    documents: int
    count: Callable[[RowTable], int]

    def files(self, files: Sequence[Path], have: Callable[[Sequence[Path]], None] = lambda more: None) -> list[Path]:
        """The fewest leading files that hold the documents; at least one.

        Args:
            have: told the files that are to be read next, so that they are there.
        """
        done = ready = found = 0
        while done < len(files) and (not done or found < self.documents):
            if done == ready:  # as many as would be needed if each held as much as those so far, and never more
                more = max(1, (self.documents - found) * done // max(1, found)) if found else 1
                have(files[done : done + more])
                ready = min(len(files), done + more)
            found += self.count(ParquetTable([files[done]]))
            done += 1
        return list(files[:done])


def open_hub(name: str, source: Source, cache: Path | None = None, head: Head | None = None) -> RowTable:
    """A split of the first hub id that exists, at one commit; from the cache where the hub cannot be reached.

    Raises:
        DatasetError: none of the ids exists, the one that does has no such split, it cannot be fetched, or
            (`hub.looking`) it is not at hand.
    """
    failures = []
    for hub_id in source.ids:
        try:
            return ParquetTable(_files(hub_id, source, cache, head))
        except HubError as error:
            if error.unfetched:
                raise DatasetError(f"{name} is not fetched yet ({error})") from error
            failures.append(str(error))
            if not error.absent:  # only an id that does not exist may mean another one
                break
        except DatasetError as error:
            failures.append(f"{hub_id}: {error}")
            break
    raise DatasetError(
        f"{name}: its hub dataset could not be read ({'; '.join(failures)}). Without network, download the "
        f"repository elsewhere and pass data=FOLDER, or set {DATA_FOLDER} to a folder that holds {name}/"
    )


def _files(hub_id: str, source: Source, cache: Path | None, head: Head | None) -> list[Path]:
    if Path(hub_id).is_dir():
        found = _Split(hub_id, source, None, cache)
        files = [found.converted()] if found.other else list(map(Path, found.files))
        return files if head is None else head.files(files)
    folder = hub.snapshot("dataset", hub_id, ["README.md", ".gitattributes"], lambda folder: ())
    commit = folder.name
    note = folder.parent.parent / "hero_ray" / f"{commit}-{source.config or 'default'}-{source.split}.json"
    names = _noted(note)
    if names is None:
        split = _Split(hub_id, source, commit, cache)
        if split.other:
            hub.fetch("dataset", hub_id, commit, split.files)  # by us: in parallel, with its size and progress
        names = [str(split.converted())] if split.other else split.files
        _keep(note, names)
    if Path(names[0]).is_absolute():
        return [Path(names[0])]

    def have(files: Sequence[Path]) -> None:
        hub.fetch("dataset", hub_id, commit, [file.relative_to(folder).as_posix() for file in files])

    files = [folder / name for name in names]
    if head is None:
        have(files)
        return files
    if hub.is_looking():
        # Only fetched files tell how many rows they hold; as a card's rows are spread, files are about alike.
        share = head.documents / source.rows if source.rows else 1.0
        have(files[: max(1, min(len(files), math.ceil(share * len(files))))])
    return head.files(files, have)


def _noted(note: Path) -> list[str] | None:
    """The files of a split as looked up before; None where nobody has, or what was converted then is gone."""
    if not note.is_file():
        return None
    names: list[str] = json.loads(note.read_text(encoding="utf-8"))
    return None if any(Path(name).is_absolute() and not Path(name).is_file() for name in names) else names


def _keep(note: Path, names: Sequence[str]) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(names), encoding="utf-8")
    partial.replace(note)


class _Split:
    """What the `datasets` library finds of a split.

    Attributes:
        files: names in the repository at a commit, paths where it is a folder.
        other: they are not Parquet.
    """

    def __init__(self, hub_id: str, source: Source, commit: str | None, cache: Path | None) -> None:
        try:
            import datasets
        except ImportError as error:
            raise MissingExtraError("datasets", "hub") from error
        self.library, self.hub_id, self.source, self.commit, self.cache = datasets, hub_id, source, commit, cache
        try:
            self.builder = datasets.load_dataset_builder(hub_id, source.config, revision=commit)
            listed = [str(file) for file in (self.builder.config.data_files or {}).get(source.split) or []]
        except Exception as error:  # the library raises its own and its transport's errors
            raise _told(error, hub_id) from error
        if not listed:
            raise DatasetError(f"no split {source.split!r}")
        self.other = not all(file.endswith(".parquet") for file in listed)
        self.files = listed if commit is None else [file.partition(f"@{commit}/")[2] for file in listed]

    def converted(self) -> Path:
        """A dataset in another format, written once as Parquet with the pictures still encoded."""
        library, source = self.library, self.source
        folder = self.cache or Path(library.config.HF_DATASETS_CACHE) / "hero_ray"
        name = f"{source.config or 'default'}-{source.split}-{self.builder.hash or 'local'}.parquet"
        target = folder / self.hub_id.replace("/", "--") / name
        if target.exists():
            return target
        try:
            data = library.load_dataset(self.hub_id, source.config, split=source.split, revision=self.commit)
            for column, feature in data.features.items():
                if isinstance(feature, library.Image):
                    data = data.cast_column(column, library.Image(decode=False))
            # Cells of a folder of pictures are paths on this machine; other nodes, and the fingerprint, need the bytes.
            data = data.with_format("arrow").map(library.table.embed_table_storage, batched=True, batch_size=256)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f".{os.getpid()}.part")
            data.to_parquet(str(partial))
            partial.replace(target)
        except Exception as error:  # as above
            raise _told(error, self.hub_id) from error
        return target


def _told(error: Exception, hub_id: str) -> Exception:
    """What the library raised: the hub's fault in our words, else the library's first line."""
    if status_of(error) is not None or said(error, "ConnectError", "TimeoutException", "OfflineModeIsEnabled"):
        return HubError(why(error, "dataset", hub_id))
    first = str(error).splitlines()[0] if str(error) else ""
    return DatasetError(f"{type(error).__name__}: {first}")
