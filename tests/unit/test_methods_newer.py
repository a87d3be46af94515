"""VisionZip, DivPrune, VisPruner, HoloV and CDPruner against their vectors; vector tests carry the vector's id."""

from __future__ import annotations

import pytest
import torch

from hero_ray.core.encoded import Budget, Question, VisionInfo
from hero_ray.methods import create
from hero_ray.methods.cdpruner import greedy_map, relevance
from hero_ray.methods.divprune import max_min
from hero_ray.methods.holov import HoloV, Runs, mean_variances, released_counts, run_scores
from hero_ray.methods.kit.conformance import INTERNVIT, internvl_layout, llava_layout, random_encoded, single_layout
from hero_ray.methods.kit.similarity import grouped_gram
from hero_ray.methods.visionzip import contextual_tokens, target_places
from hero_ray.methods.vispruner import thinned
from tests.method_vectors import encoded, kept, vector

CLIP = VisionInfo(24, 23)


def test_visionzip_vector() -> None:
    given = vector("visionzip")
    inputs, expected = given["inputs"], given["expected"]
    layout = single_layout((1, 6))
    metric = torch.tensor(inputs["key_metric"])
    image = encoded(
        layout,
        cls_attention={23: torch.tensor(inputs["cls_attn"])[None, None]},
        keys={23: torch.cat([torch.zeros(1, 2), metric])[None, None]},
        cls_embedding={"feature_layer": torch.tensor([inputs["cls_feature"]])},
        projector_input=torch.tensor(inputs["features"])[None],
    )
    params = given["params"]
    total = params["dominant_including_cls"] + params["contextual"]
    method = create("visionzip", contextual_share=params["contextual"] / total)
    selection = method.select(image, Budget.of(layout, tokens=total))
    rest = torch.tensor([[True, False, True, False, True, True]])
    targets = target_places(rest, [2])
    assert image.projector_input is not None
    merged = contextual_tokens(image.projector_input, metric[None], targets, rest & ~targets)
    assert targets[0].nonzero()[:, 0].tolist() == expected["targets"]
    assert merged.tolist() == [pytest.approx(row) for row in expected["contextual"]]
    assert sorted(kept(selection)["G"]) == sorted(expected["dominant"] + expected["targets"])
    assert selection.sequence(layout).tolist() == [-2, *expected["dominant"], *expected["targets"]]
    assert selection.edited is not None
    assert selection.edited[0, expected["targets"]].tolist() == [pytest.approx(row) for row in expected["contextual"]]
    assert selection.extra is not None
    assert selection.extra.tolist() == [inputs["cls_feature"]]


@pytest.mark.parametrize(("count", "shares"), [(64, (1, 53, 10)), (128, (1, 107, 20)), (192, (1, 161, 30))])
def test_visionzip_splits_as_its_printed_settings_do(count: int, shares: tuple[int, int, int]) -> None:
    """54 + 10, 108 + 20 and 162 + 30 tokens, the CLS token among the dominant ones."""
    assert create("visionzip").split(count, True) == shares
    assert create("visionzip", contextual_share=30 / 221).split(64, True) == (1, 55, 8)


def test_visionzip_counts_cls_into_the_budget() -> None:
    method = create("visionzip")
    for layout, vision in ((llava_layout((2, 2), (6, 6)), CLIP), (internvl_layout((1, 2), (6, 6)), INTERNVIT)):
        image = random_encoded(layout, method.needs(vision), vision)
        budget = Budget.of(layout, 0.3)
        assert len(method.select(image, budget).sequence(layout)) == budget.total


def test_divprune_vector() -> None:
    given = vector("divprune")
    features, expected = torch.tensor(given["inputs"]["features"]), given["expected"]
    assert max_min(features, expected["n"]).tolist() == expected["pick_order"]
    layout = single_layout((1, 5))
    selection = create("divprune").select(encoded(layout, features=features[None]), Budget.of(layout, 0.6))
    assert kept(selection)["G"] == expected["kept"]


def test_divprune_never_picks_a_token_twice() -> None:
    assert sorted(max_min(torch.ones(5, 3), 5).tolist()) == [0, 1, 2, 3, 4]


def test_vispruner_vector() -> None:
    given = vector("vispruner")
    inputs, params, expected = given["inputs"], given["params"], given["expected"]
    attention, features = torch.tensor(inputs["attn"]), torch.tensor(inputs["features"])
    order = attention.argsort(descending=True, stable=True)
    assert sorted(order[:4].tolist()) == expected["important"]
    for count, residual in zip((6, 4), expected["residual_trace"], strict=True):
        left = thinned([features], order[None, 4:], count, params["max_remove_per_iter"])
        assert left[0].tolist() == residual
    layout = single_layout((3, 4))
    image = encoded(layout, cls_attention={23: attention[None, None]}, projector_input=features[None])
    method = create("vispruner", removed_per_round=params["max_remove_per_iter"])
    selection = method.select(image, Budget.of(layout, tokens=params["T"]))
    assert kept(selection)["G"] == expected["kept"]


