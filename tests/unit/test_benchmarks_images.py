"""Whatever people put into datasets becomes an RGB picture or a named error."""

from __future__ import annotations

import base64
import contextlib
import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hero_ray.benchmarks.images import bytes_key, decode, encoded_bytes, pixels_key, to_rgb
from hero_ray.core.errors import ImageError


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gradient(width: int = 8, height: int = 6) -> Image.Image:
    values = np.linspace(0, 255, width * height * 3).astype(np.uint8).reshape(height, width, 3)
    return Image.fromarray(values)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG"])
def test_common_formats(form: str) -> None:
    image = decode(encoded(gradient(), form))
    assert (image.mode, image.size) == ("RGB", (8, 6))


def test_lossless_pixels_are_kept() -> None:
    assert decode(encoded(gradient())).tobytes() == gradient().tobytes()


def test_exif_orientation_is_applied_unless_told_otherwise() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    data = encoded(gradient(), "JPEG", exif=exif)
    assert decode(data).size == (6, 8)
    assert decode(data, exif="ignore").size == (8, 6)


def test_cmyk() -> None:
    image = decode(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = image.getpixel((1, 1))
    assert red > 200
    assert green < 60
    assert blue < 60


def test_palette_with_transparency() -> None:
    image = Image.new("P", (3, 3), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert decode(encoded(image, transparency=b"\xff\x80")).getpixel((0, 0)) == (10, 200, 30)


def test_alpha_is_dropped_not_blended() -> None:
    assert decode(encoded(Image.new("RGBA", (2, 2), (9, 8, 7, 0)))).getpixel((0, 0)) == (9, 8, 7)
    assert decode(encoded(Image.new("LA", (2, 2), (50, 0)))).getpixel((0, 0)) == (50, 50, 50)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(form: str) -> None:
    values = np.array([[0, 128 * 256], [200 * 256 + 255, 65535]], dtype=np.uint16)
    image = decode(encoded(Image.fromarray(values), form))
    assert [image.getpixel((x, y))[0] for y in (0, 1) for x in (0, 1)] == [0, 128, 200, 255]


def test_other_modes() -> None:
    assert to_rgb(Image.new("1", (2, 2), 1)).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("I", (2, 2), 255)).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("I", (2, 2), 65535)).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("F", (2, 2), 100.0)).getpixel((0, 0)) == (100, 100, 100)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).getpixel((2, 2)) == (255, 0, 0)


def test_one_pixel() -> None:
    assert decode(encoded(Image.new("RGB", (1, 1), (1, 2, 3)))).getpixel((0, 0)) == (1, 2, 3)


def test_thirty_megapixels() -> None:
    assert decode(encoded(Image.new("L", (6000, 5000), 7), compress_level=1)).size == (6000, 5000)


def test_too_many_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(ImageError, match=r"10 x 10 = 100 pixels; the limit is 99"):
        decode(encoded(Image.new("L", (10, 10))), max_pixels=99)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_decompression_bombs_are_refused(side: int) -> None:
    header = encoded(Image.new("1", (8, 8)))
    bomb = bytearray(header)
    bomb[16:24] = side.to_bytes(4, "big") * 2
    with pytest.raises(ImageError):
        decode(bytes(bomb))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_files_are_errors(form: str) -> None:
    noise = Image.frombytes("RGB", (40, 40), random.Random(0).randbytes(4800))
    data = encoded(noise, form)
    with pytest.raises(ImageError):
        decode(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_picture_is_an_error(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damaged_bytes_never_crash(form: str) -> None:
    good = encoded(gradient(16, 16), form)
    dice = random.Random(form)
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(4):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        with contextlib.suppress(ImageError):
            assert decode(bytes(bad)).mode == "RGB"


def test_cells_of_every_kind(tmp_path: Path) -> None:
    data = encoded(gradient())
    (tmp_path / "a.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    for cell in (
        data,
        {"bytes": data, "path": None},
        {"bytes": None, "path": "a.png"},
        [{"bytes": data, "path": "x"}],
        "a.png",
        f"data:image/png;base64,{text}",
    ):
        assert encoded_bytes(cell, tmp_path) == data


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (None, "no picture"),
        ({"bytes": None, "path": None}, "no picture"),
        ([], "exactly one picture per row, got 0"),
        (3, "got int"),
        ("missing.png", "cannot be read"),
        ("data:image/png;base64,!!!", "base64"),
    ],
)
def test_cells_without_a_picture(cell: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=says):
        encoded_bytes(cell, tmp_path)


def test_keys_tell_pictures_apart() -> None:
    png, bmp, other = encoded(gradient()), encoded(gradient(), "BMP"), encoded(gradient(6, 8))
    assert bytes_key(png) != bytes_key(bmp)
    assert pixels_key(decode(png)) == pixels_key(decode(bmp)) != pixels_key(decode(other))
