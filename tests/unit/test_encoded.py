"""Budgets, needs and selections: what every method is handed and hands back."""

from __future__ import annotations

import pytest
import torch

from hero_ray.core.encoded import Budget, Needs, Question, Selection, VisionInfo, keep_all
from hero_ray.core.errors import BudgetError
from hero_ray.core.layout import NEWLINE
from hero_ray.methods.kit.conformance import llava_layout, random_encoded

PADDED = llava_layout((1, 2), (2, 2), rows=slice(0, 1))  # 4 + 4 real patches of 12 places

# --- towers ---


def test_a_tower_is_clips_with_one_patch_a_token_unless_told() -> None:
    assert VisionInfo(24, 23) == VisionInfo(num_layers=24, feature_layer=23, patches_per_token=1, tower="clip")


@pytest.mark.parametrize(
    ("depth", "layers", "expected"),
    [
        (24, (1, 9, 24), (1, 9, 24)),
        (12, (1, 2, 3, 9, 24), (1, 2, 5, 12)),  # halves round up: 0.5 -> 1, 1.5 -> 2, 4.5 -> 5; 2 -> 1 is a repeat
        (8, (1, 6, 22), (1, 2, 7)),  # a third: 0.33 would be no block
        (48, (1, 24, 30), (2, 48)),  # 60 blocks on, but the tower ends
    ],
)
def test_layers_are_mapped_to_the_depth_of_the_tower(
    depth: int, layers: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert VisionInfo(depth, depth).scaled(layers) == expected


def test_layers_may_be_given_for_another_tower_than_clips() -> None:
    assert VisionInfo(24, 24).scaled((12, 48), reference=48) == (6, 24)
    assert VisionInfo(23, 23).scaled((23,), reference=24) == (22,)


# --- needs ---

ALONE = {
    "clip_score": Needs(clip_score=True),
    "clip_tokens": Needs(clip_tokens=True),
    "clip_words": Needs(clip_words=True),
    "llm_attention": Needs(llm_attention=frozenset({2})),
    "llm_embedding": Needs(llm_embedding=True),
    "llm_words": Needs(llm_words=True),
    "prompt_embedding": Needs(prompt_embedding=True),
}


def test_nothing_is_needed_unless_named() -> None:
    nothing = Needs()
    assert not any(getattr(nothing, name) for name in nothing.__dataclass_fields__)
    assert nothing.question is False


@pytest.mark.parametrize("name", ALONE)
def test_any_look_at_the_question_makes_a_selection_depend_on_it(name: str) -> None:
    assert ALONE[name].question is True
    assert not Needs(frozenset({1}), frozenset({1}), frozenset({1}), frozenset({"post_ln"}), True).question


def test_needs_of_two_methods_are_joined_field_by_field() -> None:
    first = Needs(cls_attention=frozenset({1, 2}), keys=frozenset({23}), clip_score=True)
    second = Needs(cls_attention=frozenset({2, 9}), projector_input=True)
    assert first | second == Needs(
        cls_attention=frozenset({1, 2, 9}), keys=frozenset({23}), projector_input=True, clip_score=True
    )
    assert first | Needs() == first


# --- budgets ---


def test_a_budget_is_a_share_of_real_patches_or_of_all_places() -> None:
    assert Budget.of(PADDED, 0.5) == Budget(4, 0.5, "real", 8)
    assert Budget.of(PADDED, 0.5, base="grid") == Budget(6, 0.5, "grid", 12)


def test_a_share_is_rounded_down_but_not_by_binary_rounding() -> None:
    tens = llava_layout((1, 2), (1, 10), rows=slice(0, 0))  # 10 real patches
    assert Budget.of(tens, 0.7).total == 7  # 0.7 * 10 is 7.000000000000001, 1 - 0.9 is 0.09999999999999998
    assert Budget.of(tens, 1 - 0.9).total == 1
    assert Budget.of(tens, 0.69).total == 6
    assert Budget.of(tens, 0.29 + 1e-12).total == 2


def test_at_least_one_token_stays() -> None:
    assert Budget.of(PADDED, 0.001).total == 1
    assert Budget.of(PADDED, 0.13).total == 1  # 1.04
    assert Budget.of(PADDED, 0.25).total == 2


@pytest.mark.parametrize(("tokens", "total", "ratio"), [(1, 1, 0.125), (2, 2, 0.25), (8, 8, 1.0), (576, 8, 1.0)])
def test_a_token_budget_ends_at_the_picture(tokens: int, total: int, ratio: float) -> None:
    budget = Budget.of(PADDED, tokens=tokens)
    assert budget == Budget(total, ratio, "real", 8)
    assert budget.is_full is (ratio == 1.0)


def test_a_budget_is_full_from_one_on() -> None:
    assert Budget.of(PADDED, 1.0).is_full
    assert not Budget.of(PADDED, 0.999).is_full


@pytest.mark.parametrize(
    ("ratio", "tokens", "message"),
    [
        (None, None, "not both and not neither"),
        (0.5, 5, "not both and not neither"),
        (None, 0, "token budget 0 is not positive"),
        (0.0, None, r"retention ratio 0.0 is outside \(0, 1\]"),
        (1.01, None, "retention ratio 1.01 is outside"),
        (-0.1, None, "retention ratio -0.1 is outside"),
    ],
)
def test_budgets_out_of_range_are_named(ratio: float | None, tokens: int | None, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        Budget.of(PADDED, ratio, tokens)


# --- selections ---


def test_a_selection_follows_the_layout_under_its_own_newline_policy_or_the_sweeps() -> None:
    keep = torch.zeros(3, 4, dtype=torch.bool)
    keep[0, 3] = keep[1, 0] = True
    plain = Selection(keep)
    assert plain.n_selected == 2
    assert plain.sequence(PADDED).tolist() == [3, 4, NEWLINE]
    assert plain.sequence(PADDED, "none").tolist() == [3, 4]
    own = Selection(keep, newline_policy="all_rows")
    assert own.sequence(PADDED, "none").tolist() == [3, 4, NEWLINE, NEWLINE]
    explicit = Selection(keep, order=torch.tensor([-2, 4]), newline_policy="none")
    assert explicit.sequence(PADDED).tolist() == [-2, 4]


def test_keeping_all_is_the_stock_sequence_and_a_mask_of_its_own() -> None:
    everything = keep_all(PADDED)
    assert torch.equal(everything.keep, PADDED.valid)
    assert torch.equal(everything.sequence(PADDED), PADDED.sequence)
    everything.keep[0, 0] = False
    assert PADDED.valid[0, 0]


def test_a_question_is_attached_to_a_copy() -> None:
    image = random_encoded(PADDED, Needs())
    asked = image.asked(Question("what?"))
    assert (image.question, asked.question) == (None, Question("what?"))
    assert asked.features is image.features
