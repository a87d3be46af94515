"""Nights and studies as charts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hero_ray.store import RunRow

pytest.importorskip("plotly")

from dashboard import study_figures, trends
from hero_ray.results.marks import marks
from hero_ray.store.figures import TrendRow
from tests.dashboard_rows import row


def night(day: int, value: float, method: str = "hero", seed: int = 0) -> TrendRow:
    when = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=day)
    return TrendRow(
        f"run{day}", when, "cell", "m", method, "exact", {"seed": seed}, 0.2, None, seed, "bench", "head", False, False,
        "accuracy", value, value - 0.05, value + 0.05, 100, 1.0,
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


def test_parameter_curve_holds_the_other_parameters_fixed() -> None:
    alphas = [
        row(params={"alpha": a, "beta": 1}, value=v, cell_id=f"{a}") for a, v in ((0.0, 0.5), (0.5, 0.8), (1, 0.6))
    ]
    stray = row(params={"alpha": 0.25, "beta": 2}, cell_id="stray")
    assert study_figures.varied(marks([*alphas, stray])) == {("hero", "alpha"): [0.0, 0.25, 0.5, 1.0]}
    (curve,) = study_figures.parameter_curve(marks([*alphas, stray]), "hero", "alpha")
    assert curve["x"] == [0.0, 0.5, 1.0]
    assert curve["y"] == pytest.approx([50.0, 80.0, 60.0])
    assert curve["low"] == pytest.approx([40.0, 70.0, 50.0])


@pytest.mark.parametrize("name", sorted(study_figures.PRINTED))
def test_every_printed_ablation_can_be_drawn(name: str) -> None:
    from hero_ray.results import published

    curves, x_title, y_title = study_figures.printed_curves(published.ablations(), name)
    assert curves
    figure = study_figures.lines(curves, x_title, y_title)
    assert len(figure.data) == len(curves)


def test_studies_are_read_and_strays_ignored(tmp_path: Any) -> None:
    good = tmp_path / "iou.json"
    good.write_text(
        '{"title": "Layer IoU", "charts": ['
        '{"kind": "lines", "series": [{"name": "clip", "x": [1, 2], "y": [0.1, 0.2]}]},'
        ' {"kind": "heat", "x": [1], "y": [1], "z": [[1.0]]}],'
        ' "tables": [{"title": "all", "columns": ["layer"], "rows": [[1]]}]}'
    )
    document = study_figures.read_file(good)
    assert document is not None
    study = study_figures.read_study(document)
    assert study is not None
    assert [len(figure.data) for _, figure in study["charts"]] == [1, 1]
    assert study["tables"] == [("all", ["layer"], [[1]])]
    stray = tmp_path / "stray.json"
    for text in ("[1, 2]", "{not json"):
        stray.write_text(text)
        assert study_figures.read_file(stray) is None
    assert study_figures.read_file(tmp_path / "missing.json") is None
    for odd in ({}, {"charts": [{"kind": "lines"}]}, {"charts": 3}):
        assert study_figures.read_study(odd) is None
