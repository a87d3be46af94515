"""Every registered method, built in or foreign, against the promises of `hero_ray.methods.kit.conformance`."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hero_ray.core.encoded import Budget, Needs
from hero_ray.core.layout import Layout
from hero_ray.methods import create, get, names
from hero_ray.methods.base import Method
from hero_ray.methods.kit import conformance

PICTURES = conformance.layouts()
LAYOUTS = {label: layout for label, (layout, _) in PICTURES.items()}
CASES = [pytest.param(name, variant, id=f"{name}-{variant}") for name in names() for variant in get(name).variants]


@pytest.mark.parametrize(("name", "variant"), CASES)
@pytest.mark.parametrize("label", LAYOUTS)
def test_selection_keeps_every_promise(name: str, variant: str, label: str) -> None:
    method, (layout, tower) = create(name, variant=variant), PICTURES[label]
    encoded = conformance.random_encoded(layout, method.needs(tower), tower)
    bases = ("real",) if layout.valid.all() else ("real", "grid")  # without padding they are one
    for ratio in (0.01, 0.2, 0.9):  # and drawn ones below
        for base in bases:
            conformance.check_method(method, encoded, ratio, base)
    conformance.check_method(method, conformance.cast(encoded, torch.bfloat16), 0.3)


@pytest.mark.parametrize(("name", "variant"), CASES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused(name: str, variant: str, bad: float) -> None:
    method, layout = create(name, variant=variant), LAYOUTS["next-2x2"]
    encoded = conformance.random_encoded(layout, method.needs(conformance.CLIP))
    needs = method.needs(conformance.CLIP)
    reads = conformance.check_rejects_non_finite(method, encoded, 0.3, bad)
    assert reads or (needs == Needs() and method.name not in ("divprune", "holov", "cdpruner"))


@pytest.mark.parametrize("name", names())
def test_class_attributes_describe_the_method(name: str) -> None:
    cls = get(name)
    assert cls.name == name
    assert cls.paper
    assert cls.stage in ("image", "before-llm", "in-llm")
    assert cls.positions in ("compact", "keep")
    assert "exact" in cls.variants
    assert cls().variant == "exact"
    module = __import__(cls.__module__, fromlist=["_"])
    assert module.__doc__
    assert "Differs" in module.__doc__, "the module docstring lists where it differs from the paper"
    assert cls.text_aware or not cls().needs(conformance.CLIP).question


@pytest.mark.parametrize("name", names())
def test_parameters_rebuild_the_method(name: str) -> None:
    method = create(name)
    assert create(name, variant=method.variant, **method.parameters()) == method


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_shallow_towers_are_served(name: str, variant: str) -> None:
    vision = conformance.VisionInfo(num_layers=8, feature_layer=7)
    method, layout = create(name, variant=variant), LAYOUTS["next-2x2-unpadded"]
    needs = method.needs(vision)
    assert all(1 <= layer <= 8 for layer in needs.cls_attention | needs.cls_logits | needs.keys)
    conformance.check_method(method, conformance.random_encoded(layout, needs, vision), 0.2)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    side = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    family = draw(st.sampled_from(["single", "internvl", "next"]))
    if family == "single":
        return conformance.single_layout(side)
    grid = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    if family == "internvl":
        return conformance.internvl_layout(grid, side) if grid != (1, 1) else conformance.single_layout(side)
    edge, axis = draw(st.integers(0, 2)), draw(st.booleans())
    length = grid[0] * side[0] if axis else grid[1] * side[1]
    cut = slice(edge, max(edge, length - edge))
    return conformance.llava_layout(grid, side, **{"rows" if axis else "cols": cut})


@pytest.mark.parametrize(("name", "variant"), CASES)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    layout=layouts(),
    ratio=st.floats(0.001, 0.999),
    base=st.sampled_from(["real", "grid"]),
    levels=st.sampled_from([None, 3, 1]),
)
def test_any_picture_any_budget(
    name: str, variant: str, layout: Layout, ratio: float, base: str, levels: int | None
) -> None:
    """One level leaves zeros and few other values: zero vectors, constant attention, ties everywhere."""
    method = create(name, variant=variant)
    encoded = conformance.random_encoded(layout, method.needs(conformance.CLIP), levels=levels)
    conformance.check_method(method, encoded, ratio, base)


@pytest.mark.parametrize(("name", "variant"), CASES)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    layout=layouts(),
    ratio=st.floats(0.05, 0.95),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
    place=st.floats(0.0, 1.0),
)
def test_no_poisoned_score_moves_a_mask_silently(
    name: str, variant: str, layout: Layout, ratio: float, bad: float, place: float
) -> None:
    method = create(name, variant=variant)
    encoded = conformance.random_encoded(layout, method.needs(conformance.CLIP))
    conformance.check_rejects_non_finite(method, encoded, ratio, bad, place)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_one_token_budget(name: str, variant: str) -> None:
    method: Method = create(name, variant=variant)
    for layout in LAYOUTS.values():
        encoded = conformance.random_encoded(layout, method.needs(conformance.CLIP))
        budget = Budget.of(layout, tokens=1)
        conformance.check_selection(method, encoded, budget, method.select(encoded, budget))


@pytest.mark.parametrize("name", names())
def test_equal_pictures_get_equal_masks_in_any_dtype_copy(name: str) -> None:
    """A half-precision encoding prunes too, and the mask stays a function of the input alone."""
    method, layout = create(name), LAYOUTS["next-2x2"]
    encoded = conformance.random_encoded(layout, method.needs(conformance.CLIP))
    halved = conformance.cast(encoded, torch.bfloat16)
    budget = Budget.of(layout, 0.3)
    first, second = method.select(halved, budget), method.select(halved, budget)
    assert torch.equal(first.keep, second.keep)
    conformance.check_selection(method, halved, budget, first)
