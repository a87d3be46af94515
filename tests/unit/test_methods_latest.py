"""SCOPE, OTPrune, HiPrune, VScan and random-llm at their edges; the authors' vectors are in tests/golden."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hero_ray.core.encoded import Budget, Question
from hero_ray.core.errors import SelectionError
from hero_ray.core.layout import Layout
from hero_ray.methods import create
from hero_ray.methods.hiprune import with_neighbours
from hero_ray.methods.kit.conformance import CLIP, internvl_layout, llava_layout, random_encoded, single_layout
from hero_ray.methods.kit.covering import covering
from hero_ray.methods.kit.merging import averages
from hero_ray.methods.kit.similarity import cosines
from hero_ray.methods.vscan import best_of_windows
from tests.llm_states import WrittenState, kept_visual, run
from tests.method_vectors import encoded, kept


def by_definition(features: Tensor, weights: Tensor, count: int) -> list[int]:
    """SCOPE's greedy step with every gain asked for at every pick."""
    likeness, worth = cosines(features).numpy(), weights.numpy()
    covered, picks = np.zeros(len(worth), likeness.dtype), []
    for _ in range(count):
        gains = np.maximum(likeness - covered, 0).sum(1) * worth
        gains[picks] = -np.inf
        picks.append(int(gains.argmax()))
        covered = np.maximum(covered, likeness[picks[-1]])
    return picks


@pytest.mark.parametrize("levels", [None, 2, 1])
@pytest.mark.parametrize("seed", range(3))
def test_scope_looks_at_few_gains_and_picks_as_its_definition(seed: int, levels: int | None) -> None:
    draw = torch.Generator().manual_seed(seed)
    features, weights = torch.randn(90, 6, generator=draw), torch.rand(90, generator=draw)
    if levels:  # ties everywhere
        features, weights = (features * levels).round(), (weights * levels).round()
    assert covering(cosines(features), weights, 60).tolist() == by_definition(features, weights, 60)


def test_scope_without_saliency_is_coverage_alone() -> None:
    layout = single_layout((1, 4))
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])[None]
    image = encoded(layout, cls_attention={23: torch.tensor([[[0.1, 0.1, 0.1, 9.0]]])}, projector_input=features)
    assert kept(create("scope").select(image, Budget.of(layout, tokens=1)))["G"] == [3]
    assert kept(create("scope", alpha=0.0).select(image, Budget.of(layout, tokens=1)))["G"] == [2]
    with pytest.raises(SelectionError, match="scope compares projector inputs"):
        create("scope").select(encoded(layout), Budget.of(layout, tokens=1))


def test_hiprune_takes_neighbours_by_flat_index() -> None:
    chosen = torch.zeros(1, 12, dtype=torch.bool)
    chosen[0, [0, 4]] = True  # a corner, and the first of the second row of 3 x 4
    assert with_neighbours(chosen, 4)[0].nonzero()[:, 0].tolist() == [0, 1, 3, 4, 5, 8]


def test_hiprune_keeps_padding_out_and_trims_what_is_too_much() -> None:
    layout = llava_layout((1, 2), (4, 4), rows=slice(1, 3))
    image = random_encoded(layout, create("hiprune").needs(CLIP))
    for alpha in (0.0, 0.5, 1.0):
        selection = create("hiprune", alpha=alpha).select(image, Budget.of(layout, tokens=9))
        assert selection.n_selected == 9
        assert not bool((selection.keep & ~layout.valid).any())
    assert create("hiprune").needs(CLIP).received == {9, 23}


def test_vscan_windows_follow_the_side_of_a_view() -> None:
    scores = torch.arange(64.0)[None]
    everything = torch.ones(1, 64, dtype=torch.bool)
    best = best_of_windows(scores, [16], (8, 8), everything)
    assert best[0].nonzero()[:, 0].tolist() == [row * 8 + col for row in (1, 3, 5, 7) for col in (1, 3, 5, 7)]
    assert int(best_of_windows(scores, [15], (8, 8), everything).sum()) == 0
    half = everything.clone()
    half[0, 32:] = False
    assert int(best_of_windows(scores, [16], (8, 8), half).sum()) == 8


