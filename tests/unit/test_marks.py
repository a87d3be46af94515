"""What stored rows mean: names, costs, seeds merged, runs laid over each other, averages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hero_ray.core.errors import NotComparableError, UnknownNameError
from hero_ray.results import frontiers as charts
from hero_ray.results import summary
from hero_ray.results.averages import FLAG, WORSE, averages, flagged, straw_men
from hero_ray.results.axes import AXES, axis
from hero_ray.results.contenders import Results, every_model, parse_contender
from hero_ray.results.exchange import files
from hero_ray.results.marks import by_certificate, marks
from hero_ray.results.report import tables as report
from hero_ray.results.ties import Ties
from hero_ray.store import PointRow, open_store
from tests import dashboard_data as data
from tests import fake_results as fake
from tests.dashboard_rows import GRID, row

# --- names ---


def test_names_tell_only_what_tells_siblings_apart() -> None:
    found = marks(
        [row(params={"alpha": 0.5, "beta": 1}), row(params={"alpha": 0.7, "beta": 1}), row("hired", params={"x": 1})]
    )
    assert [mark.name.series for mark in found] == ["hero (alpha=0.5)", "hero (alpha=0.7)", "hired"]
    assert [mark.name.key for mark in found] == ["hero:alpha=0.5@20%", "hero:alpha=0.7@20%", "hired@20%"]


def test_a_variant_is_told_unless_it_is_the_usual_one_alone() -> None:
    exact, paper = row(), row(variant="paper", params={"alpha": 1.0})
    assert [(m.name.key, m.name.series) for m in marks([paper])] == [("hero:variant=paper@20%", "hero (paper)")]
    assert [(m.name.key, m.name.series) for m in marks([exact, paper])] == [
        ("hero:variant=exact@20%", "hero"),
        ("hero:alpha=1.0,variant=paper@20%", "hero (paper, alpha=1)"),
    ]


def test_a_key_names_its_cell_as_a_contender() -> None:
    entry = parse_contender("hero:alpha=1.0,variant=paper@20%")
    assert (entry.method.variant, dict(entry.method.params), entry.budget and entry.budget.ratio) == (
        "paper",
        {"alpha": 1.0},
        0.2,
    )


@pytest.mark.parametrize(
    ("ratio", "tokens", "label"), [(0.2, None, "20%"), (0.12345, None, "12.345%"), (0.1, 576, "576tok")]
)
def test_a_budget_has_one_label(ratio: float, tokens: int | None, label: str) -> None:
    (mark,) = marks([row(ratio=ratio, tokens=tokens)])
    assert (mark.name.budget, mark.name.key, str(mark.name)) == (label, f"hero@{label}", f"hero at {label}")


def test_a_count_of_its_own_is_no_budget() -> None:
    (mark,) = marks([row("prumerge", ratio=0.4, own_count=True)])
    assert (mark.name.budget, mark.name.key, str(mark.name)) == ("own", "prumerge", "prumerge at its own count")


def test_seeds_share_a_name_and_full_has_no_budget() -> None:
    found = marks([row("full", 1.0), row("random", seed=0), row("random", seed=1)])
    assert [(mark.name.key, len(mark.cells)) for mark in found] == [("full", 1), ("random@20%", 2)]


# --- costs ---


def test_costs_are_read_where_they_are_known() -> None:
    timed = row(profile={"ttft_ms_p50": 5.0, "certificate_hash": "x"})
    assert (axis("tokens").cost(timed), axis("ttft").cost(timed), axis("ttft").cost(row())) == (30.0, 5.0, None)
    assert axis("flops").cost(row(flops=math.nan)) is None


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(UnknownNameError, match="'tokens'"):
        axis("token")
    assert set(AXES) >= {"tokens", "flops", "kv", "ttft", "equivalent_tokens"}


@pytest.mark.parametrize(("largest", "unit"), [(3e12, "TFLOPs"), (3e9, "GFLOPs"), (5e6, "MFLOPs"), (5.0, "FLOPs")])
def test_units_follow_the_size(largest: float, unit: str) -> None:
    assert AXES["flops"].unit([largest, None, 1.0])[1] == unit


def test_unlike_certificates_are_never_in_one_group() -> None:
    def timed(method: str, certificate: str) -> PointRow:
        return row(method, profile={"ttft_ms_p50": 5.0, "certificate_hash": certificate})

    found = marks([timed("hero", "a"), timed("hired", "b"), timed("fastervlm", "a"), row("random")])
    groups = by_certificate(found, AXES["ttft"])
    assert {key: {mark.method for mark in members} for key, members in groups.items()} == {
        "a": {"hero", "fastervlm"},
        "b": {"hired"},
    }
    assert [len(group) for group in by_certificate(found, AXES["tokens"]).values()] == [4]


def test_unlike_certificates_never_share_a_frontier(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "x.db")) as store:
        cells = data.grid(("synth-words",))
        data.fill_run(store, "one", cells, 4)
        data.profile(store, "one", cells[:4], "cert-b")
        results = Results(store, "one")
        with pytest.raises(NotComparableError, match="2 different conditions"):
            charts.frontiers(results, "ttft")
        apart = charts.frontiers(results, "ttft", apart=True)
        assert [(chart.certificate, len(chart.placed)) for chart in apart] == [("cert-a-1", 12), ("cert-b-1", 4)]
        assert [len(chart.placed) for chart in charts.frontiers(results)] == [16]


def test_a_rate_counts_the_other_way(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "x.db")) as store:
        data.fill_run(store, "one", [data.cell("full", 1.0, "b"), data.cell("hero", 0.2, "b")], 40)
        (chart,) = charts.frontiers(Results(store, "one"), "decode")
        assert [entry.point.id for entry in chart.placed] == ["hero@20%", "full"]


# --- seeds ---


def test_seeds_become_one_mark_with_their_mean() -> None:
    mark = next(mark for mark in marks(GRID) if mark.method == "random")
    assert mark.value == pytest.approx(65.0)
    assert (mark.low, mark.high) == (pytest.approx(55.0), pytest.approx(75.0))
    assert len(mark.cells) == 2
    assert mark.note == "mean of 2 seeds"


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_a_bound_that_one_seed_lacks_is_unknown_and_a_cost_is_that_of_the_others(unknown: float | None) -> None:
    timed = {"ttft_ms_p50": 5.0, "certificate_hash": "a"}
    (mark,) = marks([row(seed=0, profile=timed), row(seed=1, ci_low=unknown, kv_bytes=unknown)])
    assert (mark.low, mark.high) == (None, pytest.approx(90.0))
    assert (mark.costs["kv"], mark.costs["ttft"], mark.certificate) == (2e5, 5.0, "a")


def test_scores_use_their_scale() -> None:
    (mark,) = marks([row(value=1500.0, scale=2000.0, ci_low=1400.0, ci_high=1600.0)])
    assert (mark.value, mark.low, mark.high) == (75.0, 70.0, 80.0)


def test_seeds_are_averaged_over_the_samples_all_of_them_answered(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "x.db")) as store:
        cells = [fake.cell("random", 0.2, "b", seed) for seed in (0, 1)]
        store.create_run("r", "s", {}, "h")
        store.add_cells("r", cells, {cell.id: 3 for cell in cells})
        for cell, scores in zip(cells, ((1.0, 1.0, 0.0, None), (None, 0.0, 0.0, 1.0)), strict=True):
            answers = [(fake.sample("b", i, 1), score) for i, score in enumerate(scores)]
            store.write_unit("r", [fake.answer(cell, s, score) for s, score in answers if score is not None])
        results = Results(store, "r")
        found = results.scores(results.find(parse_contender("random@20%"), "b"))
        assert dict(zip(found.images, found.values, strict=True)) == {"b-img1": 0.5, "b-img2": 0.0}


# --- runs ---


def test_of_a_cell_in_two_runs_the_one_named_first_counts(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "x.db")) as store:
        hero, hired = data.cell("hero", 0.2, "b"), data.cell("hired", 0.2, "b")
        raised = replace(hero, id="raised-code-version")
        data.fill_run(store, "a-old", [hero, hired], 20)
        data.fill_run(store, "z-new", [raised], 20, seed=4)
        (results,) = every_model(store, ["z-new", "a-old"])
        assert [mark.cells for mark in results.marks()] == [(("a-old", hired.id),), (("z-new", raised.id),)]
        assert len(results.scores(results.find(parse_contender("hero@20%"), "b")).ids) == 20


def test_an_unmeasured_cell_of_a_newer_run_hides_nothing(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "x.db")) as store:
        hero = data.cell("hero", 0.2, "b")
        data.fill_run(store, "old", [hero], 20)
        store.create_run("new", "s", {}, "h")
        store.add_cells("new", [hero], {hero.id: 20})
        (results,) = every_model(store, ["new", "old"])
        assert [mark.cells for mark in results.marks()] == [(("old", hero.id),)]


def test_answers_that_were_pruned_leave_frontiers_by_intervals(tmp_path: Path) -> None:
    from hero_ray.store import maintenance

    with open_store(str(tmp_path / "x.db")) as store:
        fake.fill(store)
        maintenance.prune(store, ["run1"], answers_only=True)
        results = Results(store, "run1")
        assert {chart.states["full"] for chart in charts.frontiers(results)} == {"frontier"}
        assert (averages(results), charts.average_frontiers(results), flagged(results)) == ([], [], {})


# --- averages and straw men ---


def stored(tmp_path: Path, *rows: tuple[str, float, str, float], **more: Any) -> Results:
    """A run with cells (method, ratio, benchmark, score): the first so many of 100 answers are right."""
    store = open_store(str(tmp_path / "x.db"))
    store.create_run("r", "s", {}, "h")
    for method, ratio, benchmark, score in rows:
        cell = replace(fake.cell(method, ratio, benchmark), **more.get(method, {}))
        samples = [fake.sample(benchmark, i, 2) for i in range(100)]
        values = [float(i < round(100 * score)) for i in range(100)]
        store.add_cells("r", [cell], {cell.id: 100})
        store.write_unit("r", [fake.answer(cell, s, v) for s, v in zip(samples, values, strict=True)])
        pictures = [s.image_key for s in samples]
        store.write_metrics("r", cell.id, [fake.metric(fake.np.array(values), pictures, "")])
    return Results(store, "r")


def test_a_retention_average_is_a_share_of_the_unpruned_score(tmp_path: Path) -> None:
    two = [(m, r, b, v / (1 + i)) for i, b in enumerate("bc") for m, r, v in (("full", 1.0, 0.9), ("hero", 0.2, 0.8))]
    found = {mark.name.key: mark for mark in averages(stored(tmp_path, *two))}
    assert (found["full"].value, found["full"].low, found["full"].high) == (100.0, 100.0, 100.0)
    assert found["hero@20%"].value == pytest.approx(100 * 0.8 / 0.9)
    assert found["hero@20%"].parts == {"b": pytest.approx(88.89, abs=0.01), "c": pytest.approx(88.89, abs=0.01)}
    assert found["hero@20%"].costs["tokens"] == 24.0


def test_a_contender_that_misses_a_benchmark_has_no_average(tmp_path: Path) -> None:
    rows = [("full", 1.0, "b", 0.9), ("full", 1.0, "c", 0.9), ("hero", 0.2, "b", 0.8)]
    results = stored(tmp_path, *rows, ("hired", 0.2, "b", 0.8), ("hired", 0.2, "c", 0.8))
    assert {mark.name.key for mark in averages(results)} == {"full", "hired@20%"}


def test_a_straw_man_is_what_its_method_says(tmp_path: Path) -> None:
    rows = [("full", 1.0, "b", 0.9), ("raster", 0.2, "b", 0.7), ("hero", 0.2, "b", 0.7), ("hired", 0.2, "b", 0.9)]
    results = stored(tmp_path, *rows, raster={"straw_man": True})
    assert flagged(results) == {"hero@20%": FLAG}
    assert [mark.method for mark in results.marks() if mark.straw_man] == ["raster"]


def test_each_setting_faces_the_straw_men_by_itself(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "x.db")) as store:
        poor = fake.cell("hero", 0.2, "b", alpha=1.0)
        cells = [fake.cell("random", 0.2, "b"), fake.cell("hero", 0.2, "b", alpha=0.5), poor]
        store.create_run("r", "s", {}, "h")
        store.add_cells("r", cells, {cell.id: 90 for cell in cells})
        for cell, right in zip(cells, (45, 80, 40), strict=True):
            samples = [fake.sample("b", i, 1) for i in range(90)]
            store.write_unit("r", [fake.answer(cell, s, float(i < right)) for i, s in enumerate(samples)])
        assert flagged(Results(store, "r")) == {"hero:alpha=1.0@20%": WORSE}


def test_what_is_shown_to_be_worse_than_a_straw_man_is_said_to_be(tmp_path: Path) -> None:
    rows = [("full", 1.0, "b", 0.9), ("raster", 0.2, "b", 0.7), ("hero", 0.2, "b", 0.2), ("hired", 0.2, "b", 0.69)]
    results = stored(tmp_path, *rows, raster={"straw_man": True})
    assert flagged(results) == {"hero@20%": WORSE, "hired@20%": FLAG}
    said = summary.notes([results], {})
    assert "Shown to be worse than a straw man on average: hero at 20% (hero-tiny)." in said
    assert "Not shown to be better than the best straw man on average: hired at 20% (hero-tiny)." in said
    assert {row[0]: row[-1] for row in report.straw_men(straw_men(results)).rows} == {
        "hero@20%": "shown to be worse than a straw man",
        "hired@20%": "not shown to be better",
    }


def test_only_what_the_paired_test_shows_is_below_the_best(tmp_path: Path) -> None:
    """90 and 88 of 100 are not told apart, 20 is; over two benchmarks the averages go by a test of their own."""
    rows = [("full", 1.0, 0.95), ("hero", 0.2, 0.9), ("hired", 0.2, 0.88), ("ptp", 0.2, 0.2)]
    results = stored(tmp_path, *((m, r, b, v) for b in "bc" for m, r, v in rows))
    tests = Ties(results)
    assert tests.below("hero@20%", ["hired@20%", "ptp@20%"], "b") == {"ptp@20%"}
    assert tests.below("hero@20%", ["hired@20%", "ptp@20%"], "") == {"ptp@20%"}
    text = files.to_latex([results])
    (hero,) = [line for line in text.splitlines() if line.startswith("hero &")]
    (hired,) = [line for line in text.splitlines() if line.startswith("hired &")]
    (ptp,) = [line for line in text.splitlines() if line.startswith("ptp &")]
    assert (hero.count("textbf"), hired.count("textbf"), ptp.count("textbf")) == (3, 3, 0)
