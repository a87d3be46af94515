"""Picture cutting against transformers' own arithmetic: index tensors only, no model runs."""

import random

import pytest
import torch
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

from hero_ray.core.layout import NEWLINE
from hero_ray.models.geometry import (
    anyres_layout,
    best_canvas,
    single_layout,
    smaller_sides,
    tile_grid,
    tiled_layout,
)

PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def random_sizes(count: int) -> list[tuple[int, int]]:
    draw = random.Random(7)
    return [(draw.randint(8, 2500), draw.randint(8, 2500)) for _ in range(count)]


def stock_sequence(size: tuple[int, int], side: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """What `pack_image_features` does, on token ids instead of features."""
    rows, columns = get_anyres_image_grid_shape(size, PINPOINTS, 336)
    ids = torch.arange(side * side, (rows * columns + 1) * side * side).view(rows, columns, side, side)
    mosaic = ids.permute(0, 2, 1, 3).flatten(0, 1).flatten(1, 2)
    seen = unpad_image(mosaic[None], size)[0]
    newline = torch.full((seen.shape[0], 1), NEWLINE)
    return torch.cat([torch.arange(side * side), torch.cat([seen, newline], 1).flatten()]), (rows, columns)


def test_anyres_equals_stock_on_600_random_sizes():
    for size in random_sizes(600):
        expected, grid = stock_sequence(size, 24)
        canvas = best_canvas(size, [tuple(p) for p in PINPOINTS])
        assert (canvas[0] // 336, canvas[1] // 336) == grid, size
        layout = anyres_layout(size, grid, 24)
        assert torch.equal(layout.sequence, expected), size


@pytest.mark.parametrize(
    ("width", "height", "grid", "patches", "total"),
    [
        (640, 480, (2, 2), 2304, 2340),
        (480, 640, (2, 2), 2304, 2352),
        (1920, 1080, (2, 2), 1920, 1948),
        (678, 1024, (2, 2), 2112, 2160),
        (1000, 1000, (2, 2), 2880, 2928),
        (256, 256, (1, 2), 1152, 1176),
        (1500, 500, (1, 3), 2304, 2328),
    ],
)
def test_anyres_counts_at_the_real_size(width, height, grid, patches, total):
    canvas = best_canvas((height, width), [tuple(p) for p in PINPOINTS])
    layout = anyres_layout((height, width), (canvas[0] // 336, canvas[1] // 336), 24)
    assert (layout.grid, layout.num_patches, len(layout.sequence)) == (grid, patches, total)


def test_valid_marks_exactly_the_tokens_of_the_sequence():
    for size in random_sizes(50):
        layout = anyres_layout(size, (2, 2), 8)
        marked = layout.valid.flatten().nonzero()[:, 0]
        assert torch.equal(marked, layout.sequence[layout.sequence >= 0].sort().values)


def test_keeping_everything_gives_the_sequence_itself():
    layout = anyres_layout((480, 640), (2, 2), 8)
    assert torch.equal(layout.order(layout.valid), layout.sequence)


def test_thumbnail_alone_closes_with_one_newline():
    layout = anyres_layout((480, 640), (0, 0), 4)
    assert layout.sequence.tolist() == [*range(16), NEWLINE]
    assert layout.order(layout.valid, "all_rows").tolist() == [*range(16)]


def test_a_hair_thin_picture_keeps_its_thumbnail_only():
    size = (1, 5000)
    expected, grid = stock_sequence(size, 24)
    assert torch.equal(anyres_layout(size, grid, 24).sequence, expected)
    assert len(expected) == 576


def test_dynamic_tiling_equals_stock_on_600_random_sizes():
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    for size in random_sizes(300):
        for most in (6, 12):
            columns, rows = get_optimal_tiled_canvas(size, (448, 448), 1, most)
            assert tile_grid(size, most, 448) == (rows, columns), (size, most)


def test_tiles_come_first_and_the_thumbnail_last():
    layout = tiled_layout((1, 2), 2)
    assert layout.sequence.tolist() == [4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3]
    assert tiled_layout((1, 1), 2) is single_layout(2)


def test_smaller_sides_fall_in_steps_down_to_one():
    sides = smaller_sides(24)
    assert sides[-1] == 1
    assert sides == sorted(set(sides), reverse=True)
    assert all(0.78 <= (b / a) ** 2 <= 0.92 for a, b in zip([24, *sides], sides, strict=False) if b >= 8)
