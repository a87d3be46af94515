"""Marks, charts, tables, mask overlays and limits of the dashboard: plain functions, no Streamlit, no database."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hero_ray.store import PointRow, RunRow

pytest.importorskip("plotly")

from dashboard import (
    differences,
    figures,
    masks,
    palette,
    points,
    printed,
    profiles,
    speed_figures,
    study_figures,
    tables,
    trends,
)
from hero_ray.store.page_queries import TrendRow


def row(
    method: str = "hero", ratio: float = 0.2, value: float = 0.8, benchmark: str = "bench", **more: Any
) -> PointRow:
    fields: dict[str, Any] = {
        "run_id": "run",
        "cell_id": f"{method}-{ratio}-{benchmark}-{more.get('seed', 0)}",
        "model": "hero-tiny",
        "method": method,
        "variant": "exact",
        "params": {},
        "retention_ratio": ratio,
        "tokens": None,
        "seed": 0,
        "benchmark": benchmark,
        "flavour": "head",
        "metric": "accuracy",
        "category": "",
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "n": 150,
        "n_clusters": 60,
        "n_failed": 0,
        "scale": 1.0,
        "n_selected": 100 * ratio,
        "n_visual_llm": 100 * ratio + 10,
        "equivalent_tokens": 100 * ratio,
        "flops": 1e9 * ratio,
        "kv_bytes": 1e6 * ratio,
        "stop_reason": None,
    }
    return PointRow(**(fields | more))


GRID = [
    row("full", 1.0, 0.9),
    row("hero", 0.2, 0.85),
    row("hired", 0.2, 0.80),
    row("random", 0.2, 0.70, seed=0),
    row("random", 0.2, 0.60, seed=1),
]


# --- looks ---


def test_every_method_has_a_look_of_its_own() -> None:
    from hero_ray.methods import names

    looks = [palette.look(name) for name in (*names(), "someones-own")]
    assert len({(look.colour, look.symbol) for look in looks}) == len(looks)
    assert palette.look("someones-own") == palette.look("someones-own")


def test_straw_men_are_muted_and_grey() -> None:
    assert all(palette.look(name).muted and palette.look(name).colour == palette.GREY for name in palette.STRAW_MEN)
    assert not palette.look("hero").muted


_VISION = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def _linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    rgb_to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = rgb_to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", sorted(_VISION))
def test_colours_differ_for_every_kind_of_colour_vision(kind: str) -> None:
    """Simulation of Machado et al. (2009) at full severity; 20 in CIE76 is far beyond just noticeable (2.3)."""
    colours = (*palette.COLOURS, palette.GREY)
    seen = [_lab(_VISION[kind] @ _linear(colour)) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20


@pytest.mark.parametrize("page", ["#FFFFFF", "#0E1117"])
def test_colours_stand_out_from_light_and_dark_pages(page: str) -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    ground = float(weights @ _linear(page))
    for colour in (*palette.COLOURS, palette.GREY):
        light = float(weights @ _linear(colour))
        assert (max(light, ground) + 0.05) / (min(light, ground) + 0.05) >= 2.9, colour


# --- marks ---


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


# --- charts ---


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


# --- table ---


def test_best_second_and_straw_man_flag() -> None:
    weak = row("fastervlm", 0.2, 0.6)
    table = tables.method_table(points.marks([*GRID, weak]))
    lines = {line.series: line for line in table.lines}
    place = {name: line.entries[0].place for name, line in lines.items()}
    assert place == {"full": 0, "hero": 1, "hired": 2, "random": 0, "fastervlm": 0}
    assert [name for name, line in lines.items() if line.flagged] == ["fastervlm"]
    assert tables.FLAG_NOTE in table.notes
    assert lines["hero"].entries[0].text == "85.0 ± 10.0"


def test_equal_scores_share_the_best_place() -> None:
    table = tables.method_table(points.marks([row("hero", value=0.8), row("hired", value=0.8), row("ptp", value=0.7)]))
    assert [line.entries[0].place for line in table.lines] == [1, 1, 2]


def test_latex_is_escaped_and_marked() -> None:
    text = tables.to_latex(tables.method_table(points.marks([*GRID, row("fastervlm", 0.2, 0.6)])))
    assert r"\textbf{85.0}" in text
    assert r"\underline{80.0}" in text
    assert r"20\%" in text
    assert r"fastervlm $^\dagger$" in text
    assert text.count(r"\\") == 6


def test_html_escapes_names_from_the_database() -> None:
    text = tables.to_html(tables.method_table(points.marks([row("<script>alert(1)</script>")])))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_csv_keeps_interval_and_flag_in_columns() -> None:
    lines = tables.to_csv(tables.method_table(points.marks(GRID))).splitlines()
    assert lines[0].startswith("model,method,budget,straw_man_flag,bench,bench ±")
    assert "hero-tiny,hero,20%,0,85.0,10.0" in lines[2] + lines[3] + lines[4]


# --- differences ---


def test_differences_are_paired_and_corrected() -> None:
    rng = np.random.default_rng(0)
    ids = np.array([f"s{i}" for i in range(200)], dtype=object)
    base = rng.random(200) < 0.5
    scores = {
        "full-1.0-bench-0": np.ones(200),
        "hero-0.2-bench-0": base.astype(float),
        "hired-0.2-bench-0": np.where(np.arange(200) < 60, 1 - base, base).astype(float),
    }
    found = points.marks([row("full", 1.0), row("hero"), row("hired")])
    hero = [mark for mark in found if mark.method == "hero"]
    rows = {r.series: r for r in differences.differences(found, hero, lambda run, cell: (ids, ids, scores[cell]))}
    assert set(rows) == {"full", "hired"}
    assert rows["full"].value == pytest.approx(100 * (1 - base.mean()))
    assert rows["full"].verdict == "better"
    assert rows["full"].p_holm >= rows["full"].p
    assert rows["hired"].wins + rows["hired"].losses == 60


def test_seeds_are_averaged_per_sample() -> None:
    def read(run: str, cell: str) -> differences.Scores:
        ids = ["a", "b", "c"] if cell == "one" else ["b", "c", "d"]
        values = [1.0, 1.0, 0.0] if cell == "one" else [0.0, 0.0, 1.0]
        return np.array(ids, dtype=object), np.array([f"img-{i}" for i in ids], dtype=object), np.array(values)

    ids, images, scores = differences.merged_scores([("r", "one"), ("r", "two")], read)
    assert list(ids) == ["b", "c"]
    assert list(images) == ["img-b", "img-c"]
    assert list(scores) == [0.5, 0.0]


# --- masks ---


def test_bits_are_unpacked_thumbnail_first() -> None:
    keep = np.zeros((5, 2, 3), dtype=bool)
    keep[0, 0, 1] = keep[4, 1, 2] = True
    geometry = (2, 2, 2, 3)
    again = masks.unpack(np.packbits(keep.reshape(-1)).tobytes(), geometry)
    assert (again == keep).all()
    stitched = masks.mosaic(again, geometry)
    assert stitched.shape == (4, 6)
    assert list(zip(*np.nonzero(stitched), strict=True)) == [(3, 5)]


def test_a_mask_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bits cannot cover 5 views of 2 x 3"):
        masks.unpack(b"\x00\x00", (2, 2, 2, 3))


def test_padding_is_left_out_as_the_model_leaves_it_out() -> None:
    """A 3:2 picture on a 2 x 2 canvas of 6 x 6 tokens shows on 8 of 12 rows, as `unpadded` says."""
    from hero_ray.models.geometry import unpadded

    rows, columns = masks.edges((12, 12), (240, 160), fitted=True)
    seen_rows, seen_columns = unpadded((160, 240), (12, 12))
    assert list(np.flatnonzero(np.diff(rows) > 1e-9)) == list(range(12))[seen_rows]
    assert list(np.flatnonzero(np.diff(columns) > 1e-9)) == list(range(12))[seen_columns]
    assert rows[2] == 0
    assert rows[10] == 160
    assert np.allclose(np.diff(rows)[2:10], 20)


def test_internvl_stretches_the_picture_to_the_grid() -> None:
    rows, columns = masks.edges((4, 8), (100, 300), fitted=False)
    assert list(rows) == [0, 75, 150, 225, 300]
    assert columns[-1] == 100


def test_kept_tokens_stay_as_they_are_and_dropped_ones_fade() -> None:
    picture = Image.new("RGB", (masks.EDGE, masks.EDGE), (200, 0, 0))
    keep = np.zeros((2, 2, 2), dtype=bool)
    keep[0, 0, 0] = True
    keep[1, 1, 1] = True
    packed = np.packbits(keep.reshape(-1)).tobytes()
    thumbnail, tiles = masks.panels(picture, (560, 560), packed, (1, 1, 2, 2), "llava-next", "#00FF00")
    assert thumbnail.image.getpixel((100, 100)) == (200, 0, 0)
    assert thumbnail.image.getpixel((400, 100)) != (200, 0, 0)
    assert thumbnail.image.getpixel((0, 0)) == (0, 255, 0)
    assert tiles.image.getpixel((400, 400)) == (200, 0, 0)
    assert (tiles.kept, tiles.total, tiles.per_tile) == (1, 4, (1,))


def test_a_single_view_has_no_tiles_panel() -> None:
    packed = np.packbits(np.ones(4, dtype=bool)).tobytes()
    (view,) = masks.panels(Image.new("RGB", (40, 20)), (0, 0), packed, (0, 0, 2, 2), "llava-1.5", "#00FF00")
    assert view.kept == 4


# --- speed ---


def profile(method: str, ratio: float, batch: int = 1, **more: Any) -> dict[str, Any]:
    certificate = {"device_name": "CPU", "dtype": "float32", "batch_size": batch, "n": 10, "model": "m"}
    base = {
        "run_id": "run",
        "cell_id": f"{method}{ratio}",
        "model": "m",
        "method": method,
        "variant": "exact",
        "params": {},
        "retention_ratio": ratio,
        "cell_tokens": None,
        "seed": 0,
        "benchmark": "bench",
        "batch_size": batch,
        "new_tokens": 8,
        "tokens": 100 * ratio,
        "tflops_paper": 0.1,
        "tflops_model": 0.1,
        "tflops_encoder": None,
        "tflops_scoring": None,
        "kv_bytes": 2.0**20,
        "peak_memory_bytes": None,
        "encode_ms": 5.0,
        "select_ms": 0.0 if method == "full" else 2.0,
        "prefill_ms": 20 * ratio,
        "ttft_ms_p50": 20.0,
        "ttft_ms_p95": 22.0,
        "tpot_ms_p50": 1.0 + ratio,
        "decode_tokens_per_s": 500.0,
        "n": 10,
        "certificate": certificate,
        "certificate_hash": f"h{batch}",
        "details": None,
    }
    return base | more


def test_conditions_join_batch_sizes_but_never_devices() -> None:
    other = profile("hero", 0.2)
    other["certificate"] = other["certificate"] | {"device_name": "GPU"}
    groups = profiles.conditions([profile("full", 1.0), profile("hero", 0.2), profile("hero", 0.2, 4), other])
    assert [len(group.rows) for group in groups] == [3, 1]
    assert groups[0].batch_sizes == [1, 4]
    assert [r["label"] for r in groups[0].at(1)] == ["full 100%", "hero 20%"]


def test_the_same_measurement_stored_with_several_benchmarks_counts_once() -> None:
    (group,) = profiles.conditions([profile("hero", 0.2), profile("hero", 0.2, benchmark="other", cell_id="x")])
    assert len(group.rows) == 1


def test_efficiency_table_leaves_out_what_nobody_measured() -> None:
    (line,) = profiles.table_rows([profile("hero", 0.2) | {"series": "hero", "budget": "20%"}])
    assert line["KV cache, MiB"] == 1.0
    assert "Peak memory, MiB" not in line


@pytest.mark.parametrize("tokens", [1, 7, 200])
def test_break_even_agrees_with_the_profiler(tokens: int) -> None:
    from hero_ray.profiling import breakeven

    full, hero = profile("full", 1.0), profile("hero", 0.2)
    first = hero["encode_ms"] + hero["select_ms"] - full["encode_ms"] - full["select_ms"]
    theirs = breakeven.BreakEven(first, 20 - 4.0, 2.0 - 1.2, 1, None)
    assert speed_figures.saved_ms(full, hero, tokens) == pytest.approx(theirs.saved_ms(tokens))


def test_stage_bars_add_up_to_the_request() -> None:
    hero = profile("hero", 0.2, label="hero 20%")
    figure = speed_figures.stage_bars([hero])
    assert [trace.name for trace in figure.data] == ["encode", "select", "prefill", "decode"]
    assert sum(trace.x[0] for trace in figure.data) == pytest.approx(5 + 2 + 4 + 7 * 1.2)


# --- trends ---


def night(day: int, value: float, method: str = "hero", seed: int = 0) -> TrendRow:
    when = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=day)
    return TrendRow(
        f"run{day}", when, "cell", "m", method, "exact", {"seed": seed}, 0.2, None, seed, "bench", "accuracy", value,
        value - 0.05, value + 0.05, 100, 1.0,
    )  # fmt: skip


def test_one_bad_night_lies_outside_and_does_not_widen_the_limits() -> None:
    (line,) = trends.trends([night(day, 0.8 + 0.01 * (day % 2)) for day in range(6)] + [night(6, 0.6)])
    assert [r.run_id for r in line.outside] == ["run6"]
    figure = trends.trend_chart(line)
    assert list(figure.data[-1].y) == [60.0]


def test_few_runs_have_no_limits() -> None:
    (line,) = trends.trends([night(0, 0.8), night(1, 0.1)])
    assert line.limits is None
    assert line.outside == []


def test_identical_nights_leave_room_for_noise() -> None:
    limits = trends.control_limits([80.0] * 6, [2.0] * 6)
    assert limits is not None
    assert limits.low < 80.0 < limits.high


def test_seeds_are_lines_of_their_own() -> None:
    lines = trends.trends([night(0, 0.8, "random", 0), night(0, 0.7, "random", 1)])
    assert [line.label for line in lines] == ["random 20% seed 0", "random 20% seed 1"]


def test_what_changed_names_commit_versions_and_configuration() -> None:
    def run(commit: str, torch: str, limit: int) -> RunRow:
        environment = {"python": "3.11", "packages": {"torch": torch}}
        when = datetime(2026, 11, 1, tzinfo=UTC)
        return RunRow("r", "n", {"limit": limit}, "h", "complete", "cli", when, None, None, commit, environment, False)

    assert trends.what_changed(run("a", "2.12", 5), run("b", "2.13", 5)) == [
        ("commit", "a", "b"),
        ("packages torch", "2.12", "2.13"),
    ]
    assert trends.what_changed(run("a", "2.12", 5), run("a", "2.12", 5)) == []


# --- studies ---


def test_parameter_curve_holds_the_other_parameters_fixed() -> None:
    alphas = [
        row(params={"alpha": a, "beta": 1}, value=v, cell_id=f"{a}") for a, v in ((0.0, 0.5), (0.5, 0.8), (1, 0.6))
    ]
    stray = row(params={"alpha": 0.25, "beta": 2}, cell_id="stray")
    assert study_figures.varied([*alphas, stray]) == {("hero", "alpha"): [0.0, 0.25, 0.5, 1.0]}
    (curve,) = study_figures.parameter_curve([*alphas, stray], "hero", "alpha")
    assert curve["x"] == [0.0, 0.5, 1.0]
    assert curve["y"] == pytest.approx([50.0, 80.0, 60.0])
    assert curve["low"] == pytest.approx([40.0, 70.0, 50.0])


@pytest.mark.parametrize("name", sorted(study_figures.PRINTED))
def test_every_printed_ablation_can_be_drawn(name: str) -> None:
    from hero_ray import published

    curves, x_title, y_title = study_figures.printed_curves(published.ablations(), name)
    assert curves
    figure = study_figures.lines(curves, x_title, y_title)
    assert len(figure.data) == len(curves)


def test_study_files_are_read_and_strays_ignored(tmp_path: Any) -> None:
    good = tmp_path / "iou.json"
    good.write_text(
        '{"title": "Layer IoU", "charts": ['
        '{"kind": "lines", "series": [{"name": "clip", "x": [1, 2], "y": [0.1, 0.2]}]},'
        ' {"kind": "heat", "x": [1], "y": [1], "z": [[1.0]]}]}'
    )
    stray = tmp_path / "stray.json"
    stray.write_text("[1, 2]")
    study = study_figures.read_study(good)
    assert study is not None
    assert [len(figure.data) for _, figure in study["charts"]] == [1, 1]
    assert study_figures.read_study(stray) is None
    assert study_figures.read_study(tmp_path / "missing.json") is None
