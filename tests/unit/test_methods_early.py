"""Methods before the LLM against their vectors; each vector test carries the vector's id in its name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hero_ray.core.encoded import Budget, Encoded, ImagePlan, Needs, Question, VisionInfo
from hero_ray.core.errors import ParameterError, SelectionError, UnknownNameError
from hero_ray.methods import create
from hero_ray.methods.kit.allocation import allocate
from hero_ray.methods.kit.conformance import internvl_layout, llava_layout, random_encoded, single_layout
from hero_ray.methods.kit.scores import keep_top
from hero_ray.methods.spatial import centred, hired_stride
from hero_ray.methods.spatial_pool import pool, pooled_side
from tests.method_vectors import VECTORS, encoded, half, heads, kept, llm_order, two_tiles, vector

FINAL = {"G": [0.1, 0.4, 0.05, 0.2], "A": [0.25, 0.2, 0.15, 0.05], "B": [0.1, 0.15, 0.3, 0.25]}


@pytest.mark.parametrize("name", [name for name in VECTORS if name.startswith("alloc.")])
def test_allocate(name: str) -> None:
    given = vector(name)
    budget, weights, caps = given["params"]["budget"], given["inputs"]["weights"], given["inputs"]["caps"]
    assert allocate(budget, weights, caps, "floor") == given["expected"]["floor"]
    assert allocate(budget, weights, caps, "exact") == given["expected"]["exact"]


def test_allocate_shares_equally_when_no_weight_says_otherwise() -> None:
    assert allocate(5, [0.0, 0.0], [4, 4]) == [3, 2]
    assert allocate(1, [0.0, 0.0, 1.0], [4, 4, 0]) == [1, 0, 0]


def hero_input(given: dict[str, Any]) -> Encoded:
    """The vector's attention in CLIP layers 6-7 (tiles) and 22 (thumbnail), its cosines as 2-d embeddings."""
    inputs = given["inputs"]
    layout = two_tiles()
    if "valid" in inputs:
        layout.valid[2, 2:] = False
    low = [
        heads({"G": [0.0] * 4, "A": inputs["tile_L_attn"]["A"][i], "B": inputs["tile_L_attn"]["B"][i]}) for i in (0, 1)
    ]
    high = heads({"G": inputs["thumb_H_attn"][0], "A": [0.0] * 4, "B": [0.0] * 4})
    cosines = torch.tensor([1.0, *inputs["cls_sim"]], dtype=torch.float64)
    return encoded(
        layout,
        question=Question("?", clip_score=torch.tensor([0.0, *inputs["clip_score"]], dtype=torch.float64)),
        cls_attention={6: low[0], 7: low[1], 22: high},
        cls_embedding={"last_pre_ln": torch.stack([cosines, (1 - cosines**2).sqrt()], 1)},
    )


@pytest.mark.parametrize(
    ("name", "variant"), [("hero.paper_floor", "paper"), ("hero.exact", "exact")], ids=["paper_floor", "exact"]
)
def test_hero(name: str, variant: str) -> None:
    given = vector(name)
    image = hero_input(given)
    method = create("hero", variant=variant, tile_layers=(6, 7))
    selection = method.select(image, half(image.layout))
    expected = given["expected"]
    assert selection.view_budgets == (expected["N_G"], *expected["n_tiles"])
    assert kept(selection) == expected["kept"]
    assert llm_order(selection, image.layout) == expected["llm_order"]
    importance, note = method._tile_importance(image)
    assert importance == pytest.approx(expected["s"], abs=1e-5)
    assert note == ""


def test_hero_released_code_vector() -> None:
    given = vector("hero.released_code")
    image = hero_input(given)
    method = create("hero", variant="released", tile_layers=(6, 7))
    selection = method.select(image, half(image.layout))
    expected = given["expected"]
    assert method._tile_importance(image)[0] == pytest.approx(expected["fused"], abs=1e-5)
    assert selection.view_budgets == (expected["N_global"], *expected["n_tiles"])
    assert kept(selection) == expected["kept"]
    # the vector's mosaic order: row A0 A1 B0 B1, then the emptied row A2 A3, whose newline stays
    assert llm_order(selection, image.layout) == expected["llm_order"]


def test_hero_double_softmax_vector() -> None:
    given = vector("hero.double_softmax")
    rows = torch.tensor(given["inputs"]["cls_to_patch_attn_2heads_4patches"], dtype=torch.float64)[None]
    image = encoded(single_layout((2, 2)), cls_attention={22: rows, 6: rows})
    for variant in ("paper", "released"):
        selection = create("hero", variant=variant, tile_layers=(6,)).select(image, half(image.layout))
        assert selection.scores is not None
        assert selection.scores[0].tolist() == pytest.approx(given["expected"][f"{variant}_score"], abs=1e-5)
        assert kept(selection)["G"] == given["expected"][f"{variant}_kept"]


