"""Methods against vectors that the authors' own code gave; each vector names its repository, commit and inputs."""

from __future__ import annotations

from typing import Any

import pytest

from hero_ray.core.encoded import Budget
from hero_ray.methods import create
from hero_ray.methods.kit.conformance import llava_layout, single_layout
from tests.method_vectors import encoded
from tests.official import OFFICIAL, attention, uniform


def cases(name: str) -> Any:
    """Every case of one vector as a test of its own."""
    found = OFFICIAL[name]["cases"]
    return pytest.mark.parametrize("case", found, ids=[f"{name}-{place}" for place in range(len(found))])


def test_every_vector_says_where_it_came_from() -> None:
    for name, vector in OFFICIAL.items():
        assert set(vector) == {"repository", "commit", "file", "inputs", "cases"}, name
        assert len(vector["commit"]) == 40, name
        assert vector["cases"], name


@cases("hired.released")
def test_hired_released(case: dict[str, Any]) -> None:
    layout = llava_layout((2, 2), (6, 6))
    image = encoded(layout, cls_attention={1: attention(1, 5, 2, 36), 23: attention(2, 5, 2, 36)})
    method = create("hired", variant="released", alpha=case["alpha"])
    selection = method.select(image, Budget.of(layout, case["ratio"], base="grid"))
    assert list(selection.view_budgets or ()) == case["view_budgets"]
    assert selection.keep.sum(1).tolist() == case["view_budgets"]


@cases("holov.released")
def test_holov_released(case: dict[str, Any]) -> None:
    layout = single_layout((1, case["tokens"]))
    image = encoded(
        layout,
        cls_attention={23: attention(5, 1, 37)[None, :, : case["tokens"]]},
        features=(uniform(3, 37, 16) - 0.4)[None, : case["tokens"]],
    )
    selection = create("holov", variant="released").select(image, Budget.of(layout, tokens=case["budget"]))
    assert selection.sequence(layout).tolist() == case["order"]
    exact = create("holov").select(image, Budget.of(layout, tokens=case["budget"]))
    assert exact.n_selected == case["budget"]
