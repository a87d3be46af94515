"""Our own secrets: out of the environment, out of a folder of files, or as a driver handed them to its workers.

An environment is inherited by every child and shown by many tools, so a Ray that is started here gets none of `NAMES`
in its own. A folder is what containers mount secrets as: one file a name, nothing in it but the value.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hero_ray.core.errors import ConfigError

FOLDER = "HERO_RAY_SECRETS"
WORKERS = ("PGPASSWORD", "HERO_RAY_JUDGE_KEY", "HERO_RAY_ENDPOINT_TOKEN")
"""What workers and jobs use beside the database's URL, which is part of their orders."""
NAMES = (*WORKERS, "HERO_RAY_DB", "HERO_RAY_TOKENS", "HERO_RAY_WEBHOOK", "HERO_RAY_READER_PASSWORD")
_handed: dict[str, str] = {}


def secret_of(name: str) -> str:
    """A secret: handed over, else of the environment, else of the file of that name in `HERO_RAY_SECRETS`; "" if none.

    Raises:
        ConfigError: the folder is not there, or the file cannot be read.
    """
    if given := _handed.get(name) or os.environ.get(name):
        return given
    if not (folder := os.environ.get(FOLDER)):
        return ""
    if not Path(folder).is_dir():
        raise ConfigError(f"{FOLDER} is {folder!r}, which is no folder; it holds one file for each secret")
    try:
        return (Path(folder) / name).read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:  # nobody is told more than they need
        return ""
    except (OSError, UnicodeDecodeError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8"
        raise ConfigError(f"{name} of {FOLDER} cannot be read: {what}") from None


def for_workers() -> dict[str, str]:
    """What a driver hands to its workers."""
    return {name: value for name in WORKERS if (value := secret_of(name))}


def hand_over(values: Mapping[str, str]) -> None:
    """In a worker: take what the driver gave. It stays in this process' memory."""
    _handed.update(values)


@contextmanager
def written(values: Mapping[str, str]) -> Iterator[Path]:
    """A folder of secrets that this account alone may read, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hero_ray_"))  # 0700
    try:
        for name, value in values.items():
            with open(
                os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(value)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
