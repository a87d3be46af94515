"""Bytes to RGB pictures, whatever people put into datasets.

Policies, so that a picture looks here as it does to lmms-eval:
- EXIF orientation is applied, because `datasets` applies it before lmms-eval sees the picture (VLMEvalKit does not:
  pass `exif="ignore"`).
- Alpha is dropped, not blended (`Image.convert("RGB")`); animations give their first frame.
- 16-bit grey and colour is scaled to 8 bits by the depth its values fill (8, 12 or 16); Pillow alone would clip grey to
  white, and take the upper byte of colour, which is black where the values fill 8 bits.
- Truncated data is an error, never a half-grey picture.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from hero_ray.benchmarks.picture_cells import encoded_bytes
from hero_ray.core.errors import ImageError
from hero_ray.core.text import clean

MAX_PIXELS = 80_000_000
"""Below Pillow's own warning (89 million), above any camera in these datasets."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Decoders we allow; the others include ones that start programs (EPS) or read remote parts."""

DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, MemoryError, OverflowError, RuntimeError,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files; RuntimeError is AVIF's."""

MAX_SCANS = 500
"""Of a JPEG: each walks over all pixels, however few bytes it has; files have four to a dozen."""
MAX_SLOW_BYTES = 4 * 2**20
"""Of a picture whose decoder is written in Python, some 0.4 s a megabyte."""
SLOW_DECODERS = ("ppm", "ppm_plain", "bmp_rle")
HEAVY_FORMATS = {"JPEG2000": 4}
"""How much more memory a pixel takes while it is decoded than in other formats."""
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF's tags
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}

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
    with _readable(data, max_pixels) as image:
        raw = _raw_mode(image)
        image.load()
        deep = _of_low_bytes(data, image, raw) if ";16" in raw and image.mode in ("RGB", "RGBA", "RGBX") else image
        oriented = ImageOps.exif_transpose(deep) if exif == "apply" else deep
        return to_rgb(oriented or deep)


def _raw_mode(image: Image.Image) -> str:
    """How the file's bytes make a pixel, "" where Pillow does not say."""
    args = image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _of_low_bytes(data: bytes, image: Image.Image, raw: str) -> Image.Image:
    """16-bit colour whose values fill 12 bits or 8; `image`, the upper bytes that Pillow gave, where they fill 16.

    Pillow gives the lower bytes if told that the other one comes first (of grey with alpha, that its samples are four).
    """
    upper = np.asarray(image)[..., :3]
    if upper.max(initial=0) >= 16:
        return image
    other = "RGBA" if raw.startswith("LA") else raw[:-1] + _OTHER_ORDER[raw[-1]]
    try:
        with Image.open(io.BytesIO(data), formats=readable_formats()) as again:
            again.tile = [one._replace(args=_with_raw_mode(one.args, other)) for one in again.tile]
            again.load()
            lower = np.asarray(again)
    except ValueError:  # a layout that Pillow has in one order only (a TIFF of separate planes)
        return image
    lower = np.repeat(lower[..., 1:2], 3, axis=2) if other == "RGBA" else lower[..., :3]
    found = Image.fromarray((upper << 4) | (lower >> 4) if upper.any() else lower)
    found.getexif().update(image.getexif())  # for the orientation, where Pillow has not applied it (TIFF)
    return found


def _with_raw_mode(args: Any, raw: str) -> Any:
    return (raw, *args[1:]) if isinstance(args, tuple) else raw