def test_hero_budget_numbers_vector() -> None:
    given = vector("hero.budget_numbers")
    layout = llava_layout((2, 2), (24, 24))
    for position, ratio in enumerate(given["inputs"]["R"]):
        for variant in ("paper", "released"):
            method, expected = create("hero", variant=variant), given["expected"][variant][position]
            image = random_encoded(layout, method.needs(VisionInfo(24, 23)))
            selection = method.select(image, Budget.of(layout, ratio, base="grid"))
            assert selection.view_budgets is not None
            thumbnail, *tiles = selection.view_budgets
            assert thumbnail == expected["N_G" if variant == "paper" else "N_global"]
            local = expected["N_L" if variant == "paper" else "N_local"]
            assert local - 4 < sum(tiles) <= local
            if variant == "released":
                assert llm_order(selection, layout).count("NL") == expected["newlines"]


def test_hero_names_what_replaced_the_text_term() -> None:
    layout = two_tiles()
    method = create("hero")
    image = random_encoded(layout, method.needs(VisionInfo(24, 23)))
    assert "hero-v" not in method.select(image, half(layout)).note
    silent = image.asked(Question("?"))
    assert "hero-v" in method.select(silent, half(layout)).note
    by_image = create("hero", alpha=1.0).select(image, half(layout))
    assert torch.equal(method.select(silent, half(layout)).keep, by_image.keep)


def test_hero_reads_llm_attention_for_the_text_term_on_request() -> None:
    method, layout = create("hero", text_term="llm-attn", alpha=0.0), llava_layout((1, 2), (2, 2))
    needs = method.needs(VisionInfo(24, 23))
    assert needs.llm_attention == {2}
    assert not needs.clip_score
    image = random_encoded(layout, needs)
    rows = torch.zeros(2, 1, 3, 4)
    rows[:, 0, 2] = 5.0  # the question looks at the second tile only
    looked = image.asked(Question("?", llm_attention={2: rows}))
    selection = method.select(looked, Budget.of(layout, tokens=6))
    assert selection.note == "hero+llm-attn: LLM attention for the CLIP score"
    assert selection.view_budgets == (2, 0, 4)
    with pytest.raises(SelectionError, match="LLM attention of block"):
        method.select(image.asked(Question("?")), Budget.of(layout, tokens=6))


def test_hero_single_view_halves_layers_on_request() -> None:
    layout = single_layout((2, 2))
    attention = {layer: heads({"G": row}) for layer, row in ((22, [0.9, 0.5, 0.1, 0.0]), (6, [0.9, 0.1, 0.2, 0.8]))}
    image = encoded(layout, cls_attention=attention)
    budget = Budget.of(layout, 0.5)
    assert kept(create("hero", tile_layers=(6,)).select(image, budget))["G"] == [0, 1]
    assert kept(create("hero", tile_layers=(6,), single_view="half").select(image, budget))["G"] == [0, 3]


def test_hero_layers_follow_the_base_and_the_depth() -> None:
    tower = VisionInfo(24, 23)
    assert create("hero").needs(tower).cls_attention == {6, 7, 8, 9, 10, 22}
    assert create("hero", layer_base=0).needs(tower).cls_attention == {7, 8, 9, 10, 11, 23}
    assert create("hero").needs(VisionInfo(8, 7)).cls_attention == {2, 3, 7}


@pytest.mark.parametrize(
    ("name", "variant"), [("hired.paper", "paper"), ("hired.released_code", "released")], ids=["paper", "released_code"]
)
def test_hired(name: str, variant: str) -> None:
    given = vector(name)
    early = heads({"G": given["inputs"]["thumb_layer0_headsum"], "A": [0.0] * 4, "B": [0.0] * 4})
    image = encoded(two_tiles(), cls_attention={1: early, 23: heads(given["inputs"]["final_layer_headsum"])})
    selection = create("hired", variant=variant).select(image, half(image.layout))
    expected = given["expected"]
    assert selection.view_budgets == (expected.get("N_full", 3), *expected["n_tiles"])
    assert kept(selection) == expected["kept"]
    assert llm_order(selection, image.layout) == expected["llm_order"]


def test_hired_exact_spends_what_the_paper_loses() -> None:
    given = vector("hired.paper")
    early = heads({"G": given["inputs"]["thumb_layer0_headsum"], "A": [0.0] * 4, "B": [0.0] * 4})
    image = encoded(two_tiles(), cls_attention={1: early, 23: heads(given["inputs"]["final_layer_headsum"])})
    selection = create("hired").select(image, half(image.layout))
    assert selection.view_budgets == (3, 2, 1)
    assert selection.n_selected == 6


def test_fastervlm_vector() -> None:
    given = vector("fastervlm")
    image = encoded(two_tiles(), cls_attention={23: heads(given["inputs"]["head_mean_cls_attn"])})
    for variant in ("released", "exact"):
        selection = create("fastervlm", variant=variant).select(image, half(image.layout))
        assert kept(selection) == given["expected"]["kept"]
    released = create("fastervlm", variant="released").select(image, half(image.layout))
    assert llm_order(released, image.layout) == given["expected"]["llm_order"]


