"""Where a picture's bytes are: in the cell, behind a path, or written out as base64."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hero_ray.core.errors import ImageError

MAX_BYTES = 512 * 2**20
"""Of one file; beyond any picture of `MAX_PIXELS`, and below what a node's memory minds."""

_LONGEST_PATH = 4096
_STARTS = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+",
    b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51", *(b"P%d" % kind for kind in range(1, 8)),
)  # fmt: skip
"""How the formats we read begin; WebP and AVIF say so further in."""


def encoded_bytes(cell: Any, folder: Path | None = None, allow_outside: bool = False) -> bytes:
    """Encoded bytes of one dataset cell.

    Args:
        cell: `datasets`' {bytes, path}, raw bytes, a data URL, base64 text, a file path, or a list with exactly one.
        folder: what relative paths are relative to, and what no path may leave; None for a path that the user typed.
        allow_outside: paths may leave `folder` after all.

    Raises:
        ImageError: the cell holds no picture, or one that may not be read.
    """
    if isinstance(cell, (list, tuple)):
        if len(cell) != 1:
            raise ImageError(
                f"expected exactly one picture per row, got {len(cell)}; these model families take one per question"
            )
        return encoded_bytes(cell[0], folder, allow_outside)
    if isinstance(cell, Mapping):
        data = cell.get("bytes")
        return _plain_bytes(data) if data else encoded_bytes(cell.get("path"), folder, allow_outside)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if isinstance(cell, str) and cell.strip():
        return _from_text(cell, folder, allow_outside)
    raise ImageError(f"the row has no picture: expected bytes, a path or a data URL, got {type(cell).__name__}")


def file_of(cell: Any, folder: Path) -> Path | None:
    """The file that a cell names; None where the picture is in the cell, or the file is not there."""
    if isinstance(cell, (list, tuple)):
        return file_of(cell[0], folder) if len(cell) == 1 else None
    if isinstance(cell, Mapping):
        return None if cell.get("bytes") else file_of(cell.get("path"), folder)
    if not isinstance(cell, str) or not cell.strip() or cell[:5].lower() == "data:":
        return None
    text = unquote(cell[7:].removeprefix("localhost")) if cell[:7].lower() == "file://" else cell
    return _path(text, folder) if _is_there(text, folder) else None


def _plain_bytes(data: Any) -> bytes:
    """The `bytes` of a record: bytes, or what JSON has instead of them."""
    if isinstance(data, str):
        return _from_base64(data.partition(",")[2] if data[:5].lower() == "data:" else data)
    try:
        return bytes(data) if not isinstance(data, int) else bytes([data])
    except (TypeError, ValueError) as error:
        raise ImageError(f"`bytes` holds {type(data).__name__}; expected bytes, or base64 in JSON") from error


def _from_text(text: str, folder: Path | None, allow_outside: bool) -> bytes:
    if text[:5].lower() == "data:":
        return _from_base64(text.partition(",")[2])
    if text[:7].lower() == "file://":
        return _from_file(unquote(text[7:].removeprefix("localhost")), folder, allow_outside)
    if "://" in text[:12]:
        raise ImageError(f"{_shown(text)} is a URL, and none is ever fetched; download the picture and give its path")
    if _is_there(text, folder):
        return _from_file(text, folder, allow_outside)
    # A text that is no file and decodes to what begins like a picture is base64; no limit of length tells them apart.
    try:
        data = _from_base64(text)
    except ImageError:
        if len(text) > _LONGEST_PATH:
            raise
        return _from_file(text, folder, allow_outside)
    if data.startswith(_STARTS) or data[8:12] == b"WEBP" or data[4:8] == b"ftyp":
        return data
    if len(text) > _LONGEST_PATH:
        raise ImageError(f"base64 of {len(data)} bytes that begin like no picture")
    return _from_file(text, folder, allow_outside)


def _from_base64(text: str) -> bytes:
    """Base64 as tools print it: wrapped into lines, with or without padding, in either alphabet."""
    bare = "".join(text.split()).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"not valid base64: {error}") from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _is_there(text: str, folder: Path | None) -> bool:
    try:
        return len(text) <= _LONGEST_PATH and os.path.exists(_path(text, folder))
    except (OSError, ValueError):
        return False


def _path(text: str, folder: Path | None) -> Path:
    """The path a text means; backslashes are separators where no file has them in its name."""
    path = (folder or Path()) / text
    return path if "\\" not in text or os.path.exists(path) else (folder or Path()) / text.replace("\\", "/")


def _from_file(text: str, folder: Path | None, allow_outside: bool) -> bytes:
    try:
        path = _path(text, folder)
        real = path.resolve()
        if folder is not None and not allow_outside and not real.is_relative_to(folder.resolve()):
            raise ImageError(
                f"picture file {_shown(text)} lies outside the data's folder; move it there, or allow it with "
                "--allow-outside (allow_outside: true in a sweep file)"
            )
        if not stat.S_ISREG(real.stat().st_mode):  # before a byte is read: a pipe would wait and a device never end
            raise ImageError(f"picture file {_shown(text)} is a folder, a pipe or a device, not a file")
        with real.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ImageError(f"picture file {_shown(text)} cannot be read: {why}") from error
    if len(data) > MAX_BYTES:
        raise ImageError(f"picture file {_shown(text)} is larger than {MAX_BYTES // 2**20} MiB")
    return data
