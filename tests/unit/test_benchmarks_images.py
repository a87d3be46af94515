"""Whatever people put into datasets becomes an RGB picture or a named error."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import random
import struct
import textwrap
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hero_ray.benchmarks.images import bytes_key, decode, picture, pixels_key, to_rgb
from hero_ray.benchmarks.picture_cells import encoded_bytes
from hero_ray.core.errors import ImageError
from hero_ray.engine.vlm import open_picture


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


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("value", "shown"), [(200, 200), (255, 255), (256, 16), (2752, 172), (4095, 255), (4096, 16), (65535, 255)]
)
def test_sixteen_bits_are_read_by_the_depth_that_fills_them(form: str, value: int, shown: int) -> None:
    image = Image.fromarray(np.full((4, 4), value, np.uint16))
    assert decode(encoded(image, form)).getpixel((1, 1)) == (shown,) * 3
    assert open_picture(image).getpixel((1, 1)) == (shown,) * 3
    assert open_picture(np.full((4, 4), value, np.uint16)).getpixel((1, 1)) == (shown,) * 3


def deep_png(values: np.ndarray[Any, Any], orientation: int = 1) -> bytes:
    """A PNG of 16-bit samples [H, W, channels], which Pillow reads and does not write."""
    kind = {2: 4, 3: 2, 4: 6}[values.shape[2]]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    exif = Image.Exif()
    exif[0x0112] = orientation
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", head), (b"eXIf", exif.tobytes()[6:]), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def deep_tiff(values: np.ndarray[Any, Any], order: str) -> bytes:
    """An uncompressed TIFF of 16-bit samples [H, W, 3], in either byte order."""
    height, width, _ = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    at = 8 + 2 + 9 * 12 + 4
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, at),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, at + 6),
    ]
    tags += [(277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(pixels))]
    entries = b"".join(
        struct.pack(f"{order}HHIHH", tag, kind, count, value, 0) if kind == 3 and count == 1
        else struct.pack(f"{order}HHII", tag, kind, count, value)
        for tag, kind, count, value in tags
    )  # fmt: skip
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + struct.pack(f"{order}IHHH", 0, 16, 16, 16) + pixels


@pytest.mark.parametrize("kind", ["LA", "RGB", "RGBA", "TIFF <", "TIFF >"])
@pytest.mark.parametrize(
    ("value", "shown"), [(200, 200), (255, 255), (256, 16), (2752, 172), (4095, 255), (4096, 16), (65535, 255)]
)
def test_sixteen_bit_colour_is_read_by_the_depth_that_fills_it(kind: str, value: int, shown: int) -> None:
    """8-bit content of a 16-bit colour file came out black, 12-bit content at a sixteenth."""
    values = np.zeros((3, 4, {"LA": 2, "RGBA": 4}.get(kind, 3)), np.uint16)
    values[1, 2] = value
    if kind in ("LA", "RGBA"):
        values[..., -1] = 40_000  # alpha is no depth
    image = decode(deep_tiff(values, kind[-1]) if kind.startswith("TIFF") else deep_png(values))
    assert (image.mode, image.size) == ("RGB", (4, 3))
    assert [image.getpixel(at) for at in ((2, 1), (1, 1))] == [(shown,) * 3, (0, 0, 0)]


def test_sixteen_bit_colour_keeps_its_channels_and_its_orientation() -> None:
    values = np.zeros((2, 3, 3), np.uint16)
    values[0, 0] = 16, 1600, 4095
    assert decode(deep_png(values)).getpixel((0, 0)) == (1, 100, 255)
    turned = decode(deep_png(values, orientation=6))
    assert (turned.size, turned.getpixel((1, 0))) == ((2, 3), (1, 100, 255))
    assert decode(deep_png(values, orientation=6), exif="ignore").size == (3, 2)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_arrays_that_were_normalised_are_refused(bad: float) -> None:
    values = np.full((4, 4, 3), 0.5, np.float32)
    values[0, 0, 0] = bad
    with pytest.raises(ImageError, match="undo what normalised it"):
        open_picture(values)
    assert open_picture(np.full((4, 4, 3), 0.5, np.float32)).getpixel((0, 0)) == (127,) * 3


def phone(orientation: int, form: str = "JPEG") -> tuple[bytes, Image.Image]:
    """80 x 40, left half red, right half blue, and how it looks upright under orientation 6."""
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (40, 0, 80, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, form, exif=exif, **({"quality": 95} if form == "JPEG" else {})), image


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_the_same_by_every_way_in(form: str, orientation: int, tmp_path: Path) -> None:
    data, _ = phone(orientation, form)
    (tmp_path / "phone").write_bytes(data)
    expected = decode(data)
    assert expected.size == ((40, 80) if orientation >= 5 else (80, 40))
    with Image.open(tmp_path / "phone") as lazy:
        ways = [str(tmp_path / "phone"), tmp_path / "phone", data, bytearray(data), np.asarray(expected), lazy]
        for way in ways:
            assert open_picture(way).tobytes() == expected.tobytes()
    assert expected.getpixel((5, 5))[0] > 200 or expected.getpixel((5, 5))[2] > 200


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("none.png", r"none.png is not a usable picture: .* cannot be read: No such file"),
        (b"not a picture at all" * 1000, "^20000 bytes is not a usable picture"),
        (np.zeros((3, 8, 8)), r"shape \[3, 8, 8\]"),
        (np.zeros((0, 8)), "0 pixels|8 x 0"),
        (np.array(["a"]), "is not a picture"),
        (7, "int is not a picture"),
        (None, "NoneType is not a picture"),
        ("/dev/zero", "a pipe or a device"),
        (".", "cannot be read|a folder"),
        ("a\x00b", "cannot be read"),
        ("https://example.org/a.png", "is a URL"),
    ],
)
def test_what_is_no_picture_is_one_line_at_the_front_door(source: object, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        open_picture(source)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 600


def test_the_front_door_has_the_limits_of_a_sweep() -> None:
    large = Image.new("1", (9_800, 9_800))
    for way in (encoded(large, compress_level=1), large):
        with pytest.raises(ImageError, match=r"96040000 pixels|limit"):
            open_picture(way)
    with pytest.raises(ImageError, match="not a picture we can read"):
        open_picture(encoded(gradient(), "PCX"))


@pytest.mark.parametrize("values", [np.linspace(0, 1, 48).reshape(6, 8), np.ones((6, 8), bool), np.zeros((6, 8, 4))])
def test_arrays_of_shares_and_of_truth(values: np.ndarray) -> None:
    image = picture(values)
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert image.getpixel((7, 5))[0] == int(255 * values.reshape(6, 8, -1)[5, 7, 0])


MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "RGBX",
    "RGBa",
    "La",
    "I;16",
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(mode=st.sampled_from(MODES), size=st.tuples(st.integers(1, 9), st.integers(1, 9)), data=st.binary(max_size=400))
def test_any_mode_becomes_rgb_or_is_named(mode: str, size: tuple[int, int], data: bytes) -> None:
    blank = Image.new(mode, size)
    room = len(blank.tobytes())
    image = Image.frombytes(
        mode, size, (data * (room // max(1, len(data)) + 1) or bytes(room))[:room].ljust(room, b"\0")
    )
    with contextlib.suppress(ImageError):
        assert (picture(image).mode, picture(image).size) == ("RGB", size)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    st.one_of(st.text(max_size=40), st.binary(max_size=40), st.none(), st.floats(), st.lists(st.integers(), max_size=3))
)
def test_any_cell_is_bytes_or_named(cell: object) -> None:
    for form in (cell, [cell], {"bytes": cell, "path": None}, {"bytes": None, "path": cell}, {"path": cell}):
        with contextlib.suppress(ImageError):
            assert isinstance(encoded_bytes(form, Path("/nowhere")), bytes)


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


@pytest.mark.parametrize("side", [4, 64, 200])
def test_base64_of_any_length_and_however_it_is_wrapped(side: int, tmp_path: Path) -> None:
    data = encoded(Image.frombytes("RGB", (side, side), random.Random(0).randbytes(3 * side * side)))
    for form in (data, encoded(gradient(), "JPEG"), encoded(gradient(), "WEBP"), encoded(gradient(), "BMP")):
        text = base64.b64encode(form).decode()
        wrapped = "\n".join(textwrap.wrap(text, 76))
        for cell in (
            text,
            wrapped,
            base64.encodebytes(form).decode(),
            f"data:image/png;base64,{wrapped}",
            text.rstrip("="),
        ):
            assert encoded_bytes(cell, tmp_path) == form
            assert encoded_bytes({"bytes": cell, "path": "x.png"}, tmp_path) == form
        assert encoded_bytes(base64.urlsafe_b64encode(form).decode(), tmp_path) == form


def test_a_file_whose_name_decodes_is_a_file(tmp_path: Path) -> None:
    name = base64.b64encode(b"GIF89abcd").decode()
    (tmp_path / name).write_bytes(b"here")
    assert encoded_bytes(name, tmp_path) == b"here"


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}"])
def test_file_urls_and_backslashes(form: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.png").write_bytes(b"here")
    assert encoded_bytes(form.format(str(tmp_path / "in" / "a%20b.png")), tmp_path) == b"here"
    assert encoded_bytes(".\\in\\a b.png", tmp_path) == b"here"


def test_a_path_stays_in_the_folder_unless_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "in").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"root:x:0")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "in" / "a").write_bytes(b"here")
    assert encoded_bytes("in/../in/a", folder) == encoded_bytes(str(folder / "in" / "a"), folder) == b"here"
    for text in (
        "../secret",
        str(tmp_path / "secret"),
        "link",
        "in/../../secret",
        f"file://{tmp_path}/secret",
        "/etc/passwd",
    ):
        for cell in (text, {"bytes": None, "path": text}, [text]):
            with pytest.raises(ImageError, match=r"lies outside the data's folder.*--allow-outside") as caught:
                encoded_bytes(cell, folder)
            assert "root:x" not in str(caught.value)
    assert encoded_bytes("../secret", folder, allow_outside=True) == b"root:x:0"


def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for text in ("pipe", "/dev/zero", "/dev/stdin"):
        with pytest.raises(ImageError, match=r"a pipe or a device|cannot be read"):
            encoded_bytes(text, tmp_path, allow_outside=True)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ({"bytes": "no base64!", "path": None}, "not valid base64"),
        ({"bytes": ["x"], "path": None}, "`bytes` holds list"),
        ({"bytes": {"a": 1}}, "`bytes` holds dict"),
        ("http://example.org/a.png", "is a URL"),
        ("x" * 5000, "begin like no picture"),
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
