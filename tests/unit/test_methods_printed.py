"""The figures that the methods' descriptions print, on whole pictures of LLaVA-NeXT's size."""

from __future__ import annotations

import pytest
import torch

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.layout import NEWLINE, Layout
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.methods.kit.conformance import CLIP, random_encoded, single_layout
from hero_ray.models.geometry import anyres_layout


def looked_at(method: Method, layout: Layout) -> Encoded:
    return random_encoded(layout, method.needs(CLIP), CLIP)


def total(selection: Selection) -> int:
    return sum(selection.view_budgets or ())


@pytest.mark.parametrize(("base", "patches"), [("grid", 575), ("real", 460)])
def test_hero_released_counts_on_the_base_that_is_asked_for(base: str, patches: int) -> None:
    """640x480 at R = .2: the code lets 574 patches and 48 newlines in, the default base 458 and 48."""
    layout, method = anyres_layout((480, 640), (2, 2), 24), create("hero", variant="released")
    budget = Budget.of(layout, 0.2, base="grid" if base == "grid" else "real")
    selection = method.select(looked_at(method, layout), budget)
    assert patches - 4 <= total(selection) <= patches  # four tiles, each floored
    assert int((selection.sequence(layout) == NEWLINE).sum()) == 48


def test_an_odd_row_of_padding_stays_as_the_models_leave_it() -> None:
    """1000x300 in three tiles of one row: HERO's own code unpads to 1512 tokens of tiles, the models to 1584."""
    layout = anyres_layout((300, 1000), (1, 3), 24)
    assert int(layout.valid[1:].sum()) == 1584
    method = create("hero", variant="released")
    selection = method.select(looked_at(method, layout), Budget.of(layout, 0.999, base="grid"))
    assert int(selection.keep[1:].sum()) > 1512


@pytest.mark.parametrize(("ratio", "alpha"), [(0.4, 0.5), (0.41, 0.5), (0.5, 0.5), (0.8, 0.5), (0.4, 0.7)])
def test_hired_released_shares_what_the_thumbnail_did_not_take(ratio: float, alpha: float) -> None:
    """672x672: the code keeps 1178, 1439, 2303 and 1151 of 2880 from the second case on, what floors lose apart."""
    layout, method = anyres_layout((672, 672), (2, 2), 24), create("hired", variant="released", alpha=alpha)
    budget = Budget.of(layout, ratio, base="grid")
    selection = method.select(looked_at(method, layout), budget)
    assert budget.total - 4 < total(selection) <= budget.total
    assert (selection.view_budgets or ())[0] == min(576, int(alpha * budget.total + 1e-9))


def test_hired_released_puts_tiles_that_are_not_square_together_rightly() -> None:
    """1344x672 at R = .2: 344 tokens in the mosaic's order, where the code swaps width and height and sends 208."""
    layout, method = anyres_layout((672, 1344), (1, 2), 24), create("hired", variant="released")
    selection = method.select(looked_at(method, layout), Budget.of(layout, 0.2, base="grid"))
    sequence = selection.sequence(layout).tolist()
    assert 345 - 2 < len(sequence) <= 345
    kept = set(sequence)
    assert sequence == [token for token in layout.sequence.tolist() if token in kept]


@pytest.mark.parametrize("tokens", [115, 29, 3, 575])
def test_vispruner_meets_budgets_that_its_code_cannot(tokens: int) -> None:
    """An odd number of tokens beside the important half is a shape error there."""
    layout, method = single_layout((24, 24)), create("vispruner")
    assert method.select(looked_at(method, layout), Budget.of(layout, tokens=tokens)).n_selected == tokens


def test_divprune_keeps_a_share_of_the_patches_and_every_newline() -> None:
    layout = anyres_layout((672, 672), (2, 2), 24)
    image = random_encoded(layout, create("divprune").needs(CLIP), CLIP, width=16)
    selection = create("divprune").select(image, Budget.of(layout, 0.2))
    assert selection.n_selected == 576
    assert int((selection.sequence(layout) == NEWLINE).sum()) == 48


@pytest.mark.parametrize("tokens", [40, 64, 200])
def test_cdpruner_keeps_different_tokens_once_its_picks_span_the_features(tokens: int) -> None:
    """Width 32: the code takes roots of negative numbers from there on and keeps 236 of 320."""
    layout, method = single_layout((24, 24)), create("cdpruner")
    image = random_encoded(layout, method.needs(CLIP), CLIP, width=32)
    assert method.select(image, Budget.of(layout, tokens=tokens)).n_selected == tokens


def test_fastervlm_released_keeps_as_many_in_every_view_and_no_newline() -> None:
    layout, method = anyres_layout((480, 640), (2, 2), 24), create("fastervlm", variant="released")
    selection = method.select(looked_at(method, layout), Budget.of(layout, 0.2))
    assert selection.view_budgets == (115,) * 5
    assert NEWLINE not in selection.sequence(layout).tolist()
    assert not torch.any(selection.keep & ~layout.valid)
