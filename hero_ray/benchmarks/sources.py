"""Where a benchmark's rows come from: a hub dataset, a local folder or a file.

Order of search: `data=PATH` as asked; `$HERO_RAY_DATA/<benchmark>`; then the hub ids, first one that exists. Hub data
comes at one commit: the `datasets` library (extra `hub`) says which files a configuration's split is, and they lie in
the hub's cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hero_ray.benchmarks.tables import JsonlTable, ParquetTable, RowTable
from hero_ray.core import hub
from hero_ray.core.errors import DatasetError, HubError, MissingExtraError

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


def open_source(name: str, source: Source, data: str | Path | None = None, cache: Path | None = None) -> RowTable:
    """The table behind a source.

    Args:
        name: benchmark, for messages and for `$HERO_RAY_DATA/<name>`.
        source: what to look for.
        data: file or folder that replaces the hub.
        cache: folder for datasets that are not Parquet on the hub and have to be converted.

    Raises:
        DatasetError: nothing found, or columns are missing.
        MissingExtraError: the hub is needed and `datasets` is not installed.
    """
    local = data or _from_environment(name)
    table = open_path(Path(local), source.config, source.split) if local else open_hub(name, source, cache)
    check_columns(name, table, (*source.columns, *source.also, *([source.image] if source.image else [])))
    return table


def _from_environment(name: str) -> Path | None:
    root = os.environ.get(DATA_FOLDER)
    if not root:
        return None
    folder = Path(root) / name
    return folder if folder.exists() else None


def open_path(path: Path, config: str | None = None, split: str = "test") -> RowTable:
    """A local file (`.parquet`, `.jsonl`) or a folder in a hub repository's layout.

    Raises:
        DatasetError: no such path, or no Parquet of that split inside.
    """
    if path.is_file():
        if path.suffix in (".jsonl", ".json", ".ndjson"):
            return JsonlTable(path)
        if path.suffix in (".parquet", ".pq"):
            return ParquetTable([path])
        raise DatasetError(f"{str(path)!r} is not a .jsonl or .parquet file")
    if not path.is_dir():
        raise DatasetError(f"{str(path)!r} does not exist; expected a .parquet or .jsonl file, or a folder of Parquet")
    files = split_files(path, config, split)
    if not files:
        found = sorted(str(p.relative_to(path)) for p in path.rglob("*.parquet"))[:8]
        where = f"{config}/{split}" if config else split
        raise DatasetError(f"no Parquet of {where!r} in {str(path)!r}; it holds {found or 'no Parquet files'}")
    return ParquetTable(files)


def split_files(folder: Path, config: str | None, split: str) -> list[Path]:
    """Parquet files of a split in a hub-like folder: those that its card names, else `[config/]split-*.parquet`,
    `[config|data/]split.parquet`, ..."""
    if files := _by_card(folder, config, split):
        return files
    roots = [folder / config, folder / "data" / config] if config else []
    roots += [folder, folder / "data", folder / "default"]
    for root in roots:
        for pattern in (f"{split}-*.parquet", f"{split}.parquet", f"{split}/*.parquet"):
            files = sorted(root.glob(pattern))
            if files:
                return files
    if config:
        files = sorted((folder / config).glob("*.parquet"))
        if files:
            return files
    alone = sorted(folder.glob("*.parquet"))
    return alone if len(alone) == 1 else []


def _by_card(folder: Path, config: str | None, split: str) -> list[Path]:
    """What the front matter of a repository's README says of a split; nothing where it says nothing or cannot be read.

    `configs` is a list of {config_name, data_files}, `data_files` a list of {split, path}, each path one pattern or
    several.
    """
    import yaml

    try:
        front = (folder / "README.md").read_text(encoding="utf-8").split("---\n")[1]
        configs = yaml.safe_load(front)["configs"]
        asked = [one for one in configs if one["config_name"] == (config or "default") or len(configs) == 1]
        parts = [part["path"] for one in asked for part in one["data_files"] if part["split"] == split]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return []
    patterns = [pattern for part in parts for pattern in ([part] if isinstance(part, str) else part)]
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    return found if all(path.suffix == ".parquet" for path in found) else []


def check_columns(name: str, table: RowTable, wanted: Sequence[str]) -> None:
    """Refuse a dataset that lacks what the benchmark reads.

    Raises:
        DatasetError: naming the missing columns and those that are there.
    """
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise DatasetError(f"{name}: the dataset lacks column(s) {missing}; it has {list(table.columns)}")


def open_hub(name: str, source: Source, cache: Path | None = None) -> RowTable:
    """A split of the first hub id that exists, at one commit; from the cache where the hub cannot be reached.

    Raises:
        DatasetError: none of the ids exists, the one that does has no such split, or it cannot be fetched.
    """
    failures = []
    for hub_id in source.ids:
        try:
            return ParquetTable(_hub_files(hub_id, source, cache))
        except HubError as error:
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


def _hub_files(hub_id: str, source: Source, cache: Path | None) -> list[Path]:
    found: list[str] = []
    converted: list[Path] = []
    if Path(hub_id).is_dir():
        listed = _listed(hub_id, source, None, cache, converted)
        return converted or list(map(Path, listed))

    def rest(folder: Path) -> list[str]:
        note = folder.parent.parent / "hero_ray" / f"{folder.name}-{source.config or 'default'}-{source.split}.json"
        if note.is_file():  # looked up before: no one need be asked again, and no one can be without a hub
            found.extend(json.loads(note.read_text(encoding="utf-8")))
            return found
        names = _listed(hub_id, source, folder.name, cache, converted)
        if not converted:
            note.parent.mkdir(parents=True, exist_ok=True)
            partial = note.with_suffix(f".{os.getpid()}.part")
            partial.write_text(json.dumps(names), encoding="utf-8")
            partial.replace(note)
        found.extend(names)
        return names

    folder = hub.snapshot("dataset", hub_id, ["README.md", ".gitattributes"], rest)
    return converted or [folder / name for name in found]


def _listed(hub_id: str, source: Source, commit: str | None, cache: Path | None, converted: list[Path]) -> list[str]:
    """Names of a split's Parquet files at a commit, paths where `hub_id` is a folder; what is not Parquet is put into
    `converted` as Parquet."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "hub") from error
    try:
        builder = datasets.load_dataset_builder(hub_id, source.config, revision=commit)
        files = [str(file) for file in (builder.config.data_files or {}).get(source.split) or []]
        if files and not all(file.endswith(".parquet") for file in files):
            converted.append(_converted(datasets, builder, hub_id, source, commit, cache))
            return []
    except Exception as error:  # the library raises its own and its transport's errors
        first = str(error).splitlines()[0] if str(error) else ""
        raise DatasetError(f"{type(error).__name__}: {first}") from error
    if not files:
        raise DatasetError(f"no split {source.split!r}")
    return files if commit is None else [file.partition(f"@{commit}/")[2] for file in files]


def _converted(
    datasets: Any, builder: Any, hub_id: str, source: Source, commit: str | None, cache: Path | None
) -> Path:
    """A dataset in another format, written once as Parquet with the pictures still encoded."""
    folder = (cache or Path(datasets.config.HF_DATASETS_CACHE) / "hero_ray") / hub_id.replace("/", "--")
    target = folder / f"{source.config or 'default'}-{source.split}-{builder.hash or 'local'}.parquet"
    if not target.exists():
        data = datasets.load_dataset(hub_id, source.config, split=source.split, revision=commit)
        for column, feature in data.features.items():
            if isinstance(feature, datasets.Image):
                data = data.cast_column(column, datasets.Image(decode=False))
        # Cells of a folder of pictures are paths on this machine; other nodes, and the fingerprint, need the bytes.
        data = data.with_format("arrow").map(datasets.table.embed_table_storage, batched=True, batch_size=256)
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.part")
        data.to_parquet(str(partial))
        partial.replace(target)
    return target
