"""TransPrune, FEATHER, IVC-Prune and FitPrune at their edges; the authors' vectors are in tests/golden."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hero_ray.core.encoded import Budget
from hero_ray.core.errors import NonFiniteScoreError, ParameterError, SelectionError
from hero_ray.methods import create
from hero_ray.methods.base import LayerPruner, LayerState, Survivors
from hero_ray.methods.feather import Feather
from hero_ray.methods.fitprune import FitPrune, received
from hero_ray.methods.ivc_prune import IVCPrune, choose
from hero_ray.methods.kit.conformance import CLIP, layouts, llava_layout, random_encoded, single_layout
from hero_ray.methods.kit.dropping import mean_share
from hero_ray.methods.kit.movement import Watched
from hero_ray.methods.transprune import TransPrune, transition
from hero_ray.models.cache import KeyValueCache
from hero_ray.models.live import LiveTokens
from hero_ray.models.runner import Runner
from tests.llm_states import WrittenState, kept_visual, products, seen_back, vector_budget

SPAN = [(3, 12, 4)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("depth", [4, 24, 32, 40])
def test_stages_have_the_mean_that_was_asked_for(depth: int) -> None:
    for ratio in (0.3, 0.5, 0.9):
        assert mean_share(TransPrune().stages(ratio, depth), depth) == pytest.approx(ratio, abs=1e-6)
        assert mean_share(FitPrune().stages(ratio, depth), depth) == pytest.approx(ratio, abs=1e-6)
        shares = list(Feather().cuts(ratio, depth).items())
        first = shares[0][1] + (1 - shares[0][1]) / 9
        expected = {shares[0][0]: first, shares[1][0]: first * shares[1][1]}
        assert mean_share(expected, depth) == pytest.approx(ratio, abs=1e-6)
    assert all(share == pytest.approx(1.0) for share in FitPrune().stages(1.0, depth).values())


def test_papers_own_shares_stay_whatever_the_ratio() -> None:
    paper = create("transprune", variant="paper")
    assert not paper.fixed_budget
    assert TransPrune(variant="paper").stages(0.1, 32) == {7: 0.875, 9: 0.625, 12: 0.125}
    assert TransPrune(variant="paper").stages(0.1, 4) == {2: 0.125}, (
        "cuts that coincide act once, the deepest share wins"
    )
    assert FitPrune(variant="released").stages(0.1, 32)[1] == pytest.approx(314 / 576)
    assert Feather(variant="released").cuts(0.3, 32) == {8: 0.3, 16: pytest.approx(0.09)}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("transprune", {"shares": (1.0, 0.5, 0.1)}),
        ("transprune", {"after_blocks": (7, 7, 9)}),
        ("transprune", {"after_blocks": (7,)}),
        ("feather", {"after_blocks": (16, 8)}),
        ("feather", {"stride": 0}),
        ("ivc-prune", {"after_block": 32}),
        ("fitprune", {"schedule": (0.9, 0.5)}),
        ("fitprune", {"schedule": (1.0, 0.5, 0.6)}),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, parameters: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"{name}: .* expected"):
        create(name, **parameters)


def test_a_schedule_is_for_one_depth() -> None:
    method = FitPrune(schedule=(1.0, 0.5, 0.5, 0.25))
    assert method.stages(0.9, 4) == {1: 0.5, 3: 0.25}
    assert not method.fixed_budget
    with pytest.raises(ParameterError, match="schedule has 4 shares, the LLM 8 blocks"):
        method.stages(0.9, 8)


def test_transition_by_its_definition() -> None:
    given, made = drawn(2, 5, 8), drawn(2, 5, 8, seed=1)
    valid = torch.tensor([[True] * 5, [False, False, True, True, True]])
    found = transition(given, made, valid)
    for row in range(2):
        before, after = given[row, valid[row]], made[row, valid[row]]
        turned = (1 - torch.cosine_similarity(before, after, dim=-1)).exp()
        expected = after.norm(dim=-1) / before.norm(dim=-1) * turned / turned.sum()
        torch.testing.assert_close(found[row, valid[row]], expected)
    assert found[1, :2].tolist() == [0.0, 0.0]
    nothing = given.clone()
    nothing[0, 3] = 0.0
    assert transition(nothing, made, valid)[0, 3] == 0.0
    spoilt = made.clone()
    spoilt[1, 0] = math.nan  # of padding
    torch.testing.assert_close(transition(given, spoilt, valid), found)


def test_transitions_follow_their_tokens_through_a_cut() -> None:
    """Only one token was ever moved; it lives on through both cuts though its place changes."""
    pruner = create("transprune", variant="paper", after_blocks=(7, 9), shares=(0.5, 0.1)).pruner(vector_budget(0.5))
    assert pruner is not None
    assert [block for block in range(1, 33) if pruner.watches(block, 32)] == [7, 8, 9]
    marked, spans, place = 9, SPAN, 9
    for block in (7, 8, 9, 10):
        length = sum(spans[0])
        still = torch.ones(1, length, 4)
        moved = still * 1e-3
        if block == 7:
            moved[0, 3 + marked] *= 1e3
        flat = torch.full((1, 1, length, length), 1.0 / length)
        state = WrittenState(block, 32, spans, flat, moves={"attention": (still, moved), "mlp": (still, still * 1e-3)})
        state.num_visual = torch.tensor([12])
        survivors = pruner.before(state)
        if survivors is not None:
            left = kept_visual(state, survivors)
            assert place in left
            place, spans = left.index(place), [(3, len(left), 4)]
        else:
            pruner.after(state)
    assert spans == [(3, 1, 4)]


def test_feather_marks_every_third_row_and_column_of_every_view() -> None:
    layout = llava_layout((1, 2), (6, 6), rows=slice(1, 5))
    method = Feather()
    selection = method.select(random_encoded(layout, method.needs(CLIP)), Budget.of(layout, 0.3))
    assert selection.marked is not None
    even = layout.sequence[selection.marked].tolist()
    assert even == [
        view * 36 + place for view, places in ((0, (0, 3, 18, 21)), (1, (18, 21)), (2, (18, 21))) for place in places
    ]
    assert method.pruner_for(Budget.of(layout, 1.0), [selection]) is None
    assert method.select(random_encoded(layout, method.needs(CLIP)), Budget.of(layout, 1.0)).order is None


def test_feather_keeps_the_grid_at_the_first_cut_alone() -> None:
    layout = single_layout((3, 4))
    method = Feather(variant="released")
    budget = Budget.of(layout, 0.25)
    selection = method.select(random_encoded(layout, method.needs(CLIP)), budget)
    pruner = method.pruner_for(budget, [selection])
    assert pruner is not None
    logits = torch.zeros(1, 1, 19, 19)
    logits[0, 0, -1, 3 + 5], logits[0, 0, -1, 3 + 6], logits[0, 0, -1, 3 + 7] = 3.0, 2.0, 1.0
    logits[0, 0, -1, 0] = 99.0  # text takes no part
    for block, spans, expected in ((8, SPAN, [0, 3, 5, 6, 7]), (16, [(3, 5, 4)], [2])):
        length = sum(spans[0])
        of = logits if block == 8 else logits[:, :, -length:, [0, 1, 2, 3, 6, 8, 9, 10, 15, 16, 17, 18]]
        pruner.after(WrittenState(block, 32, spans, logits=of))
        cut = WrittenState(block + 1, 32, spans)
        assert kept_visual(cut, pruner.before(cut)) == expected


def test_feather_serves_pictures_without_a_grid_point() -> None:
    for label, (layout, tower) in layouts().items():
        method, budget = Feather(), Budget.of(layout, 0.3)
        selection = method.select(random_encoded(layout, method.needs(tower), tower), budget)
        assert selection.marked is not None, label
        assert len(selection.marked) == len(layout.sequence), label


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.3, 0.7, 0.99])
def test_ivc_prune_keeps_as_many_as_the_ratio_says(ratio: float) -> None:
    for total in (1, 2, 3, 9, 50, 576):
        values, visual = drawn(2, total + 9, 4), torch.arange(3, 3 + total)
        counts = IVCPrune().counts(ratio, total)
        keep = choose(values, torch.arange(total + 5, total + 9), visual, drawn(2, total, seed=2), counts)
        assert int(keep.sum()) == max(1, int(ratio * total + 1e-9))


def test_ivc_prune_reads_positions_and_values() -> None:
    values = torch.zeros(1, 10, 2)
    values[0, 9] = torch.tensor([4.0, 0.0])  # the question
    values[0, 4] = torch.tensor([2.0, 0.0])  # like it: the seed
    values[0, 6] = torch.tensor([1.0, 0.0])
    tables = torch.zeros(2, 7)
    tables[0, 0], tables[1, 6] = 1.0, 1.0
    kept = choose(values, torch.tensor([9]), torch.arange(2, 9), tables, (1, 4, 1, 4))
    assert kept.nonzero()[:, 0].tolist() == [0, 2, 4, 6]


def test_fitprune_sums_the_strongest_head() -> None:
    attention = seen_back(products(drawn(19, 8, seed=3)))
    state = WrittenState(5, 32, SPAN, attention)
    strongest = attention.amax(1)[0]
    for asking, part in ((state.visual, slice(3, 15)), (state.after_image, slice(15, None))):
        found = received(state, asking, asking[0].nonzero()[:, 0])
        torch.testing.assert_close(found[0], strongest[part].sum(0))


@pytest.mark.parametrize("name", ["transprune", "feather", "ivc-prune", "fitprune"])
def test_scores_that_are_not_finite_are_named(name: str) -> None:
    layout = single_layout((3, 4))
    method, budget = create(name), Budget.of(layout, 0.5)
    selection = method.select(random_encoded(layout, method.needs(CLIP)), budget)
    pruner = method.pruner_for(budget, [selection])
    assert pruner is not None
    bad = torch.full((1, 1, 19, 19), math.nan)

    def pass_all() -> None:
        for block in range(1, 33):
            state = WrittenState(block, 32, SPAN, bad, logits=bad, block_values=bad[..., :4])
            state.moves = dict.fromkeys(("attention", "mlp"), (bad[:, 0], bad[:, 0]))
            state.tables = (torch.zeros(1, 19, 4), torch.zeros(1, 19, 4))
            pruner.after(state)

    with pytest.raises(NonFiniteScoreError, match=f"{name}: .* are NaN or infinite"):
        pass_all()


def test_what_drops_everywhere_comes_first_and_alone() -> None:
    flags = torch.ones(1, 5, dtype=torch.bool)
    tokens = LiveTokens(drawn(1, 5, 4), torch.arange(5)[None], flags, flags, flags, flags, padded=False)
    survivors = Survivors(torch.tensor([[True, False, True, False, True]]), everywhere=True)
    with pytest.raises(SelectionError, match="expected one plain cut"):
        Runner._forget(KeyValueCache(2), [None, None], tokens, survivors, 0)  # type: ignore[list-item]
    Runner._forget(KeyValueCache(2), [], tokens, survivors, 0)  # before the first block there is nothing to forget


def test_a_cache_keeps_what_it_is_told_in_order() -> None:
    cache = KeyValueCache(2, room=1)
    keys, values = drawn(1, 2, 5, 3), drawn(1, 2, 5, 3, seed=1)
    cache.update(keys, values, 0)
    cache.keep(torch.tensor([[1, 4]]))
    assert torch.equal(cache.keys(0), keys[:, :, [1, 4]])
    assert torch.equal(cache.values(0), values[:, :, [1, 4]])
    assert (cache.length(0), cache.length(1)) == (2, 0)
    cache.update(keys[:, :, :1], values[:, :, :1], 0)
    assert cache.length(0) == 3


def test_a_watched_pruner_is_asked_what_it_watches() -> None:
    class Curious(LayerPruner):
        def watches(self, layer: int, num_layers: int) -> bool:
            return layer == 2

        def after(self, state: LayerState) -> None:
            raise AssertionError

    assert [Watched(Curious(), []).watches(layer, 4) for layer in (1, 2)] == [False, True]
    assert not Watched(None, []).watches(2, 4)
    assert not LayerPruner().watches(2, 4)
