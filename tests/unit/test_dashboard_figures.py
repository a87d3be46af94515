"""Charts of the frontier: series, hover, published points."""

from __future__ import annotations

import pytest

pytest.importorskip("plotly")

from dashboard import figures, printed
from hero_ray.results.axes import AXES
from hero_ray.results.marks import marks
from hero_ray.results.shown import palette
from tests.dashboard_rows import GRID, row


def test_frontier_draws_every_series_with_its_interval() -> None:
    found = marks(GRID)
    line = [mark for mark in found if mark.method in ("hero", "full")][::-1]
    figure = figures.frontier(found, AXES["tokens"], "accuracy", line)
    traces = {trace.name: trace for trace in figure.data}
    assert {"full", "hero", "hired", "random", "Pareto line"} <= set(traces)
    hero = traces["hero"]
    assert (list(hero.x), list(hero.y)) == ([30.0], [85.0])
    assert hero.error_y.array[0] == pytest.approx(10.0)
    assert hero.marker.color == palette.look("hero").colour
    assert traces["random"].marker.size < hero.marker.size
    assert list(traces["Pareto line"].x) == [30.0, 110.0]
    assert list(traces["Pareto line"].y) == [85.0, 90.0]


def test_a_legend_of_many_methods_takes_room_of_its_own() -> None:
    few = figures.frontier(marks([row(f"method-{i}") for i in range(8)]), AXES["tokens"], "accuracy")
    many = figures.frontier(marks([row(f"method-{i}") for i in range(36)]), AXES["tokens"], "accuracy")
    assert many.layout.height - few.layout.height == figures.ROW * 12, (
        "36 names are 18 rows where two stand side by side"
    )
    assert many.layout.legend.maxheight > 0.5, "Plotly would hide what is below the half of a chart"
    long = "a-method-of-somebody-else-with-a-very-long-name"
    (trace,) = figures.frontier(marks([row(long)]), AXES["tokens"], "accuracy").data
    assert trace.name.replace("<br>", "") == long
    assert max(map(len, trace.name.split("<br>"))) <= figures.NAME


def test_hover_says_interval_sample_size_and_tokens() -> None:
    figure = figures.frontier(marks(GRID), AXES["tokens"], "accuracy")
    hero = next(trace for trace in figure.data if trace.name == "hero")
    title, score, rest, run, cell = hero.customdata[0]
    assert title == "hero at 20%"
    assert score == "85.0 (75.0 to 95.0)"
    assert rest == "n = 150 questions on 60 pictures<br>30.0 visual tokens"
    assert (run, cell) == ("run", "hero-0.2-bench-0")


def test_published_points_are_hollow_and_named() -> None:
    extra = [{"method": "hero", "label": "hero, HERO Table IV", "x": 0.2, "y": 96.0, "source": "HERO Table IV"}]
    figure = figures.frontier(marks(GRID), AXES["retention"], "share", published=extra)
    mark = next(trace for trace in figure.data if trace.name == "published<br>(hollow)")
    assert mark.marker.symbol == "circle-open"
    assert list(mark.x) == [20.0]
    assert "HERO Table IV" in mark.hovertemplate


def test_thousands_of_points_leave_intervals_to_the_hover() -> None:
    found = marks([row(ratio=0.0001 * i, params={"alpha": i}) for i in range(1, 1001)])
    figure = figures.frontier(found, AXES["tokens"], "accuracy")
    assert sum(len(trace.x) for trace in figure.data) == 1000
    assert all(trace.error_y.array is None for trace in figure.data)


def test_faster_is_to_the_left_on_the_decode_axis() -> None:
    found = marks([row("hero", profile={"decode_tokens_per_s": 50.0, "certificate_hash": "a"})])
    axis = figures.frontier(found, AXES["decode"], "accuracy").layout.xaxis
    assert (axis.autorange, axis.title.text) == ("reversed", "Decode speed, tokens/s (faster to the left)")


def test_printed_averages_compare_like_with_like() -> None:
    found = printed.overlay(AXES["retention"], None)
    full = [point for point in found if point["method"] == "full"]
    assert {point["y"] for point in full} == {100.0}
    hero = next(p for p in found if p["label"] == "hero, HERO Table IV, llava-next-7b" and p["x"] == 0.2)
    assert 90 < hero["y"] < 100
    assert printed.overlay(AXES["ttft"], None) == []
    assert all("textvqa" not in point["source"] for point in printed.overlay(AXES["tokens"], "gqa"))
