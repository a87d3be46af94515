"""Pictures that cost far more than their bytes and their pixels let one think are refused by their headers."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, features

from hero_ray.benchmarks.images import MAX_SCANS, MAX_SLOW_BYTES, decode, eight_bits, size_of
from hero_ray.core.errors import ImageError

SERVICE = 40_000_000


def progressive(side: int, scans: int) -> bytes:
    """A grey JPEG of `side` x `side` pixels whose scans beyond the first say nothing, in some 40 bytes each."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 128).save(buffer, "JPEG", progressive=True)
    head = buffer.getvalue().partition(b"\xff\xda")[0]
    blocks = ((side + 7) // 8) ** 2

    def table(place: int, symbol: int) -> bytes:
        return b"\xff\xc4" + struct.pack(">HBB", 20, place, 1) + bytes(15) + bytes([symbol])

    def scan(first: int, data: bytes) -> bytes:
        return b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, first, first, 0]) + data

    bits = "".join("0" + format(min(blocks - at, 32_767) - 16_384, "014b") for at in range(0, blocks, 32_767))
    empty = int(bits.ljust(-len(bits) % 8 + len(bits), "1"), 2).to_bytes((len(bits) + 7) // 8, "big")
    parts = [head, table(0x00, 0), table(0x10, 0xE0), scan(0, bytes((blocks + 7) // 8))]
    parts += [scan(1 + at % 63, empty.replace(b"\xff", b"\xff\x00")) for at in range(scans - 1)]
    return b"".join(parts) + b"\xff\xd9"


def tiff(tags: dict[int, int]) -> bytes:
    """One directory of 32-bit values and no pixels."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def test_scans_are_bounded_for_each_walks_over_all_pixels() -> None:
    """2,000 of them took 12 s for 200 KB of 6300 x 6300 pixels."""
    assert decode(progressive(1024, 60), SERVICE).size == (1024, 1024)
    for reader in (size_of, decode):
        with pytest.raises(ImageError, match=f"{MAX_SCANS + 1} scans"):
            reader(progressive(1024, MAX_SCANS + 1), SERVICE)


@pytest.mark.parametrize("side", [60_000, 2**31])
def test_tiles_are_bounded_as_pictures_are(side: int) -> None:
    """Eight by eight pixels in a tile of 60,000 x 60,000: 3.6 GB for 170 bytes."""
    tags = {256: 8, 257: 8, 258: 8, 259: 5, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 100}
    for reader in (size_of, decode):
        with pytest.raises(ImageError, match="tiles have"):
            reader(tiff(tags), SERVICE)


@pytest.mark.parametrize(
    "data",
    [
        b"P3 1000 500 255\n" + b"250 " * 1_500_000,
        b"P2 2500 1000 255\n" + b"9 " * 2_500_000,
        b"P6 1000 1000 1023\n" + bytes(6_000_000),
    ],
    ids=["colour as text", "grey as text", "ten bits"],
)
def test_what_is_read_by_python_is_small_where_strangers_send_it(data: bytes) -> None:
    """24 MB of P3 took 8.6 s. Datasets may have such files."""
    assert len(data) > MAX_SLOW_BYTES
    with pytest.raises(ImageError, match=f"the limit is {MAX_SLOW_BYTES}"):
        size_of(data, SERVICE)
    assert size_of(b"P3 2 1 255\n1 2 3 4 5 6\n", SERVICE) == (2, 1)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000")
def test_formats_that_take_much_memory_may_have_fewer_pixels() -> None:
    """1 KB of JPEG 2000 with 40 megapixels took 1.2 GB."""
    Image.new("L", (2000, 2000)).save(buffer := io.BytesIO(), "JPEG2000")
    assert size_of(buffer.getvalue(), 16_000_000) == (2000, 2000)
    with pytest.raises(ImageError, match="the limit is 3999999"):
        size_of(buffer.getvalue(), 4 * 3_999_999)
    assert decode(buffer.getvalue(), 4_000_000).size == (2000, 2000)


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_deep_pictures_are_scaled_in_parts_as_in_one(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (1300, 2500)).astype(kind)
    values[-1, -1] = 4095  # what decides the depth stands in the last part
    assert np.array_equal(eight_bits(values), np.floor(values / 16).astype(np.uint8))
    assert eight_bits(np.zeros((0, 3), kind)).shape == (0, 3)