def test_holov_vector() -> None:
    given = vector("holov")
    inputs, params, expected = given["inputs"], given["params"], given["expected"]
    attention, features = torch.tensor(inputs["attn"]), torch.tensor(inputs["features"])
    runs = Runs.cut(torch.arange(8), 2)
    products = grouped_gram(features, runs.tokens, runs.inside)
    variances = mean_variances(products, runs.sizes)
    scores = run_scores(attention.view(2, 4), variances, runs.sizes, params["alpha"])
    assert scores == pytest.approx(expected["chunk_scores"], abs=1e-4)
    assert released_counts(params["budget"], scores) == expected["alloc"]
    layout = single_layout((2, 4))
    image = encoded(layout, cls_attention={23: attention[None, None]}, features=features[None])
    budget = Budget.of(layout, tokens=params["budget"])
    released = HoloV(variant="released", runs=params["num_patches"]).select(image, budget)
    assert released.sequence(layout).tolist() == expected["order"]
    exact = HoloV(runs=params["num_patches"]).select(image, budget)
    assert kept(exact)["G"] == expected["kept"]
    assert exact.order is None


@pytest.mark.parametrize(("tokens", "count"), [(40, 5), (37, 5), (7, 3), (5, 5), (3, 5)])
def test_holov_scores_runs_of_any_length_by_its_definition(tokens: int, count: int) -> None:
    draw = torch.Generator().manual_seed(tokens)
    features = torch.randn(tokens + 4, 12, generator=draw) + 0.5
    attention, ids = torch.rand(tokens + 4, generator=draw), torch.randperm(tokens + 4, generator=draw)[:tokens]
    wanted = []
    for run in ids.tensor_split(count):
        size, own = len(run), features[run].double()
        own = own / (own.norm(dim=1, keepdim=True) + 1e-6)
        cosines = (own @ own.T).fill_diagonal_(0.0)
        variance = ((cosines - cosines.sum(1, keepdim=True) / max(1, size - 1)) ** 2).sum(1) / max(1, size - 1)
        scaled = 1e3 * attention[run].double()
        magnitude = scaled.abs().mean() / (variance.abs().mean() + 1e-6)
        wanted.append(float((scaled + 0.09 * magnitude * variance).mean() if size > 1 else attention[run].sum()))
    runs = Runs.cut(ids, count)
    products = grouped_gram(features, runs.tokens, runs.inside)
    variances = mean_variances(products, runs.sizes)
    found = run_scores(attention[runs.tokens] * runs.inside, variances, runs.sizes, 0.09)
    assert found == pytest.approx(wanted, rel=1e-4)
    counts = torch.arange(count) % 3
    best = [
        run if n >= len(run) else run[attention[run].argsort(descending=True)][:n]
        for run, n in zip(ids.tensor_split(count), counts, strict=True)
    ]
    assert runs.best(attention[runs.tokens], counts.tolist(), runs.sizes.tolist()).tolist() == torch.cat(best).tolist()


def test_cdpruner_vector() -> None:
    given = vector("cdpruner")
    inputs, expected = given["inputs"], given["expected"]
    features = torch.tensor(inputs["features_unit"])[None]
    cosines = torch.tensor(inputs["cos_to_text"])[None]
    valid = torch.ones(1, 6, dtype=torch.bool)
    weights = relevance(cosines, valid)
    assert weights[0].tolist() == pytest.approx(expected["relevance"], abs=1e-5)
    picks = greedy_map(features, weights, valid, given["params"]["T"])
    assert picks[0].tolist() == expected["pick_order"]
    layout = single_layout((2, 3))
    image = encoded(layout, features=features, question=Question("?", clip_tokens=cosines))
    selection = create("cdpruner").select(image, Budget.of(layout, tokens=given["params"]["T"]))
    assert kept(selection)["G"] == expected["kept"]


@pytest.mark.parametrize("seed", range(4))
def test_cdpruner_without_a_question_is_no_matter_of_rounding(seed: int) -> None:
    """Every first gain is a cosine with oneself: the tie goes to the lower index, whatever the scale or the dtype."""
    layout = llava_layout((1, 2), (12, 12))
    features = torch.randn(3, 144, 96, generator=torch.Generator().manual_seed(seed))
    budget, masks = Budget.of(layout, 0.3), []
    for same in (features, 3 * features, features.double()):
        picks = greedy_map(same, torch.ones_like(same[..., 0]), layout.valid, 40)
        assert picks[:, 0].tolist() == [0, 0, 0]
        masks.append(create("cdpruner").select(encoded(layout, features=same), budget).keep)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


def test_cdpruner_leaves_a_token_of_zeros_for_last() -> None:
    features = torch.eye(4)[None].clone()
    features[0, 0] = 0.0
    picks = greedy_map(features, torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool), 4)
    assert picks.tolist() == [[1, 2, 3, 0]]


def test_cdpruner_says_when_no_text_tower_is_at_hand() -> None:
    layout = single_layout((2, 3))
    image = random_encoded(layout, create("cdpruner").needs(CLIP)).asked(Question("?"))
    selection = create("cdpruner").select(image, Budget.of(layout, tokens=3))
    assert selection.n_selected == 3
    assert "cdpruner-v" in selection.note
