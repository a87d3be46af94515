"""What a folder of weights hashes to; nothing is loaded, and no torch is needed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_digests: dict[tuple[str, int, int], str] = {}


def revision(folder: Path) -> str:
    """SHA-256 over all safetensors files of a folder and its sub-folders, by name and content.

    A hub snapshot links to blobs named by their own hash, which is taken as is; other files are hashed once per
    (path, modification time, size) and process.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        whole.update(f"{path.relative_to(folder).as_posix()}={_digest(path)}\n".encode())
    return whole.hexdigest()


def _digest(path: Path) -> str:
    real = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", real.name):
        return real.name
    facts = real.stat()
    key = (str(real), facts.st_mtime_ns, facts.st_size)
    if key not in _digests:
        with real.open("rb") as stream:
            _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]