def test_vscan_averages_what_it_merges() -> None:
    features = torch.tensor([[1.0, 0.0], [3.0, 0.3], [0.0, 2.0], [0.1, 4.0], [9.0, 9.0]])
    keep = torch.tensor([True, False, True, False, False])
    valid = torch.tensor([True, True, True, True, False])
    assert averages(features, keep, valid, "x").tolist() == [pytest.approx([2.0, 0.15]), pytest.approx([0.05, 3.0])]
    assert averages(features, valid, valid, "x").tolist() == features[:4].tolist()


def test_vscan_shares_have_the_mean_that_was_asked_for() -> None:
    assert create("vscan").shares(64 / 576) == pytest.approx((96 / 576, 1 / 3))
    for ratio in (0.1, 0.5, 2 / 3, 0.7, 0.95):
        entering, living = create("vscan").shares(ratio)
        assert entering * (1 + living) / 2 == pytest.approx(ratio)
    assert create("vscan", inside=1.0).shares(0.3) == (0.3, 1.0)


def test_vscan_cuts_by_the_block_that_is_about_to_run() -> None:
    attention = torch.zeros(1, 1, 12, 12)
    attention[0, 0, -1, 3:9] = torch.tensor([0.1, 0.5, 0.2, 0.4, 0.3, 0.0])
    budget = Budget.of(single_layout((6, 6)), 0.3)
    seen, cut = (WrittenState(layer, 32, [(3, 6, 3)], attention) for layer in (16, 17))
    assert kept_visual(cut, run(create("vscan").pruner(budget), seen, cut)) == [1, 3]
    assert create("vscan").positions == "compact"


def test_random_llm_draws_by_picture_and_seed_alone() -> None:
    layout, budget = llava_layout((1, 2), (4, 4)), Budget.of(llava_layout((1, 2), (4, 4)), 0.25)
    image = random_encoded(layout, create("random-llm").needs(CLIP))
    first, again = (create("random-llm").select(image, budget) for _ in range(2))
    assert first.order is not None
    assert first.deferred is not None
    assert torch.equal(first.order, layout.sequence)
    assert int(first.deferred.sum()) == len(layout.sequence) // 4
    assert again.deferred is not None
    assert torch.equal(first.deferred, again.deferred)
    other = create("random-llm", seed=1).select(image, budget)
    assert other.deferred is not None
    assert not torch.equal(first.deferred, other.deferred)


def test_random_llm_drops_after_two_blocks() -> None:
    layout = internvl_layout((1, 2), (2, 2))
    image, budget = random_encoded(layout, create("random-llm").needs(CLIP)), Budget.of(layout, 0.5)
    selection = create("random-llm").select(image, budget)
    pruner = create("random-llm").pruner_for(budget, [selection])
    assert pruner is not None
    states = [WrittenState(layer, 32, [(3, 12, 3)]) for layer in (2, 3)]
    assert pruner.before(states[0]) is None
    assert selection.deferred is not None
    wanted = selection.deferred.nonzero()[:, 0].tolist()
    assert kept_visual(states[1], pruner.before(states[1])) == wanted
    assert len(wanted) == 6
    assert create("random-llm").pruner_for(Budget.of(layout, 1.0), [selection]) is None


def test_visiontrim_without_words_keeps_dominant_tokens_alone() -> None:
    layout, method = llava_layout((1, 2), (4, 4)), create("visiontrim")
    image = random_encoded(layout, method.needs(CLIP))
    full = method.select(image, Budget.of(layout, tokens=24))
    assert (full.n_selected, full.note, full.order) == (24, "", None)
    assert image.question is not None
    bare = method.select(image.asked(Question("?")), Budget.of(layout, tokens=24))
    assert (bare.n_selected, bare.note) == (24, "visiontrim-v: no CLIP words, no complements")
    alone = create("visiontrim", complement_share=0.0).select(image, Budget.of(layout, tokens=24))
    assert torch.equal(bare.keep, alone.keep)
    assert not torch.equal(bare.keep, full.keep)


