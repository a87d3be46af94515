"""The table that ends a sweep: settings of one method never share a row, seeds do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hero_ray.results.summary import straw_man_flags, table


def point(value: float, method: str = "hero", **params: Any) -> Any:
    return SimpleNamespace(
        model="hero-tiny",
        method=method,
        variant="exact",
        params=params,
        retention_ratio=0.2,
        tokens=None,
        benchmark="synth-words",
        value=value,
        scale=1.0,
        ci_low=None,
        ci_high=None,
        stop_reason=None,
        n_visual_llm=70.0,
        flops=1e9,
        kv_bytes=1024.0,
        profile={},
    )


def first_columns(points: list[Any]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[2:5]] for line in table(points, ["synth-words"]).splitlines()[2:]]


def test_settings_have_rows_of_their_own_named_by_what_differs() -> None:
    settings = [{"alpha": 0.5, "layers": [6, 7]}, {"alpha": "auto", "layers": [6, 7]}, {"alpha": 0.5, "layers": [1]}]
    found = first_columns([point(v, **params) for v, params in zip((0.9, 0.8, 0.5), settings, strict=True)])
    assert found == [
        ["hero alpha=0.5, layers=[6,7]", "20%", "90.0"],
        ["hero alpha=auto, layers=[6,7]", "20%", "80.0"],
        ["hero alpha=0.5, layers=[1]", "20%", "50.0"],
    ]


def test_a_parameter_that_only_one_setting_has_names_it() -> None:
    found = first_columns([point(0.9, alpha=0.5), point(0.7, alpha=0.5, ratio="auto", ratio_mean=0.3)])
    assert [row[0] for row in found] == ["hero", "hero ratio=auto, ratio_mean=0.3"]


def test_seeds_share_a_row() -> None:
    found = first_columns([point(0.2, "random", seed=0), point(0.4, "random", seed=1)])
    assert found == [["random", "20%", "30.0"]]


def test_each_setting_faces_the_straw_men_by_itself() -> None:
    points = [point(0.5, "random", seed=0), point(0.9, alpha=0.5), point(0.4, alpha=1.0)]
    assert straw_man_flags(points) == ["hero alpha=1 at 20% (hero-tiny)"]
