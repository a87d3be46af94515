"""Kept tokens drawn over the picture the model saw."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("plotly")

from hero_ray.results import masks


def test_bits_are_unpacked_thumbnail_first() -> None:
    keep = np.zeros((5, 2, 3), dtype=bool)
    keep[0, 0, 1] = keep[4, 1, 2] = True
    geometry = (2, 2, 2, 3)
    again = masks.unpack(np.packbits(keep.reshape(-1)).tobytes(), geometry)
    assert (again == keep).all()
    stitched = masks.mosaic(again, geometry)
    assert stitched.shape == (4, 6)
    assert list(zip(*np.nonzero(stitched), strict=True)) == [(3, 5)]


def test_a_mask_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bits cannot cover 5 views of 2 x 3"):
        masks.unpack(b"\x00\x00", (2, 2, 2, 3))


def test_a_picture_of_its_own_resolution_is_one_view_of_its_aspect() -> None:
    keep = np.zeros((4, 9), dtype=bool)
    keep[1, 2] = keep[3, 8] = True
    packed = np.packbits(keep.reshape(-1)).tobytes()
    [panel] = masks.panels(Image.new("RGB", (180, 80)), (180, 80), packed, (0, 0, 4, 9), "qwen2.5-vl", "#ff0000")
    assert (panel.kept, panel.total, panel.image.size) == (2, 36, (masks.EDGE, round(masks.EDGE * 80 / 180)))
    colours = [panel.image.getpixel((round(masks.EDGE * place / 9) + 1, panel.image.height // 4)) for place in (2, 4)]
    assert colours[0] == (255, 0, 0) != colours[1]  # the outline of the token in the second row and third column


def test_padding_is_left_out_as_the_model_leaves_it_out() -> None:
    """A 3:2 picture on a 2 x 2 canvas of 6 x 6 tokens shows on 8 of 12 rows, as `unpadded` says."""
    from hero_ray.models.geometry import unpadded

    rows, columns = masks.edges((12, 12), (240, 160), fitted=True)
    seen_rows, seen_columns = unpadded((160, 240), (12, 12))
    assert list(np.flatnonzero(np.diff(rows) > 1e-9)) == list(range(12))[seen_rows]
    assert list(np.flatnonzero(np.diff(columns) > 1e-9)) == list(range(12))[seen_columns]
    assert rows[2] == 0
    assert rows[10] == 160
    assert np.allclose(np.diff(rows)[2:10], 20)


def test_internvl_stretches_the_picture_to_the_grid() -> None:
    rows, columns = masks.edges((4, 8), (100, 300), fitted=False)
    assert list(rows) == [0, 75, 150, 225, 300]
    assert columns[-1] == 100


def test_kept_tokens_stay_as_they_are_and_dropped_ones_fade() -> None:
    picture = Image.new("RGB", (masks.EDGE, masks.EDGE), (200, 0, 0))
    keep = np.zeros((2, 2, 2), dtype=bool)
    keep[0, 0, 0] = True
    keep[1, 1, 1] = True
    packed = np.packbits(keep.reshape(-1)).tobytes()
    thumbnail, tiles = masks.panels(picture, (560, 560), packed, (1, 1, 2, 2), "llava-next", "#00FF00")
    assert thumbnail.image.getpixel((100, 100)) == (200, 0, 0)
    assert thumbnail.image.getpixel((400, 100)) != (200, 0, 0)
    assert thumbnail.image.getpixel((0, 0)) == (0, 255, 0)
    assert tiles.image.getpixel((400, 400)) == (200, 0, 0)
    assert (tiles.kept, tiles.total, tiles.per_tile) == (1, 4, (1,))


def test_a_single_view_has_no_tiles_panel() -> None:
    packed = np.packbits(np.ones(4, dtype=bool)).tobytes()
    (view,) = masks.panels(Image.new("RGB", (40, 20)), (0, 0), packed, (0, 0, 2, 2), "llava-1.5", "#00FF00")
    assert view.kept == 4
