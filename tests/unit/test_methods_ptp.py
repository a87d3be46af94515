"""PTP off its defaults, its masks inside the LLM among them, against counts made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hero_ray.core.encoded import Budget, Encoded, Needs, Question, Selection, VisionInfo
from hero_ray.core.errors import ParameterError, SelectionError
from hero_ray.core.layout import NEWLINE, Layout
from hero_ray.methods import create
from hero_ray.methods.kit.conformance import CLIP, llava_layout, single_layout
from hero_ray.methods.ptp import unit_range, view_budgets
from tests.method_vectors import cosines_to_first, encoded, half, kept, softmax, two_tiles


def ptp_image(layout: Layout, cosines: Sequence[float], bottom: Tensor, top: Tensor) -> Encoded:
    """`bottom` [V, N] is the tower's attention in block 9, `top` [H, Q, V, N] the LLM's in block 2."""
    return encoded(
        layout,
        cls_attention={9: bottom[:, None].double()},
        cls_embedding={"last_pre_ln": cosines_to_first(cosines)},
        question=Question("?", llm_attention={2: top.double()}),
    )


def ranked_image(layout: Layout | None = None, cosines: Sequence[float] = (0.9, 0.1)) -> Encoded:
    layout = layout or two_tiles()
    views, tokens = layout.num_views, layout.tokens_per_view
    rising = torch.arange(tokens, dtype=torch.float64).expand(views, tokens)
    return ptp_image(layout, cosines, rising, rising.expand(2, 3, views, tokens))


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [("alpha", [0.0, 1.0], [-0.01, 1.01]), ("vision_layer", [1, 24], [0, 25]), ("llm_layer", [1, 99], [0])],
)
def test_ptp_ranges_include_their_ends_and_no_more(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(create("ptp", **{field: value}), field) == value
    for value in bad:
        with pytest.raises(ParameterError, match=field):
            create("ptp", **{field: value})


def test_ptp_reads_one_block_of_the_tower_and_one_of_the_llm() -> None:
    assert create("ptp").needs(CLIP) == Needs(
        frozenset({9}), cls_embedding=frozenset({"last_pre_ln"}), llm_attention=frozenset({2})
    )
    other = create("ptp", vision_layer=12, llm_layer=4).needs(VisionInfo(8, 7))
    assert (other.cls_attention, other.llm_attention) == ({4}, {4})


def test_ptp_joins_what_the_question_and_the_picture_attend_to() -> None:
    layout = single_layout((1, 3))
    top = torch.tensor([[[[0.3, 0.4, 0.2]], [[0.2, 0.0, 0.0]]], [[[0.0, 0.0, 0.2]], [[0.1, 0.0, 0.6]]]])  # [2, 2, 1, 3]
    image = ptp_image(layout, (), torch.tensor([[3.0, 1.0, 2.0]]), top)
    bottom = [1.0, 0.0, 0.5]
    for parameters, seen in (
        ({}, [0.15, 0.2, 0.3]),  # heads' mean: (.15 .2 .2) and (.15 0 .3), then the larger
        ({"head_rule": "max"}, [0.3, 0.4, 0.6]),
        ({"instruction_rule": "mean"}, [0.15, 0.1, 0.25]),
        ({"head_rule": "max", "instruction_rule": "mean"}, [0.25, 0.2, 0.4]),
    ):
        selection = create("ptp", alpha=0.25, **parameters).select(image, Budget.of(layout, tokens=2))
        low, high = min(seen), max(seen)
        expected = [0.25 * (c - low) / (high - low) + 0.75 * b for c, b in zip(seen, bottom, strict=True)]
        assert selection.scores is not None
        assert selection.scores[0].tolist() == pytest.approx(expected)
        assert selection.view_budgets == (2,)
        assert kept(selection) == {"G": [0, 2]}


def test_a_range_is_of_real_tokens_and_a_flat_one_says_nothing() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0, 99.0], [5.0, 5.0, 5.0, -9.0]])
    valid = torch.tensor([[True, True, True, False]] * 2)
    assert unit_range(scores, valid).tolist() == [[0.0, 1.0, 0.5, 0.0], [0.0] * 4]


def counts(image: Encoded, budget: Budget, **parameters: Any) -> tuple[int, ...] | None:
    return create("ptp", **parameters).select(image, budget).view_budgets


def test_ptp_shares_by_similarity_on_its_scale_or_equally() -> None:
    layout = llava_layout((1, 2), (4, 4))
    image, budget = ranked_image(layout, (0.5, 0.3)), Budget.of(layout, 0.625)  # 30 of 48, the thumbnail's own is 10
    raw, stretched = softmax([0.5, 0.3])[0], softmax([1.0, 0.0])[0]
    assert (round(20 * raw), round(20 * stretched)) == (11, 15)
    assert counts(image, budget) == (10, 11, 9)
    assert counts(image, budget, similarity="minmax") == (10, 15, 5)
    assert counts(image, budget, region_rule="uniform") == (10, 10, 10)
    assert counts(image, budget, region_rule="uniform", similarity="minmax") == (10, 10, 10)
    joined = softmax([1.0, 0.5, 0.3])
    assert [int(30 * share) for share in joined] == [14, 8, 7]
    assert counts(image, budget, thumbnail_budget="softmax", variant="paper", similarity="raw") == (14, 8, 7)
    assert counts(image, budget, thumbnail_budget="softmax") == (14, 9, 7)


def test_ptp_as_printed_brings_similarity_to_the_unit_range() -> None:
    """Section III-D normalises a, b and c alike; `exact` keeps the cosines as they are, and either can be asked for."""
    layout = llava_layout((2, 2), (24, 24))
    image, budget = ranked_image(layout, (0.62, 0.75, 0.93, 0.7)), Budget.of(layout, 0.5)  # 1440; the thumbnail's 288
    printed = [int(1152 * share) for share in softmax([0.0, 13 / 31, 1.0, 8 / 31])]
    raw = [int(1152 * share) for share in softmax([0.62, 0.75, 0.93, 0.7])]
    assert max(printed) - min(printed) > 2 * (max(raw) - min(raw))
    assert counts(image, budget, variant="paper") == (288, *printed)
    assert counts(image, budget, variant="paper", similarity="minmax") == (288, *printed)
    assert counts(image, budget, variant="paper", similarity="raw") == (288, *raw)
    assert create("ptp").similarity == "raw"
    assert create("ptp", variant="paper").parameters()["similarity"] == "minmax"


def test_ptp_floors_lose_a_rest_and_say_so() -> None:
    layout = llava_layout((1, 2), (4, 4))
    image, budget = ranked_image(layout, (0.5, 0.3)), Budget.of(layout, 0.6)  # 28 of 48; the thumbnail's 9.6
    paper = create("ptp", variant="paper", similarity="raw").select(image, budget)
    assert (paper.view_budgets, paper.note) == ((9, 10, 8), "shares are floored, the remainder is lost")
    exact = create("ptp").select(image, budget)
    assert (exact.view_budgets, exact.note) == ((9, 10, 9), "")


def test_ptp_views_take_no_more_than_they_hold() -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    assert view_budgets(11, zero, [4, 2, 6], 4) == [4, 2, 5]
    assert view_budgets(11, zero, [4, 2, 2], 4) == [4, 2, 2]
    assert view_budgets(8, zero, [4, 2, 2], 2) == [4, 2, 2], "what full tiles leave goes to the thumbnail"
    assert view_budgets(8, zero, [4, 2, 2], 2, "floor") == [2, 2, 2]
    assert view_budgets(9, zero, [3, 3, 3], 6, "floor") == [3, 1, 1]
    assert view_budgets(9, zero, [2, 6, 6], None) == [2, 4, 3]
    assert view_budgets(9, zero, [2, 6, 6], None, "floor") == [2, 1, 1]
    single = ranked_image(single_layout((2, 2)), ())
    assert counts(single, Budget.of(single.layout, 0.5)) == (2,)


def test_ptp_continue_marks_the_newlines_and_the_chosen_as_alive() -> None:
    image = ranked_image()
    budget = half(image.layout)
    later = create("ptp", mode="continue").select(image, budget)
    assert later.deferred is not None
    assert later.order is not None
    assert later.order.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, NEWLINE, 6, 7, 10, 11, NEWLINE]
    alive = {4 * view + position for view, places in enumerate(kept(later).values()) for position in places}
    assert alive == {2, 3, 5, 6, 7, 11}
    assert later.deferred.tolist() == [entry in alive or entry == NEWLINE for entry in later.order.tolist()]
    now = create("ptp").select(image, budget)
    assert (now.order, now.deferred, now.view_budgets) == (None, None, later.view_budgets)
    full = create("ptp", mode="continue").select(image, Budget.of(image.layout, 1.0))
    assert (full.order, full.deferred, full.n_selected) == (None, None, 12)


def state(layer: int, num_layers: int = 6) -> SimpleNamespace:
    """Two left-padded prompts of 7 places: 1 text, 4 visual, 1 text and 2 text, 3 visual, 2 text."""
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[0, 0] = False
    visual = torch.zeros(2, 7, dtype=torch.bool)
    visual[0, 2:6] = visual[1, 2:5] = True
    return SimpleNamespace(layer=layer, num_layers=num_layers, valid=valid, visual=visual)


def deferred(*alive: int) -> Selection:
    mask = torch.tensor([bool(one) for one in alive])
    return Selection(keep=mask[None], deferred=mask)


@pytest.mark.parametrize(("llm_layer", "num_layers", "enters"), [(2, 6, 3), (1, 6, 2), (5, 6, 6), (6, 6, 6), (9, 4, 4)])
def test_ptp_continue_drops_when_entering_the_block_behind_the_one_it_read(
    llm_layer: int, num_layers: int, enters: int
) -> None:
    method, budget = create("ptp", mode="continue", llm_layer=llm_layer), Budget(2, 0.5, "real", 4)
    pruner = method.pruner_for(budget, [deferred(0, 1, 0, 1), deferred(1, 0, 0)])
    assert pruner is not None
    found = {layer: pruner.before(state(layer, num_layers)) for layer in range(1, num_layers + 1)}  # type: ignore[arg-type]
    assert [layer for layer, survivors in found.items() if survivors is not None] == [enters]
    survivors = found[enters]
    assert survivors is not None
    assert survivors.keep.int().tolist() == [[0, 1, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 1, 1]]
    assert (survivors.recycled, survivors.recycled_valid) == (None, None)


def test_ptp_continue_leaves_the_batchs_own_mask_alone() -> None:
    pruner = create("ptp", mode="continue").pruner_for(
        Budget(2, 0.5, "real", 4), [deferred(0, 0, 0, 0), deferred(0, 0, 0)]
    )
    assert pruner is not None
    seen = state(3)
    pruner.before(seen)  # type: ignore[arg-type]
    assert torch.equal(seen.valid, state(3).valid)


def test_ptp_continue_refuses_selections_that_do_not_fit_the_batch() -> None:
    method, budget = create("ptp", mode="continue"), Budget(2, 0.5, "real", 4)
    undecided = Selection(keep=torch.ones(1, 3, dtype=torch.bool))
    for selections in ([deferred(0, 1, 0, 1)], [deferred(0, 1, 0, 1), undecided], [deferred(1, 1, 1, 1)] * 3):
        pruner = method.pruner_for(budget, selections)
        assert pruner is not None
        with pytest.raises(SelectionError, match=f"got {len(selections)} deferred selections for 2 rows"):
            pruner.before(state(3))  # type: ignore[arg-type]


def test_ptp_prunes_inside_the_llm_only_where_it_continues_and_something_is_to_go() -> None:
    part, full = Budget(2, 0.5, "real", 4), Budget(4, 1.0, "real", 4)
    assert create("ptp").pruner_for(part, [deferred(1)]) is None
    assert create("ptp", mode="continue").pruner_for(full, [deferred(1)]) is None
    assert create("ptp", mode="continue").pruner(full) is None
    with pytest.raises(SelectionError, match="call pruner_for"):
        create("ptp", mode="continue").pruner(part)
