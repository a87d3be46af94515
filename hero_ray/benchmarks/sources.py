"""Where a benchmark's rows come from: a hub dataset, a local folder or a file.

Order of search: `data=PATH` as asked; `$HERO_RAY_DATA/<benchmark>`; then the hub ids, first one that exists
(`hub_rows`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hero_ray.benchmarks.hub_rows import DATA_FOLDER, Head, Source, open_hub
from hero_ray.benchmarks.tables import JsonlTable, ParquetTable, RowTable
from hero_ray.core.errors import DatasetError

__all__ = ["DATA_FOLDER", "Head", "Source", "check_columns", "open_path", "open_source", "split_files"]


def open_source(
    name: str, source: Source, data: str | Path | None = None, cache: Path | None = None, head: Head | None = None
) -> RowTable:
    """The table behind a source.

    Args:
        name: benchmark, for messages and for `$HERO_RAY_DATA/<name>`.
        source: what to look for.
        data: file or folder that replaces the hub.
        cache: folder for datasets that are not Parquet on the hub and have to be converted.
        head: only as many of the source's Parquet files as its first documents lie in.

    Raises:
        DatasetError: nothing found, or columns are missing.
        MissingExtraError: the hub is needed and `datasets` is not installed.
    """
    local = data or _from_environment(name)
    table = open_path(Path(local), source.config, source.split) if local else open_hub(name, source, cache, head)
    if local and head is not None and isinstance(table, ParquetTable):
        table = ParquetTable(head.files(table.files))
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
