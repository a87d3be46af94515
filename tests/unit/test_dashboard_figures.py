"""Marks and charts of the frontier: seeds, scales, averages, hover, published points."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hero_ray.store import PointRow

pytest.importorskip("plotly")

from dashboard import figures, printed
from hero_ray.results.shown import palette, points
from tests.dashboard_rows import GRID, row


def test_seeds_become_one_mark_with_their_mean() -> None:
    mark = next(mark for mark in points.marks(GRID) if mark.method == "random")
    assert mark.value == pytest.approx(65.0)
    assert (mark.low, mark.high) == (pytest.approx(55.0), pytest.approx(75.0))
    assert len(mark.cells) == 2
    assert mark.note == "mean of 2 seeds"


def test_the_newest_run_of_a_cell_counts() -> None:
    newer, older = row(value=0.9, run_id="new"), row(value=0.1, run_id="old")
    (mark,) = points.marks([newer, older])
    assert mark.value == pytest.approx(90.0)
    assert mark.cells == (("new", newer.cell_id),)


def test_labels_name_only_what_tells_series_apart() -> None:
    found = points.marks(
        [row(params={"alpha": 0.5, "beta": 1}), row(params={"alpha": 0.7, "beta": 1}), row("hired", params={"x": 1})]
    )
    assert [mark.series for mark in found] == ["hero (alpha=0.5)", "hero (alpha=0.7)", "hired"]
    (paper,) = points.marks([row(variant="paper")])
    assert paper.series == "hero (paper)"


def test_scores_use_their_scale() -> None:
    (mark,) = points.marks([row(value=1500.0, scale=2000.0, ci_low=1400.0, ci_high=1600.0)])
    assert (mark.value, mark.low, mark.high) == (75.0, 70.0, 80.0)


def test_retention_average_is_a_share_of_the_unpruned_score() -> None:
    two = GRID + [replace(each, benchmark="other", value=each.value / 2, cell_id=each.cell_id + "o") for each in GRID]
    averages = {mark.series: mark for mark in points.retention_average(points.marks(two))}
    assert averages["full"].value == pytest.approx(100.0)
    assert averages["hero"].value == pytest.approx(100 * 0.85 / 0.9)
    assert averages["hero"].parts == {"bench": pytest.approx(94.44, abs=0.01), "other": pytest.approx(94.44, abs=0.01)}
    assert averages["full"].low is None


def test_a_configuration_that_misses_a_benchmark_has_no_average() -> None:
    found = points.marks([*GRID, row("full", 1.0, 0.8, "other"), row("hired", 0.2, 0.8, "other")])
    assert {mark.series for mark in points.retention_average(found)} == {"full", "hired"}


def test_unlike_certificates_are_never_in_one_group() -> None:
    def timed(method: str, certificate: str) -> PointRow:
        return row(method, profile={"ttft_ms_p50": 5.0, "certificate_hash": certificate})

    found = points.marks([timed("hero", "a"), timed("hired", "b"), timed("fastervlm", "a"), row("random")])
    groups = dict(points.by_certificate(found, points.AXES["ttft"]))
    assert {key: {mark.method for mark in members} for key, members in groups.items()} == {
        "a": {"hero", "fastervlm"},
        "b": {"hired"},
    }
    ((_, together),) = points.by_certificate(found, points.AXES["tokens"])
    assert len(together) == 4


def test_differing_conditions_are_named_with_their_values() -> None:
    first = {"device_name": "H100", "dtype": "bfloat16", "n": 10, "commit": "a"}
    second = {"device_name": "L20", "dtype": "bfloat16", "n": 20, "commit": "b"}
    assert points.differing_conditions([first, second]) == ["device name (H100, L20)"]


@pytest.mark.parametrize(("largest", "unit"), [(3e12, "TFLOPs"), (3e9, "GFLOPs"), (5.0, "MFLOPs")])
def test_units_follow_the_size(largest: float, unit: str) -> None:
    assert points.AXES["flops"].unit([largest, None, 1.0])[1] == unit


def test_frontier_draws_every_series_with_its_interval() -> None:
    found = points.marks(GRID)
    best = points.best(points.place(found, points.AXES["tokens"]))
    figure = figures.frontier(found, points.AXES["tokens"], "accuracy", best)
    traces = {trace.name: trace for trace in figure.data}
    assert {"full", "hero", "hired", "random", "Pareto line"} <= set(traces)
    hero = traces["hero"]
    assert (list(hero.x), list(hero.y)) == ([30.0], [85.0])
    assert hero.error_y.array[0] == pytest.approx(10.0)
    assert hero.marker.color == palette.look("hero").colour
    assert traces["random"].opacity < 1
    assert list(traces["Pareto line"].x) == [30.0, 110.0]
    assert list(traces["Pareto line"].y) == [85.0, 90.0]


def test_hover_says_interval_sample_size_and_tokens() -> None:
    figure = figures.frontier(points.marks(GRID), points.AXES["tokens"], "accuracy")
    hero = next(trace for trace in figure.data if trace.name == "hero")
    title, score, rest, run, cell = hero.customdata[0]
    assert title == "hero at 20%"
    assert score == "85.0 (75.0 to 95.0)"
    assert rest == "n = 150 questions on 60 pictures<br>30.0 visual tokens"
    assert (run, cell) == ("run", "hero-0.2-bench-0")


def test_published_points_are_hollow_and_named() -> None:
    extra = [{"method": "hero", "label": "hero, HERO Table IV", "x": 0.2, "y": 96.0, "source": "HERO Table IV"}]
    figure = figures.frontier(points.marks(GRID), points.AXES["share"], "share", published=extra)
    mark = next(trace for trace in figure.data if trace.name == "published (hollow)")
    assert mark.marker.symbol == "circle-open"
    assert list(mark.x) == [20.0]
    assert "HERO Table IV" in mark.hovertemplate


def test_thousands_of_points_leave_intervals_to_the_hover() -> None:
    found = points.marks([row(ratio=0.0001 * i, params={"alpha": i}) for i in range(1, 1001)])
    figure = figures.frontier(found, points.AXES["tokens"], "accuracy")
    assert sum(len(trace.x) for trace in figure.data) == 1000
    assert all(trace.error_y.array is None for trace in figure.data)


def test_faster_is_to_the_left_on_the_decode_axis() -> None:
    found = points.marks(
        [
            row("hero", value=0.8, profile={"decode_tokens_per_s": 50.0, "certificate_hash": "a"}),
            row("full", 1.0, 0.9, profile={"decode_tokens_per_s": 30.0, "certificate_hash": "a"}),
            row("hired", value=0.7, profile={"decode_tokens_per_s": 40.0, "certificate_hash": "a"}),
        ]
    )
    axis = points.AXES["decode"]
    best = [found[i].method for i in points.best(points.place(found, axis))]
    assert best == ["hero", "full"]
    assert figures.frontier(found, axis, "accuracy").layout.xaxis.autorange == "reversed"


def test_printed_averages_compare_like_with_like() -> None:
    found = printed.overlay("share", None)
    full = [point for point in found if point["method"] == "full"]
    assert {point["y"] for point in full} == {100.0}
    hero = next(p for p in found if p["label"] == "hero, HERO Table IV, llava-next-7b" and p["x"] == 0.2)
    assert 90 < hero["y"] < 100
    assert printed.overlay("ttft", None) == []
    assert all("textvqa" not in point["source"] for point in printed.overlay("tokens", "gqa"))