def size_of(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) by a picture's header; no pixel is decoded. For pictures of strangers.

    Raises:
        ImageError: not a picture, without pixels, larger than `max_pixels`, or of a kind that takes long per byte or
            much memory per pixel and is too large for that.
    """
    with _readable(data, max_pixels) as image:
        _check_size(image.size, max_pixels // HEAVY_FORMATS.get(str(image.format), 1))
        tiles = getattr(image, "tile", [])  # of files alone; Pillow types it for none
        decoder = str(tiles[0][0]) if tiles else ""
        if decoder in SLOW_DECODERS and len(data) > MAX_SLOW_BYTES:
            raise ImageError(f"{len(data)} bytes of {decoder}, the limit is {MAX_SLOW_BYTES}; send a PNG")
        return image.size


@contextmanager
def _readable(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """A picture whose header has been read; whatever is wrong with it, then or while it is used, is an `ImageError`."""
    if not data:
        raise ImageError("the picture is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
            _check_size(image.size, max_pixels)
            _check_cost(image, data, max_pixels)
            yield image
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


def _check_cost(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Refuse what takes time or memory that its pixels do not explain, before it is decoded."""
    is_jpeg = image.format in ("JPEG", "MPO") or "jpeg" in str(image.info.get("compression"))
    if is_jpeg and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise ImageError(f"the picture has {scans} scans; the limit is {MAX_SCANS}")
    tags = getattr(image, "tag_v2", {})
    tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))
    if tile > max_pixels:
        raise ImageError(f"the picture's tiles have {tile} pixels; the limit is {max_pixels}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB."""
    if image.mode == "RGB":
        return image.copy()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBa", "La", "PA") or (image.mode == "P" and "transparency" in image.info):
        return image.convert("LA" if image.mode == "La" else "RGBA").convert("RGB")
    return image.convert("RGB")


def eight_bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Deeper values as uint8 of the same shape, by the depth that holds the largest of them: 8, 12 or 16 bits.

    A file of 16 bits says nothing of what fills them: X-rays and microscopes use 12, masks 8. Floats up to 1 are
    shares. Beyond 16 bits the largest value becomes white; NaN is black.
    """
    parts = np.array_split(values, max(1, values.size // 2**20))  # in float64 the whole would be eight bytes a pixel
    highest = max(float(_finite(part).max(initial=0.0)) for part in parts)
    if highest <= 1.0 and values.dtype.kind == "f":
        scale = 255.0
    elif highest <= 65_535:
        scale = 1.0 if highest <= 255 else 1 / 16 if highest <= 4095 else 1 / 256
    else:
        scale = 255.0 / highest
    made = np.empty(values.shape, np.uint8)
    for rows, part in zip(np.array_split(made, len(parts)), parts, strict=True):
        rows[...] = np.clip(np.floor(_finite(part) * scale), 0, 255)
    return made


def _finite(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    with np.errstate(invalid="ignore"):  # a signalling NaN warns when it is widened
        return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def picture(source: Any, max_pixels: int = MAX_PIXELS, exif: ExifPolicy = "apply") -> Image.Image:
    """An RGB picture from whatever a program holds; the same picture by every way in.

    Args:
        source: a PIL image, a path, a data URL, encoded bytes, or a numpy array [H, W], [H, W, 1], [H, W, 3] or
            [H, W, 4].

    Raises:
        ImageError: no such file, or not a usable picture.
    """
    if isinstance(source, Image.Image):
        return _opened(source, max_pixels, exif)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, (str, os.PathLike)):
        source = os.fspath(source)
    if not isinstance(source, (str, bytes, bytearray, memoryview)):
        raise ImageError(
            f"{type(source).__name__} is not a picture; give a PIL image, a path, encoded bytes or a numpy array"
        )
    shown = clean(source[:200]) if isinstance(source, str) else f"{len(source)} bytes"
    try:
        return decode(encoded_bytes(source), max_pixels, exif)
    except ImageError as error:
        raise ImageError(f"{shown} is not a usable picture: {error}") from error


def _opened(image: Image.Image, max_pixels: int, exif: ExifPolicy) -> Image.Image:
    _check_size(image.size, max_pixels)
    try:
        oriented = ImageOps.exif_transpose(image) if exif == "apply" else image
        return to_rgb(oriented or image)
    except DAMAGE as error:
        raise ImageError(f"a picture of mode {image.mode} cannot be used: {error}") from error


def _from_array(values: np.ndarray[Any, Any], max_pixels: int) -> Image.Image:
    plain = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if plain.dtype.kind not in "buif" or not (plain.ndim == 2 or (plain.ndim == 3 and plain.shape[2] in (3, 4))):
        raise ImageError(
            f"an array of shape {list(values.shape)} and {values.dtype} is not a picture; expected numbers of "
            "[height, width] or [height, width, 1, 3 or 4]"
        )
    _check_size((plain.shape[1], plain.shape[0]), max_pixels)
    if plain.dtype.kind == "f" and not (np.isfinite(plain).all() and plain.min() >= 0):
        raise ImageError(
            f"an array of {values.dtype} with negative, NaN or infinite values is not a picture; undo what normalised "
            "it, and give values from 0 to 1 or to 255"
        )
    deep = plain * np.uint8(255) if plain.dtype.kind == "b" else plain
    return to_rgb(Image.fromarray(deep if deep.dtype == np.uint8 else eight_bits(deep)))


def bytes_key(data: bytes) -> str:
    """Picture key from encoded bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()[:32]


def pixels_key(image: Image.Image) -> str:
    """Picture key from decoded pixels: equal for the same picture in two containers."""
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
    digest.update(image.tobytes())
    return "pixels:" + digest.hexdigest()[:32]
