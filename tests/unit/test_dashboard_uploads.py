"""A picture that a visitor uploads is decoded as a sweep decodes it, by the same formats and limits."""

from __future__ import annotations

import pytest
from PIL import Image

from dashboard import trial
from hero_ray.benchmarks.images import decode
from hero_ray.core.errors import ImageError
from tests.unit.test_benchmarks_images import encoded, gradient, phone


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_uploads_are_upright_and_the_same_picture(orientation: int) -> None:
    data, _ = phone(orientation)
    assert trial.open_upload(data).tobytes() == decode(data).tobytes()


@pytest.mark.parametrize("form", ["PCX", "ICO", "TGA"])
def test_decoders_beyond_the_list_are_not_started(form: str) -> None:
    with pytest.raises(ImageError, match="not a picture we can read"):
        trial.open_upload(encoded(gradient(), form))


def test_large_uploads_are_refused_before_a_pixel_is_decoded() -> None:
    with pytest.raises(ImageError, match="the limit is 16000000"):
        trial.open_upload(encoded(Image.new("1", (8_000, 6_000)), compress_level=1))
