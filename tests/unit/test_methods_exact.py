"""HERO and HiRED off their defaults and at their edges, against counts made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from hero_ray.core.encoded import Budget, Encoded, Needs, Question, VisionInfo
from hero_ray.core.errors import ParameterError
from hero_ray.core.layout import Layout
from hero_ray.methods import create
from hero_ray.methods.kit.conformance import CLIP, llava_layout, single_layout
from tests.method_vectors import cosines_to_first, encoded, heads, kept, softmax, two_tiles

RISING = [0.1, 0.2, 0.3, 0.4]
FLAT = {"G": RISING, "A": RISING, "B": RISING}


@pytest.mark.parametrize(
    ("method", "field", "good", "bad"),
    [
        ("hero", "alpha", [0.0, 1.0], [-0.01, 1.01]),
        ("hero", "temperature_cls", [0.01], [0.0, -1.0]),
        ("hero", "temperature_clip", [0.01], [0.0, -1.0]),
        ("hero", "density_weight", [0.0, 1.0, None], [-0.01, 1.01]),
        ("hero", "tile_layers", [(1, 24)], [(), (0,), (25,), (6, 25)]),
        ("hero", "thumbnail_layers", [(1,), (24,)], [(), (0,), (25,)]),
        ("hired", "alpha", [0.0, 1.0], [-0.01, 1.01]),
        ("hired", "early_layer", [1, 24], [0, 25]),
        ("hired", "late_layer", [1, 24], [0, 25]),
    ],
)
def test_ranges_include_their_ends_and_no_more(method: str, field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(create(method, **{field: value}), field) == value
    for value in bad:
        with pytest.raises(ParameterError, match=field):
            create(method, **{field: value})


# --- HERO ---


def hero_image(cls: Sequence[float] = (0.9, 0.1), rows: slice = slice(None), **question: Any) -> Encoded:
    layout = two_tiles(rows)
    attention = {layer: heads(FLAT) for layer in (6, 7, 8, 9, 10, 22)}
    asked, cosines = Question("?", **question) if question else None, {"last_pre_ln": cosines_to_first(cls)}
    return encoded(layout, cls_attention=attention, cls_embedding=cosines, question=asked)


def importance(image: Encoded, **parameters: Any) -> tuple[list[float], str]:
    return create("hero", **parameters)._tile_importance(image)


def test_hero_counts_blocks_from_0_on_request() -> None:
    assert create("hero", layer_base=0, tile_layers=(0, 23)).needs(CLIP).cls_attention == {1, 24, 23}
    for layer in (-1, 24):
        with pytest.raises(ParameterError, match="blocks 0 to 23"):
            create("hero", layer_base=0, tile_layers=(layer,), thumbnail_layers=(22,))


def test_hero_asks_for_the_text_term_it_uses_and_no_other() -> None:
    def needs(**parameters: Any) -> Needs:
        return create("hero", **parameters).needs(CLIP)

    layers, source = frozenset({6, 7, 8, 9, 10, 22}), frozenset({"last_pre_ln"})
    assert needs() == Needs(layers, cls_embedding=source, clip_score=True)
    assert needs(text_term="llm-embed") == Needs(layers, cls_embedding=source, llm_embedding=True)
    assert needs(text_term="llm-attn") == Needs(layers, cls_embedding=source, llm_attention=frozenset({2}))
    for term in ("clip", "llm-embed", "llm-attn"):
        assert needs(text_term=term, alpha=1.0) == needs(text_term="none") == Needs(layers, cls_embedding=source)
    assert needs(cls_source="post_ln").cls_embedding == {"post_ln"}


def test_hero_compares_tiles_with_the_questions_mean_embedding_on_request() -> None:
    """Padding must not count: the tiles show (3, 0) and (1, 1) where they are real."""
    image = hero_image(rows=slice(0, 1), llm_embedding=torch.tensor([2.0, 0.0]))
    features = torch.full((3, 4, 2), 50.0)
    features[1, :2], features[2, :2] = torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0])
    features[1, 2:] = torch.tensor([-9.0, 99.0])
    image = Encoded(**{**vars(image), "features": features})
    textual, visual = softmax([1.0, math.sqrt(0.5)]), softmax([0.9, 0.1])
    note = "hero+llm-embed: question embedding for the CLIP score"
    found, said = importance(image, text_term="llm-embed", alpha=0.0)
    assert (found, said) == (pytest.approx(textual), note)
    found, _ = importance(image, text_term="llm-embed", alpha=0.25)
    assert found == pytest.approx([0.25 * v + 0.75 * t for v, t in zip(visual, textual, strict=True)])
    selection = create("hero", text_term="llm-embed", alpha=0.0).select(image, Budget.of(image.layout, 0.5))
    assert selection.note == note
    assert selection.view_budgets == (2, 1, 1)
    cold, _ = importance(image, text_term="llm-embed", alpha=0.0, temperature_clip=0.01)
    assert cold == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("question", [{}, {"clip_score": torch.zeros(3)}])
def test_hero_without_a_question_embedding_says_so(question: dict[str, Any]) -> None:
    found, note = importance(hero_image(**question), text_term="llm-embed")
    assert (found, note) == (pytest.approx(softmax([0.9, 0.1])), "hero-v: no question embedding, text term dropped")


def test_hero_names_a_text_term_that_was_dropped() -> None:
    image, visual = hero_image(clip_score=torch.tensor([0.0, 0.0, 5.0])), pytest.approx(softmax([0.9, 0.1]))
    assert importance(image, text_term="none") == (visual, "hero-v: text term dropped on request")
    assert importance(image, alpha=1.0) == (visual, "")
    assert importance(image, alpha=1.0, text_term="none") == (visual, "")
    assert importance(hero_image()) == (visual, "hero-v: no CLIP text tower, text term dropped")
    assert importance(hero_image(llm_embedding=torch.zeros(8))) == (
        visual, "hero-v: no CLIP text tower, text term dropped",
    )  # fmt: skip
    silent = create("hero", variant="paper").select(hero_image(), Budget.of(two_tiles(), 0.5))
    assert silent.note == "hero-v: no CLIP text tower, text term dropped; shares are floored, the remainder is lost"


def test_hero_joins_terms_by_alpha_temperature_and_density() -> None:
    image = hero_image(clip_score=torch.tensor([9.0, 0.0, 0.4], dtype=torch.float64), rows=slice(0, 1))
    visual, textual = softmax([0.9 / 0.5, 0.1 / 0.5]), softmax([0.0, 0.4 / 0.2])
    found, _ = importance(image, alpha=0.3, temperature_cls=0.5, temperature_clip=0.2)
    joined = [0.3 * v + 0.7 * t for v, t in zip(visual, textual, strict=True)]
    assert found == pytest.approx(joined)
    uneven = llava_layout((1, 2), (2, 2), cols=slice(0, 3))  # all of the first tile, half of the second
    padded = Encoded(**{**vars(image), "layout": uneven})
    options = {"alpha": 0.3, "temperature_cls": 0.5, "temperature_clip": 0.2}
    for parameters, weight in (
        ({"density_weight": 0.4}, 0.4), ({"variant": "released"}, 0.2), ({"density_weight": 0.0}, 0.0),
        ({"variant": "released", "density_weight": 0.0}, 0.0), ({"density_weight": 1.0}, 1.0),
    ):  # fmt: skip
        found, _ = importance(padded, **options, **parameters)
        expected = [weight * d + (1 - weight) * f for d, f in zip((2 / 3, 1 / 3), joined, strict=True)]
        assert found == pytest.approx(expected)


def test_hero_reads_the_best_attended_row_of_real_tokens_only() -> None:
    rows = torch.zeros(2, 2, 3, 4)
    rows[0, 0, 1] = torch.tensor([0.2, 0.0, 0.0, 9.0])  # the mean over heads of .2 is .1; place 3 is padding
    rows[:, 1, 1, 1] = 0.3
    rows[:, 0, 2, 0] = 0.05
    image = hero_image(rows=slice(0, 1), llm_attention={2: rows})
    found, _ = importance(image, text_term="llm-attn", alpha=0.0)
    assert found == pytest.approx(softmax([0.4, 0.05]))


def test_hero_ranks_tiles_by_early_and_the_thumbnail_by_late_layers() -> None:
    image = hero_image(clip_score=torch.zeros(3))
    falling = heads(dict.fromkeys("GAB", RISING[::-1]))
    image = Encoded(**{**vars(image), "cls_attention": {**image.cls_attention, 22: falling}})
    selection = create("hero").select(image, Budget.of(image.layout, 0.5))
    assert selection.scores is not None
    assert selection.scores.tolist() == [pytest.approx(RISING[::-1]), pytest.approx(RISING), pytest.approx(RISING)]
    assert kept(selection) == {"G": [0, 1], "A": [2, 3], "B": [2, 3]}
    assert (selection.note, selection.newline_policy) == ("", None)


def test_hero_exact_gives_the_thumbnail_what_full_tiles_leave() -> None:
    image = hero_image(rows=slice(0, 1), clip_score=torch.zeros(3))  # 4 + 2 + 2 real tokens
    for ratio, exact, paper in ((0.9, (3, 2, 2), (3, 2, 1)), (0.5, (2, 1, 1), (2, 1, 0))):
        budget = Budget.of(image.layout, ratio)
        found = [create("hero", variant=form).select(image, budget).view_budgets for form in ("exact", "paper")]
        assert found == [exact, paper]
    grid = Budget.of(image.layout, 0.75, base="grid")  # 9 of 12 places: more than there is
    assert create("hero").select(image, grid).view_budgets == (4, 2, 2)


@pytest.mark.parametrize(("tokens", "expected"), [(1, [5]), (2, [3, 5]), (3, [3, 4, 5]), (4, [0, 3, 4, 5])])
def test_hero_shares_a_single_view_between_layers_on_request(tokens: int, expected: list[int]) -> None:
    """The larger half is the late block's (5, 4, 2, 1), the rest the early one's of what is left (3, 4, 0)."""
    layout = single_layout((2, 3))
    early, late = [0.0, 0.0, 0.0, 0.3, 0.2, 0.9], [0.0, 0.1, 0.2, 0.0, 0.3, 0.9]
    image = encoded(layout, cls_attention={6: heads({"G": early}), 22: heads({"G": late})})
    selection = create("hero", tile_layers=(6,), single_view="half").select(image, Budget.of(layout, tokens=tokens))
    assert kept(selection)["G"] == expected
    assert selection.view_budgets == (tokens,)
    whole = create("hero", tile_layers=(6,)).select(image, Budget.of(layout, tokens=tokens))
    assert kept(whole)["G"] == sorted([5, 4, 2, 1][:tokens])
    assert whole.view_budgets == (tokens,)


# --- HiRED ---


def hired_image(layout: Layout, early: list[float], late: Tensor | None = None) -> Encoded:
    views = torch.zeros(layout.num_views, 1, layout.tokens_per_view, dtype=torch.float64)
    first = views.clone()
    first[0, 0] = torch.tensor(early, dtype=torch.float64)
    falling = torch.arange(views[0].numel(), 0, -1, dtype=torch.float64).expand_as(views)
    return encoded(layout, cls_attention={1: first, 23: falling if late is None else late})


def test_hired_reads_an_early_and_a_late_block() -> None:
    assert create("hired").needs(CLIP) == Needs(frozenset({1, 23}))
    assert create("hired", early_layer=3, late_layer=24).needs(VisionInfo(12, 11)) == Needs(frozenset({2, 12}))


def test_hired_sums_heads_and_ranks_by_the_late_block() -> None:
    layout = single_layout((2, 2))
    late = torch.tensor([[[0.5, 0.1, 0.4, 0.0], [0.0, 0.5, 0.3, 0.1]]])
    image = encoded(layout, cls_attention={1: late.flip(2), 23: late})
    selection = create("hired").select(image, Budget.of(layout, 0.5))
    assert selection.scores is not None
    assert selection.scores[0].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.1])
    assert (kept(selection), selection.view_budgets) == ({"G": [1, 2]}, (2,))


def test_hired_gives_tiles_what_the_thumbnail_pays_their_regions() -> None:
    """2 x 2 tiles of 4 x 4: each region is a quarter of the thumbnail, paid 1, 2, 4 and 9 of 16."""
    layout = llava_layout((2, 2), (4, 4))
    early = [0.25, 0.25, 0.5, 0.5] * 2 + [1.0, 1.0, 2.25, 2.25] * 2
    image = hired_image(layout, early)
    budget = Budget.of(layout, tokens=24)
    assert create("hired", alpha=0.33).select(image, budget).view_budgets == (7, 1, 2, 4, 10)
    assert create("hired", alpha=0.25, variant="paper").select(image, budget).view_budgets == (6, 1, 2, 4, 10)


def test_hired_exact_hits_the_budget_where_the_paper_loses_what_views_cannot_hold() -> None:
    layout = two_tiles(slice(0, 1))  # 4 + 2 + 2 real tokens, 4 places each
    image = hired_image(layout, [1.0, 0.0, 1.0, 0.0])  # all attention on the first tile
    budget = Budget.of(layout, tokens=7)
    assert create("hired").select(image, budget).view_budgets == (3, 2, 2)
    assert create("hired").select(image, Budget.of(layout, tokens=6)).view_budgets == (3, 2, 1)
    assert create("hired", alpha=0.25).select(image, budget).view_budgets == (3, 2, 2), "1 of 6 is its own, 2 are left"
    assert create("hired").select(image, Budget.of(layout, 0.75, base="grid")).view_budgets == (4, 2, 2)
    paper = create("hired", variant="paper").select(image, budget)
    assert paper.view_budgets == (3, 4, 0)
    assert (kept(paper), paper.newline_policy) == ({"G": [0, 1, 2], "A": [0, 1], "B": []}, "none")
    assert paper.note == "shares are floored and capped, the remainder is lost"
    greedy = create("hired", variant="paper", alpha=1.0).select(image, budget)
    assert greedy.view_budgets == (4, 0, 0)


def test_hired_released_counts_top_tokens_in_runs_and_lets_padding_compete() -> None:
    layout = two_tiles(slice(0, 1))
    late = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64).expand(3, 1, 4).clone()
    late[1, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    image = hired_image(layout, [0.1, 0.9, 0.8, 0.2], late)
    released = create("hired", variant="released", alpha=0.25).select(image, Budget.of(layout, 2 / 3, base="grid"))
    # floor(4 * .75) = 3 marks, at places 1, 2, 3: one in the first run of two, two in the second.
    assert released.view_budgets == (2, 2, 4)
    assert kept(released) == {"G": [0, 1], "A": [], "B": [0, 1]}  # of the first tile padding came first, and is cut
    assert released.newline_policy == "none"


def test_hired_runs_are_of_equal_length_as_far_as_they_go() -> None:
    layout = llava_layout((1, 3), (2, 2))
    image = hired_image(layout, [0.9, 0.8, 0.1, 0.7])  # runs of 4 places over 3 tiles: 0 1 | 2 | 3
    released = create("hired", variant="released", alpha=0.25).select(image, Budget.of(layout, tokens=8))
    assert released.view_budgets == (2, 4, 0, 2)
