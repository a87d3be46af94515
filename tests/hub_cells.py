"""What made-up rows of hub datasets are made of: column types and a picture."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
from PIL import Image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXT, INT = pa.string(), pa.int64()
TEXTS = pa.list_(pa.string())


def picture(number: int, size: tuple[int, int] = (48, 40), form: str = "PNG") -> dict[str, Any]:
    """A striped picture; equal numbers give equal bytes."""
    width, height = size
    pixels = bytes(
        (x * 5 + number * 40, y * 6, 255 * ((x // 8 + y // 8 + number) % 2))[c] % 256
        for y in range(height)
        for x in range(width)
        for c in range(3)
    )
    buffer = io.BytesIO()
    Image.frombytes("RGB", size, pixels).save(buffer, form)
    return {"bytes": buffer.getvalue(), "path": f"{number}.{form.lower()}"}
