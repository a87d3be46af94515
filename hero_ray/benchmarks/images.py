"""Bytes to RGB pictures, whatever people put into datasets.

Policies, so that a picture looks here as it does to lmms-eval:
- EXIF orientation is applied, because `datasets` applies it before lmms-eval sees the picture (VLMEvalKit does not:
  pass `exif="ignore"`).
- Alpha is dropped, not blended (`Image.convert("RGB")`); animations give their first frame.
- 16-bit grey is scaled to 8 bits; Pillow alone would clip it to white.
- Truncated data is an error, never a half-grey picture.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from hero_ray.core.errors import ImageError

MAX_PIXELS = 80_000_000
"""Below Pillow's own warning (89 million), above any camera in these datasets."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Decoders we allow; the others include ones that start programs (EPS) or read remote parts."""

DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, MemoryError, OverflowError, RuntimeError,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files; RuntimeError is AVIF's."""

ExifPolicy = Literal["apply", "ignore"]


@cache
def readable_formats() -> tuple[str, ...]:
    """The allowed formats this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def decode(data: bytes, max_pixels: int = MAX_PIXELS, exif: ExifPolicy = "apply") -> Image.Image:
    """A picture from encoded bytes, mode RGB, fully loaded.

    Args:
        data: PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, AVIF or JPEG 2000.
        max_pixels: refuse larger pictures before any pixel is decoded.
        exif: whether the EXIF orientation is applied.

    Raises:
        ImageError: not a picture, truncated, without pixels, or larger than `max_pixels`.
    """
    if not data:
        raise ImageError("the picture is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
            _check_size(image.size, max_pixels)
            image.load()
            oriented = ImageOps.exif_transpose(image) if exif == "apply" else image
            return to_rgb(oriented or image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{error}; the limit here is {max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{len(data)} bytes starting with {data[:8]!r} are not a picture we can read") from error
    except DAMAGE as error:
        raise ImageError(f"damaged or truncated picture ({len(data)} bytes): {error}") from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"the picture is {width} x {height} pixels; expected at least 1 x 1")
    if width * height > max_pixels:
        raise ImageError(f"the picture is {width} x {height} = {width * height} pixels; the limit is {max_pixels}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB."""
    if image.mode == "RGB":
        return image.copy()
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        highest = image.getextrema()[1]
        scale = 1.0 if not isinstance(highest, (int, float)) or highest <= 255 else 1 / 256
        return image.point(lambda value: value * scale + 0).convert("L").convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def encoded_bytes(cell: Any, folder: Path | None = None) -> bytes:
    """Encoded bytes of one dataset cell.

    Args:
        cell: `datasets`' {bytes, path}, raw bytes, a data URL, base64 text, a file path, or a list with exactly one.
        folder: what relative paths are relative to.

    Raises:
        ImageError: the cell holds no picture.
    """
    if isinstance(cell, (list, tuple)):
        if len(cell) != 1:
            raise ImageError(f"expected exactly one picture per row, got {len(cell)}")
        return encoded_bytes(cell[0], folder)
    if isinstance(cell, Mapping):
        data = cell.get("bytes")
        return bytes(data) if data else encoded_bytes(cell.get("path"), folder)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if isinstance(cell, str) and cell:
        return _from_text(cell, folder)
    raise ImageError(f"the row has no picture: expected bytes, a path or a data URL, got {type(cell).__name__}")


def _from_text(text: str, folder: Path | None) -> bytes:
    if text.startswith("data:"):
        return _from_base64(text.partition(",")[2])
    if len(text) < 4096:
        path = (folder or Path()) / text
        try:
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f"picture file {str(path)!r} cannot be read: {error.strerror or error}") from error
    return _from_base64(text)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"not valid base64: {error}") from error


def bytes_key(data: bytes) -> str:
    """Picture key from encoded bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()[:32]


def pixels_key(image: Image.Image) -> str:
    """Picture key from decoded pixels: equal for the same picture in two containers."""
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
    digest.update(image.tobytes())
    return "pixels:" + digest.hexdigest()[:32]
