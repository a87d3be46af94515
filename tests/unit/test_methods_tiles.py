"""PTP, GlobalCom2, PruMerge and PruMerge+ against their vectors; each vector test carries the vector's id."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hero_ray.core.encoded import Budget, Encoded, Question, VisionInfo
from hero_ray.core.errors import SelectionError
from hero_ray.methods import create
from hero_ray.methods.globalcom2 import global_map
from hero_ray.methods.kit.conformance import internvl_layout, llava_layout, random_encoded, single_layout
from hero_ray.methods.kit.merging import Views, merge, outliers
from hero_ray.methods.kit.scores import descending
from hero_ray.methods.prumerge_plus import filled, stride, with_samples
from hero_ray.methods.ptp import instruction_score, view_budgets
from tests.method_vectors import encoded, half, heads, kept, letter, llm_order, two_tiles, vector

CLIP = VisionInfo(24, 23)


def ptp_input(name: str) -> Encoded:
    inputs = vector(name)["inputs"]
    cosines = torch.tensor([1.0, *inputs["a"]], dtype=torch.float64)
    attention = heads(inputs["c"]).permute(1, 0, 2)[:, None]  # [H, Q, V, N]
    return encoded(
        internvl_layout((1, 2), (2, 2)),
        question=Question("?", llm_attention={2: attention}),
        cls_attention={9: heads(inputs["b"])},
        cls_embedding={"last_pre_ln": torch.stack([cosines, (1 - cosines**2).sqrt()], 1)},
    )


@pytest.mark.parametrize("name", ["ptp.reserve_thumb", "ptp.thumb_in_softmax"])
def test_ptp(name: str) -> None:
    expected, image = vector(name)["expected"], ptp_input(name)
    rule = "reserve" if name == "ptp.reserve_thumb" else "softmax"
    for variant, budgets in (("exact", expected["R_exact"]), ("paper", expected["R_floor"])):
        selection = create("ptp", variant=variant, thumbnail_budget=rule, similarity="raw").select(
            image, half(image.layout)
        )
        assert selection.view_budgets == (budgets[2], *budgets[:2])
    selection = create("ptp", thumbnail_budget=rule).select(image, half(image.layout))
    assert kept(selection) == expected["kept"]
    assert llm_order(selection, image.layout) == expected["llm_order"]
    assert selection.scores is not None
    for view, scores in enumerate(selection.scores):
        assert scores.tolist() == pytest.approx(expected["score"][letter(view)], abs=1e-5)


def test_ptp_c_score_vector() -> None:
    given = vector("ptp.c_score")
    rows = torch.tensor(given["inputs"]["attn_heads_q_vis"])
    assert instruction_score(rows).tolist() == pytest.approx(given["expected"]["c"], abs=1e-5)


@pytest.mark.parametrize("name", ["ptp.budget.r50", "ptp.budget.r10"])
def test_ptp_budget(name: str) -> None:
    given = vector(name)
    params, expected = given["params"], given["expected"]
    cosines, limits = torch.tensor(given["inputs"]["a_tiles"], dtype=torch.float64), [params["cap"]] * 7
    keep = 1.0 - params["r"]
    layout = internvl_layout((2, 3), (16, 16))
    total, own = Budget.of(layout, keep).total, int(keep * 256 + 1e-9)
    assert total == expected["B"]
    for rounding, key in (("exact", "exact"), ("floor", "floor_capped")):
        assert view_budgets(total, cosines, limits, own, rounding) == [  # type: ignore[arg-type]
            expected["reserve"]["R_g"],
            *expected["reserve"][key],
        ]
        *tiles, thumbnail = expected["in_softmax"][key]
        assert view_budgets(total, cosines, limits, None, rounding) == [thumbnail, *tiles]  # type: ignore[arg-type]


def test_ptp_table5_totals_vector() -> None:
    given = vector("ptp.table5_totals")
    layout = internvl_layout((2, 3), (16, 16))
    assert layout.num_patches == given["params"]["T"]
    totals = [Budget.of(layout, ratio).total for ratio in given["inputs"]["keep_ratio"]]
    assert totals == given["expected"]["B"]


def test_ptp_continue_defers_the_same_choice() -> None:
    image = ptp_input("ptp.reserve_thumb")
    budget = half(image.layout)
    now, later = create("ptp").select(image, budget), create("ptp", mode="continue").select(image, budget)
    assert create("ptp").stage == "before-llm"
    assert create("ptp", mode="continue").stage == "in-llm"
    assert torch.equal(now.keep, later.keep)
    assert torch.equal(later.sequence(image.layout), image.layout.sequence)
    assert later.deferred is not None
    assert torch.equal(later.sequence(image.layout)[later.deferred], now.sequence(image.layout))


def test_ptp_continue_is_never_silently_unpruned() -> None:
    layout = two_tiles()
    with pytest.raises(SelectionError, match="call pruner_for"):
        create("ptp", mode="continue").pruner(half(layout))
    assert create("ptp").pruner(half(layout)) is None


def test_ptp_without_a_question_says_so() -> None:
    image = replace(ptp_input("ptp.reserve_thumb"), question=None)
    with pytest.raises(SelectionError, match="ptp reads LLM attention of block 2"):
        create("ptp").select(image, half(image.layout))


def globalcom2_input() -> Encoded:
    inputs = vector("globalcom2.released_code")["inputs"]
    return encoded(two_tiles(), cls_logits={24: heads({"G": inputs["thumb_logits"], **inputs["tile_logits"]})})


def test_globalcom2_released_code_vector() -> None:
    expected, image = vector("globalcom2.released_code")["expected"], globalcom2_input()
    method = create("globalcom2", variant="released")
    selection = method.select(image, half(image.layout))
    logits = image.cls_logits[24].mean(1)
    assert method.scales(logits[0], image.layout, 0.5).tolist() == pytest.approx(expected["scales"], abs=1e-5)
    broad = global_map(logits[0], image.layout).reshape(-1)[image.layout.mosaic()]
    for row, want in zip(broad.tolist(), expected["global_map"], strict=True):
        assert row == pytest.approx(want, abs=1e-5)
    assert selection.scores is not None
    for view in (1, 2):
        assert selection.scores[view].tolist() == pytest.approx(expected["score"][letter(view)], abs=1e-5)
    assert selection.view_budgets == (2, *expected["n_tiles"])
    assert kept(selection) == expected["kept"]
    assert llm_order(selection, image.layout) == expected["llm_order"]


def test_globalcom2_exact_hits_the_budget_in_raster_order() -> None:
    image = globalcom2_input()
    selection = create("globalcom2").select(image, half(image.layout))
    assert selection.n_selected == 6
    assert llm_order(selection, image.layout) == ["G0", "G2", "A0", "B1", "NL", "A2", "B3", "NL"]


@pytest.mark.parametrize("variant", ["exact", "released"])
def test_globalcom2_serves_a_picture_whose_tiles_show_padding_alone(variant: str) -> None:
    layout = llava_layout((1, 3), (4, 4), rows=slice(2, 2))
    assert layout.num_patches == 16
    logits = torch.arange(16.0).expand(4, 1, 16)
    image = encoded(layout, cls_logits={24: logits})
    selection = create("globalcom2", variant=variant).select(image, Budget.of(layout, 0.25))
    assert selection.view_budgets == (4, 0, 0, 0)
    assert kept(selection) == {"G": [12, 13, 14, 15], "A": [], "B": [], "C": []}


def test_globalcom2_released_misplaces_tokens_of_padded_tiles() -> None:
    # One tile row of padding on top: the released code writes real tokens 0.. into the padded rows.
    layout = llava_layout((1, 2), (2, 2), rows=slice(1, 2))
    image = encoded(layout, cls_logits={24: torch.arange(12.0).view(3, 1, 4)})
    order = llm_order(create("globalcom2", variant="released").select(image, half(layout)), layout)
    assert order == ["G3", "G2", "B3", "NL", "NL"]  # B3 stands in the lower row


def prumerge_view(name: str) -> tuple[Views, dict[str, object]]:
    given = vector(name)
    inputs = given["inputs"]
    scores, keys, features = (
        torch.tensor(inputs[key], dtype=torch.float64)[None] for key in ("cls_attn", "keys", "features")
    )
    valid = torch.ones(scores.shape, dtype=torch.bool)
    return Views(scores, keys, keys.norm(dim=2), features, valid), given["expected"]


def test_prumerge_vector() -> None:
    views, expected = prumerge_view("prumerge")
    scores = views.scores[0]
    assert outliers(scores) / len(scores) == expected["ratio"]
    order = descending(scores, outliers(scores))
    assert order.tolist() == expected["order"]
    tokens, (leftover,) = merge(views, [order], neighbours=2)
    for row, want in zip([*tokens.tolist(), leftover.tolist()], expected["output"], strict=True):  # type: ignore[call-overload]
        assert row == pytest.approx(want, abs=1e-5)


def test_prumerge_plus_vector() -> None:
    views, expected = prumerge_view("prumerge_plus")
    scores = views.scores[0]
    order = with_samples(descending(scores, outliers(scores)), len(scores))
    assert order.tolist() == expected["order"]
    tokens, (leftover,) = merge(views, [order], neighbours=2)
    assert len(tokens) + 1 == expected["n_out"]
    assert leftover.tolist() == pytest.approx(expected["output_last"], abs=1e-5)


def test_prumerge_plus_stride_vector() -> None:
    given = vector("prumerge_plus.stride")
    assert [stride(ratio) for ratio in given["inputs"]["ratios"]] == given["expected"]["stride"]


def test_prumerge_plus_fixed_fills_with_samples() -> None:
    assert filled(torch.tensor([7, 2]), 12, 6).tolist() == [7, 2, 0, 4, 6, 8]
    assert filled(torch.tensor([7, 2]), 12, 1).tolist() == [7]
    assert sorted(filled(torch.tensor([7, 2]), 12, 12).tolist()) == list(range(12))


def test_prumerge_assembles_views_in_the_family_order() -> None:
    for layout, views in ((internvl_layout((1, 2), (4, 4)), [1, 2, 0]), (llava_layout((1, 2), (4, 4)), [0, 1, 2])):
        method = create("prumerge", count="fixed")
        image = random_encoded(layout, method.needs(CLIP))
        selection = method.select(image, Budget.of(layout, 0.25))
        sequence = selection.sequence(layout)
        assert selection.n_selected == 12
        assert (sequence < 0).sum() == 3
        assert sequence[[4, 9, 14]].tolist() == [-2 - view for view in views]
        assert [int(sequence[5 * turn]) // 16 for turn in range(3)] == views


def test_prumerge_score_is_the_full_width_softmax() -> None:
    layout, method = single_layout((4, 4)), create("prumerge")
    image = random_encoded(layout, method.needs(CLIP))
    query, keys = image.cls_query[24][0].reshape(-1), image.keys[24][0].transpose(0, 1).flatten(1)
    wanted = torch.softmax(keys @ query / 8**0.5, 0)[1:]
    scores = method.select(image, Budget.of(layout, 0.5)).scores
    assert scores is not None
    assert torch.allclose(scores[0], wanted)


def test_prumerge_without_outliers_leaves_the_summary_token() -> None:
    layout, method = single_layout((2, 2)), create("prumerge")
    image = random_encoded(layout, method.needs(CLIP))
    flat = replace(image, cls_query={24: torch.zeros_like(image.cls_query[24])})
    for name in ("prumerge", "prumerge+"):
        selection = create(name).select(flat, Budget.of(layout, 0.5))
        assert selection.n_selected == 0
        assert selection.sequence(layout).tolist() == [-2]