def test_random_vector() -> None:
    given = vector("random")
    image = encoded(two_tiles())
    selection = create("random", seed=0).select(image, half(image.layout))
    assert kept(selection) == given["expected"]["kept"]
    other = create("random", seed=1).select(image, half(image.layout))
    assert not torch.equal(selection.keep, other.keep)


def test_spatial_r_vector() -> None:
    expected = vector("spatial_r")["expected"]
    assert centred(16, 5).tolist() == expected["idx_16_5"]
    assert centred(10, 4).tolist() == expected["idx_10_4"]
    assert centred(576, 115)[:5].tolist() == expected["first5_576_115"]
    assert int(centred(576, 115)[-1]) == expected["last_576_115"]
    assert centred(256, 128)[:5].tolist() == expected["first5_256_128"]
    layout = single_layout((4, 4))
    assert kept(create("spatial").select(encoded(layout), Budget.of(layout, tokens=5)))["G"] == expected["idx_16_5"]


def test_spatial_r_hired_code_vector() -> None:
    expected = vector("spatial_r.hired_code")["expected"]
    assert hired_stride(16, 5).tolist() == expected["idx_16_5"]
    assert hired_stride(10, 4).tolist() == expected["idx_10_4"]
    assert len(hired_stride(576, 115)) == expected["n_576_115"]


def test_spatial_grid_spares_the_columns() -> None:
    layout = single_layout((4, 4))
    budget = Budget.of(layout, tokens=4)
    assert kept(create("spatial", pattern="grid2d").select(encoded(layout), budget))["G"] == [5, 7, 13, 15]


def test_spatial_pool_vector() -> None:
    given = vector("spatial_pool")
    tokens = torch.tensor(given["inputs"]["tokens_4x4"])[None, :, None]
    valid = torch.ones(1, 16, dtype=torch.bool)
    for edge in (2, 3):
        pooled = pool(tokens, valid, (4, 4), edge)[0, :, 0]
        assert pooled.tolist() == pytest.approx(given["expected"][f"g{edge}"], abs=1e-5)
    for count, ratio, edge in given["expected"]["side_for"]:
        assert pooled_side(count, ratio) == edge


def test_spatial_pool_orders_pooled_rows_and_skips_padding() -> None:
    layout = llava_layout((1, 2), (4, 4), rows=slice(1, 2))  # one real mosaic row out of four
    image = random_encoded(layout, Needs())
    selection = create("spatial-pool").select(image, Budget.of(layout, 0.4, base="grid"))
    assert selection.sequence(layout).tolist() == [-2, -3, -4, -5, -6, -7, -10, -11, -1]
    assert selection.extra is not None
    assert torch.allclose(selection.extra[4], image.features[1, 4:6].mean(0))
    tail = internvl_layout((1, 2), (2, 2))
    pooled = create("spatial-pool").select(random_encoded(tail, Needs()), Budget.of(tail, 0.3))
    assert pooled.sequence(tail).tolist() == [-3, -4, -2]  # tiles first, thumbnail last, no newline


def test_downsample_takes_the_largest_look_that_fits() -> None:
    looks = (ImagePlan((2, 2), 24, 2304), ImagePlan((0, 0), 24, 576), ImagePlan((0, 0), 12, 144))
    layout = llava_layout((2, 2), (24, 24))
    method = create("downsample")
    assert method.choose(looks, Budget.of(layout, 0.5)) == looks[1]
    assert method.choose(looks, Budget.of(layout, 0.01)) == looks[2]
    assert method.choose(looks, Budget.of(layout, 1.0)) is None


def test_keep_top_breaks_ties_by_position_and_shuns_padding() -> None:
    scores = torch.tensor([[1.0, 1.0, 1.0, 1.0], [5.0, 4.0, 3.0, 2.0]])
    valid = torch.tensor([[True, True, True, True], [False, False, True, True]])
    assert keep_top(scores, [2, 3], valid).tolist() == [[True, True, False, False], [False, False, True, True]]


def test_parameters_are_typed_and_ranged() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'hero'"):
        create("herp")
    with pytest.raises(ParameterError, match="no parameter"):
        create("hero", alhpa=0.5)
    with pytest.raises(ParameterError, match=r"alpha = 1.5; expected a share"):
        create("hero", alpha=1.5)
    with pytest.raises(ParameterError, match="alpha = 'x': expected a valid number"):
        create("hero", alpha="x")
    with pytest.raises(ParameterError, match="text_term = 'klip': expected 'clip', 'none', 'llm-embed' or 'llm-attn'"):
        create("hero", text_term="klip")
    with pytest.raises(ParameterError, match="no variant"):
        create("fastervlm", variant="paper")
    with pytest.raises(ParameterError, match="tile_layers"):
        create("hero", tile_layers=[0])
    assert create("gsearch", schedule=[1, 0.5]).parameters()["schedule"] == [1.0, 0.5]
    assert create("hero", alpha=1).parameters() == create("hero", alpha=1.0).parameters()


def test_missing_capture_is_named() -> None:
    image = encoded(two_tiles())
    with pytest.raises(SelectionError, match="fastervlm reads CLS attention of layer 23"):
        create("fastervlm").select(image, half(image.layout))
