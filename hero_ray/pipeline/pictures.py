"""The small copy of a picture that pages show."""

from __future__ import annotations

import io
from concurrent.futures import Future
from typing import Any

from PIL import Image

from hero_ray.core.plan import Unit
from hero_ray.store.records import ImageRecord

THUMBNAIL_EDGE = 384


def picture_record(unit: Unit, image: Future[Any] | None) -> list[ImageRecord]:
    """Size and WebP copy of a unit's picture; empty where the picture could not be read."""
    if image is None or image.exception() is not None:
        return []
    picture: Image.Image = image.result()
    copy = picture.copy()
    copy.thumbnail((THUMBNAIL_EDGE, THUMBNAIL_EDGE))
    buffer = io.BytesIO()
    copy.convert("RGB").save(buffer, "WEBP", quality=85)
    return [ImageRecord(unit.image_key, picture.width, picture.height, buffer.getvalue())]
