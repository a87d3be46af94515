"""Settings chosen per picture: `alpha auto` and `ratio auto`."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from hero_ray.core.encoded import Budget, Encoded
from hero_ray.core.errors import InputError, ParameterError
from hero_ray.methods import create
from hero_ray.methods.kit import conformance
from hero_ray.methods.kit.adaptive import (
    AdaptiveRatio,
    agreement,
    attention_spread,
    balanced_mean,
    certainty,
    factor,
    trusted_alpha,
)

LAYOUT = conformance.llava_layout((2, 2), (6, 6), rows=slice(2, 10))
SHARP, FLAT = torch.tensor([0.85, 0.05, 0.05, 0.05]), torch.tensor([0.25, 0.25, 0.25, 0.25])
ELSEWHERE = torch.tensor([0.2, 0.2, 0.2, 0.4])


def picture(name: str = "hero", seed: int = 0, **parameters: object) -> Encoded:
    return conformance.random_encoded(LAYOUT, create(name, **parameters).needs(conformance.CLIP), seed=seed)


def test_scores_that_agree_keep_the_papers_half() -> None:
    assert agreement(SHARP, SHARP) == pytest.approx(1.0)
    assert trusted_alpha(SHARP, SHARP) == pytest.approx(0.5)
    milder = 0.25 + 0.3 * (SHARP - 0.25)
    assert trusted_alpha(SHARP, milder) == pytest.approx(0.5), "the same order and shape, only less sure"


def test_scores_that_disagree_leave_it_to_the_decisive_one() -> None:
    trust = certainty(SHARP) / (certainty(SHARP) + certainty(ELSEWHERE))
    assert agreement(SHARP, ELSEWHERE) == 0.0
    assert trusted_alpha(SHARP, ELSEWHERE) == pytest.approx(trust)
    assert trusted_alpha(ELSEWHERE, SHARP) == pytest.approx(1 - trust)
    assert trust > 0.9


def test_scores_that_say_nothing_change_nothing() -> None:
    assert trusted_alpha(FLAT, FLAT) == 0.5
    assert trusted_alpha(FLAT, SHARP) == 0.5, "flat scores contradict nobody"
    assert trusted_alpha(torch.ones(1), torch.ones(1)) == 0.5, "a single tile"


def test_hero_says_which_alpha_it_took_and_uses_it() -> None:
    encoded = picture(alpha="auto")
    budget = Budget.of(LAYOUT, 0.3)
    method = create("hero", alpha="auto", temperature_cls=0.1, temperature_clip=0.02)
    chosen = method.select(encoded, budget)
    alpha = chosen.details["alpha"]
    assert 0.0 <= alpha <= 1.0
    assert alpha != 0.5
    fixed = create("hero", alpha=alpha, temperature_cls=0.1, temperature_clip=0.02).select(encoded, budget)
    assert torch.equal(chosen.keep, fixed.keep)
    assert chosen.n_selected == budget.total, "only shares between tiles move, the budget stands"
    assert not fixed.details


def test_alpha_auto_without_a_text_tower_is_hero_v() -> None:
    encoded = replace(picture(alpha="auto"), question=None)
    budget = Budget.of(LAYOUT, 0.3)
    auto, visual = create("hero", alpha="auto").select(encoded, budget), create("hero").select(encoded, budget)
    assert torch.equal(auto.keep, visual.keep)
    assert auto.note.startswith("hero-v")
    assert "alpha" not in auto.details


@pytest.mark.parametrize("alpha", ["maybe", 1.5, -0.1, None, True])
def test_alpha_is_a_share_or_auto(alpha: object) -> None:
    with pytest.raises(ParameterError, match="alpha = "):
        create("hero", alpha=alpha)


def test_whole_and_broken_numbers_are_one_setting() -> None:
    assert create("hero", alpha=1).parameters() == create("hero", alpha=1.0).parameters()
    assert isinstance(create("hero", alpha=1).parameters()["alpha"], float)


def test_spread_counts_the_tokens_looked_at() -> None:
    valid = torch.ones(2, 8, dtype=torch.bool)
    even = torch.full((2, 8), 0.125)
    assert attention_spread(even, valid) == pytest.approx(1.0)
    one = torch.zeros(2, 8)
    one[:, 3] = 1.0
    assert attention_spread(one, valid) == pytest.approx(1 / 8)
    half = torch.zeros(2, 8)
    half[:, :4] = 0.3
    assert attention_spread(half, valid) == pytest.approx(0.5)
    valid[:, 4:] = False
    assert attention_spread(even, valid) == pytest.approx(1.0), "padding is looked at by nobody"


def test_factor_is_held_within_the_span() -> None:
    assert factor(0.3, 0.3, 2.0) == 1.0
    assert factor(0.9, 0.1, 2.0) == 2.0
    assert factor(0.01, 0.5, 2.0) == 0.5


@pytest.mark.parametrize("span", [1.0, 1.3, 2.0, 8.0])
def test_balanced_mean_keeps_the_mean_budget(span: float) -> None:
    spreads, tokens = [0.05, 0.2, 0.3, 0.35, 0.9], [100, 400, 80, 500, 240]
    mean = balanced_mean(spreads, tokens, span)
    kept = sum(factor(spread, mean, span) * count for spread, count in zip(spreads, tokens, strict=True))
    assert kept == pytest.approx(sum(tokens), rel=1e-6)


def test_balanced_mean_needs_pictures() -> None:
    with pytest.raises(InputError, match="no pictures"):
        balanced_mean([], [], 2.0)


@pytest.mark.parametrize("name", ["hero", "fastervlm"])
def test_ratio_auto_spends_more_where_attention_spreads(name: str) -> None:
    pictures = [picture(name, seed) for seed in range(12)]
    plain = create(name)
    assert isinstance(plain, AdaptiveRatio)
    spreads = [plain.spread(encoded) for encoded in pictures]
    mean = balanced_mean(spreads, [LAYOUT.num_patches] * 12, 2.0)
    method, budget = create(name, ratio="auto", ratio_mean=mean), Budget.of(LAYOUT, 0.3)
    kept = [method.select(encoded, budget).n_selected for encoded in pictures]
    order = sorted(range(12), key=spreads.__getitem__)
    assert [kept[i] for i in order] == sorted(kept)
    assert len(set(kept)) > 1
    assert abs(sum(kept) / 12 - budget.total) <= 1.0


@pytest.mark.parametrize("name", ["hero", "fastervlm"])
@pytest.mark.parametrize("ratio", [0.01, 0.2, 0.7, 0.95])
def test_ratio_auto_keeps_every_other_promise(name: str, ratio: float) -> None:
    method = create(name, ratio="auto", ratio_mean=0.5)
    assert method.mean_budget
    assert not create(name).mean_budget
    for layout in (LAYOUT, conformance.single_layout((6, 6)), conformance.internvl_layout((2, 3), (4, 4))):
        for base in ("real", "grid"):
            encoded = conformance.random_encoded(layout, method.needs(conformance.CLIP))
            selection = conformance.check_method(method, encoded, ratio, base)
            assert selection.details["ratio"] <= 1.0
            assert "ours" in selection.note


def test_more_than_everything_is_everything() -> None:
    method = create("hero", ratio="auto", ratio_mean=0.01)
    selection = method.select(picture(), Budget.of(LAYOUT, 0.6))
    assert torch.equal(selection.keep, LAYOUT.valid)
    assert selection.details["ratio"] == 1.0


def test_a_fixed_ratio_leaves_cell_ids_as_they_were() -> None:
    assert "ratio" not in create("hero").parameters()
    auto = create("hero", ratio="auto", ratio_mean=0.4)
    assert auto.parameters()["ratio"] == "auto"
    assert create("hero", **auto.parameters()) == auto


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ratio": "auto"}, "hero-ray calibrate ratio --method hero"),
        ({"ratio": "sometimes"}, "ratio = 'sometimes'"),
        ({"ratio": "auto", "ratio_mean": 0.0}, "ratio_mean"),
        ({"ratio": "auto", "ratio_mean": 0.3, "ratio_span": 0.5}, "ratio_span"),
        ({"ratio_mean": 0.3}, "act with ratio = 'auto' only"),
    ],
)
def test_bad_settings_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        create("hero", **parameters)


def test_certainty_is_bounded() -> None:
    assert certainty(torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(1.0)
    assert certainty(FLAT) == pytest.approx(0.0)
    assert certainty(torch.tensor([0.5, 0.5, 0.0, 0.0])) == pytest.approx(1 - math.log(2) / math.log(4))