def test_visiontrim_without_rounds_merges_nothing() -> None:
    layout = single_layout((4, 4))
    image = random_encoded(layout, create("visiontrim").needs(CLIP))
    selection = create("visiontrim", rounds=0).select(image, Budget.of(layout, tokens=8))
    assert selection.edited is not None
    assert image.projector_input is not None
    assert torch.equal(selection.edited[selection.keep], image.projector_input[selection.keep])


def test_mmtok_weighs_words_against_the_picture() -> None:
    """Two clusters of three and one token alone, which is what the only word says."""
    source = torch.tensor([[1.0, 0, 0]] * 3 + [[0, 1.0, 0]] * 3 + [[0, 0, 1.0]])[None]
    image = encoded(
        single_layout((1, 7)),
        features=source,
        projector_input=source,
        question=Question("?", llm_words=torch.tensor([[0.0, 0.0, 1.0]])),
    )
    budget = Budget.of(single_layout((1, 7)), tokens=1)
    assert kept(create("mmtok", alpha=0.01).select(image, budget))["G"] == [6]
    assert kept(create("mmtok", alpha=1e4).select(image, budget))["G"] == [0]
    with pytest.raises(SelectionError, match="mmtok reads"):
        create("mmtok").select(image.asked(Question("?")), budget)


def test_hero_merges_what_it_drops_only_on_request() -> None:
    layout = llava_layout((1, 2), (4, 4), rows=slice(1, 3))
    image, budget = random_encoded(layout, create("hero").needs(CLIP)), Budget.of(layout, 0.3)
    plain, merging = create("hero").select(image, budget), create("hero", merge=True).select(image, budget)
    assert plain.edited is None
    assert merging.edited is not None
    assert torch.equal(plain.keep, merging.keep)
    for view in range(3):
        expected = averages(image.features[view], plain.keep[view], layout.valid[view], "x")
        torch.testing.assert_close(merging.edited[view, plain.keep[view]], expected)


def test_hero_and_fastv_share_a_ratio_between_them() -> None:
    layout = llava_layout((2, 2), (6, 6))
    method, image = create("hero", then="fastv"), random_encoded(layout, create("hero").needs(CLIP))
    assert method.stage == "in-llm"
    for ratio in (0.1, 0.4, 17 / 32, 0.8):
        entering, living = method.shares(ratio)
        assert entering * (2 + 30 * living) / 32 == pytest.approx(ratio)
        budget = Budget.of(layout, ratio)
        selection = method.select(image, budget)
        assert selection.n_selected == int(entering * 180 + 1e-9)
    assert method.shares(0.1) == (pytest.approx(3.2 / 17), 0.5)
    attention = torch.zeros(1, 1, 12, 12)
    attention[0, 0, -1, 3:9] = torch.tensor([0.1, 0.5, 0.2, 0.4, 0.3, 0.0])
    seen, cut = (WrittenState(layer, 32, [(3, 6, 3)], attention) for layer in (2, 3))
    pruner = method.pruner(Budget.of(layout, 0.1))
    assert pruner is not None
    assert kept_visual(cut, run(pruner, seen, cut)) == [1, 3, 4]
    assert create("hero").pruner(Budget.of(layout, 0.1)) is None


def test_parameters_that_came_later_are_told_off_their_defaults_only() -> None:
    assert not {"merge", "then"} & set(create("hero").parameters())
    assert create("hero", merge=True).parameters() == create("hero").parameters() | {"merge": True}
    assert create("hero", then="fastv").parameters()["then"] == "fastv"


@pytest.mark.parametrize(
    "layout",
    [
        llava_layout((1, 2), (1, 1), rows=slice(0, 0)),
        llava_layout((2, 2), (4, 4), rows=slice(2, 6)),
        llava_layout((1, 3), (3, 3), rows=slice(1, 2)),
    ],
    ids=["one-token", "padded", "odd"],
)
def test_openvino_keeps_every_token_where_the_budget_counts_padding_too(layout: Layout) -> None:
    method = create("cdpruner", variant="openvino")
    budget = Budget.of(layout, 0.99, base="grid")
    assert budget.total > layout.num_patches
    keep = method.select(random_encoded(layout, method.needs(CLIP)), budget).keep
    assert torch.equal(keep, layout.valid)
