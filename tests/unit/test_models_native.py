"""Pictures at their own resolution: sizes, places and windows, against transformers' own arithmetic."""

import itertools

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from hero_ray.core.errors import CheckpointError, ImageError, ParameterError
from hero_ray.models.native import fitted, native_layout, native_plans, places, tower_grid
from hero_ray.models.qwen_shapes import pixel_limits

MOST = 28 * 28 * 1280


@pytest.mark.parametrize(
    ("size", "expected"),
    [((42, 70), (56, 56)), ((1000, 1000), (980, 980)), ((28, 5600), (28, 5600)), ((1, 1), (56, 56))],
    ids=str,
)
def test_sizes_that_are_known(size, expected):
    assert fitted(size, 28, 56 * 56 if size == (1, 1) else 784, MOST) == expected


@pytest.mark.parametrize("size", [(28, 5601), (5601, 28), (1, 201)])
def test_a_strip_is_refused(size):
    with pytest.raises(ImageError, match="takes at most 200 times; crop it"):
        fitted(size, 28, 3136, MOST)
    with pytest.raises(ValueError, match="aspect ratio"):
        smart_resize(*size)


@pytest.mark.parametrize(("unit", "least", "most"), [(28, 3136, 12845056), (28, 3136, MOST), (32, 65536, 16777216)])
def test_twenty_thousand_sizes_have_the_token_counts_of_the_stock_processor(unit, least, most):
    processor = Qwen2VLImageProcessorPil(patch_size=unit // 2, min_pixels=least, max_pixels=most)
    generator = torch.Generator().manual_seed(unit + most)
    edges = (2.0 ** (torch.rand(20_000, 2, generator=generator) * 12.2)).long().tolist()
    fits = [pair for pair in edges if max(pair) <= 200 * min(pair)]
    assert len(fits) > 15_000
    for height, width in fits:
        rows, columns = (edge // unit for edge in fitted((height, width), unit, least, most))
        assert rows * columns == processor.get_number_of_image_patches(height, width) // 4
        assert rows * columns <= most // unit**2 or min(rows, columns) == 1  # a strip is never thinner than a token


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (3, 9), (5, 2), (8, 13)])
def test_windows_are_the_stock_ones(rows, columns):
    thw = torch.tensor([[1, 2 * rows, 2 * columns]] * 2)
    order, bounds = get_vision_window_index(thw, 2, 8 * 2 * 4, 8)
    grid = tower_grid(2, (rows, columns), 2, 4)
    assert torch.equal(grid.order, order)
    assert torch.equal(grid.windows, bounds)
    assert torch.equal(grid.order[grid.back], torch.arange(2 * rows * columns))
    patches = get_vision_position_ids(thw, 2).unflatten(0, (-1, 4))[order].flatten(0, 1)
    assert torch.equal(grid.places, patches)
    plain = tower_grid(2, (rows, columns), 2, 0)
    assert torch.equal(plain.order, torch.arange(2 * rows * columns))
    assert plain.whole.tolist() == [0, 4 * rows * columns, 8 * rows * columns]


def test_tokens_stand_in_rows_and_columns():
    assert places(torch.tensor([0, 7, 4]), (3, 4)).tolist() == [[0, 0, 0], [0, 1, 3], [0, 1, 0]]
    # An extra token beside the one before it; one that leads, at the picture's first.
    assert places(torch.tensor([-2, 6, -3, -4]), (3, 4)).tolist() == [[0, 0, 0], *[[0, 1, 2]] * 3]
    at = torch.tensor([11, 1, 5])
    assert places(torch.tensor([-2, 6, -3, -4]), (3, 4), at).tolist() == [[0, 2, 3], [0, 1, 2], [0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("side", [(1, 1), (4, 9), (1, 200), (36, 36)])
def test_looks_fall_to_one_token(side):
    plans = native_plans(side)
    counts = [plan.num_tokens for plan in plans]
    assert counts == sorted(set(counts), reverse=True)
    assert (plans[0].shape, counts[-1]) == (side, 1)
    assert all(native_layout(plan.shape).num_patches == plan.num_tokens for plan in plans)


def test_limits_are_read_as_the_stock_processor_reads_them():
    written = [
        {},
        {"min_pixels": 100, "max_pixels": 1000},
        {"size": {"shortest_edge": 65536, "longest_edge": 16777216}},
        {"size": {"shortest_edge": 1, "longest_edge": 2}, "max_pixels": 900},
    ]
    for settings in written:
        stock = Qwen2VLImageProcessorPil(**settings).size
        assert pixel_limits(settings) == (stock["shortest_edge"], stock["longest_edge"])
    assert pixel_limits({"max_pixels": 5000}, {"max_pixels": 4000, "min_pixels": 2}) == (2, 4000)
    assert pixel_limits({}, {"max_pixels": "4000"}) == (3136, 4000)  # as it is typed in a shell


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "many", "-4", True, 100])
def test_limits_that_are_none_are_refused(wrong):
    with pytest.raises(ParameterError, match="expected whole numbers, 0 < min_pixels <= max_pixels"):
        pixel_limits({"min_pixels": 3136}, {"max_pixels": wrong})
    with pytest.raises(CheckpointError, match="its image processor says"):
        pixel_limits({"min_pixels": 3136, "max_pixels": wrong}, where="there")


def test_windows_cover_every_token_once():
    for rows, columns, window in itertools.product((1, 3, 7), (2, 8), (1, 2, 4)):
        grid = tower_grid(1, (rows, columns), 2, window)
        assert sorted(grid.order.tolist()) == list(range(rows * columns))
        assert int(grid.windows[-1]) == 4 * rows * columns
