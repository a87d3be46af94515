"""How units are cut into blocks for a pool of replicas."""

from __future__ import annotations

import pytest

from hero_ray.pipeline.execute import MAX_BLOCK_UNITS, block_sizes


@pytest.mark.parametrize("replicas", [1, 2, 8, 512])
@pytest.mark.parametrize("units", [1, 3, 100, 2_500])
def test_blocks_shrink_to_single_units_and_leave_none_out(units: int, replicas: int) -> None:
    sizes = block_sizes(units, replicas)
    assert sum(sizes) == units
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] <= MAX_BLOCK_UNITS
    assert sizes[-1] == 1
    assert len(sizes) >= min(units, replicas)


def test_no_block_is_more_than_half_a_fair_share() -> None:
    left = 1_000
    for size in block_sizes(left, 8):
        assert size == 1 or size <= left / 16
        left -= size


@pytest.mark.parametrize(("units", "replicas", "largest"), [(20_000, 512, 4), (20_000, 128, 16), (400, 16, 4)])
def test_no_block_is_more_than_an_eighth_of_a_replicas_units_or_four(units: int, replicas: int, largest: int) -> None:
    assert max(block_sizes(units, replicas)) == largest


def test_nothing_to_do_has_no_blocks() -> None:
    assert block_sizes(0, 4) == []


def test_where_cells_are_decided_blocks_begin_small_and_grow_with_what_was_given_out() -> None:
    sizes = block_sizes(1000, 2, deciding=True)
    assert sum(sizes) == 1000
    assert set(sizes[:25]) == {4}
    given = 0
    for size in sizes:
        assert size <= max(4, 0.04 * given)
        given += size
    assert max(sizes) == MAX_BLOCK_UNITS
    assert len(sizes) < 1000 / 4 / 2, "Ray's cost a block is paid less than half as often as with blocks of four"
