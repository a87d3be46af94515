"""Tables in the papers' form."""

from __future__ import annotations

import pytest

pytest.importorskip("plotly")

from hero_ray.results.averages import FLAG_NOTE
from hero_ray.results.marks import marks
from hero_ray.results.shown import tables
from tests.dashboard_rows import GRID, row


def test_best_second_and_straw_man_flag() -> None:
    weak = row("fastervlm", 0.2, 0.6)
    table = tables.method_table(marks([*GRID, weak]), flagged={"fastervlm@20%"})
    lines = {line.series: line for line in table.lines}
    place = {name: line.entries[0].place for name, line in lines.items()}
    assert place == {"full": 0, "hero": 1, "hired": 2, "random": 0, "fastervlm": 0}
    assert [name for name, line in lines.items() if line.flagged] == ["fastervlm"]
    assert FLAG_NOTE in table.notes
    assert lines["hero"].entries[0].text == "85.0 ± 10.0"


def test_equal_scores_share_the_best_place() -> None:
    table = tables.method_table(marks([row("hero", value=0.8), row("hired", value=0.8), row("ptp", value=0.7)]))
    assert [line.entries[0].place for line in table.lines] == [1, 1, 2]


def test_latex_is_escaped_and_marked() -> None:
    text = tables.to_latex(tables.method_table(marks([*GRID, row("fastervlm", 0.2, 0.6)]), flagged={"fastervlm@20%"}))
    assert r"\textbf{85.0}" in text
    assert r"\underline{80.0}" in text
    assert r"20\%" in text
    assert r"fastervlm $^\dagger$" in text
    assert text.count(r"\\") == 6


def test_html_escapes_names_from_the_database() -> None:
    text = tables.to_html(tables.method_table(marks([row("<script>alert(1)</script>")])))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_csv_keeps_interval_and_flag_in_columns() -> None:
    lines = tables.to_csv(tables.method_table(marks(GRID))).splitlines()
    assert lines[0].startswith("model,method,budget,straw_man_flag,bench,bench ±")
    assert "hero-tiny,hero,20%,0,85.0,10.0" in lines[2] + lines[3] + lines[4]


def test_lines_come_best_first_in_a_column_of_either_kind() -> None:
    table = tables.method_table(marks([*GRID, row("ptp", 0.4, 0.8)]))
    by_score = [line.series for line in tables.sorted_by(table, "bench").lines]
    assert by_score[0] == "full"
    assert by_score[-1] == "random"
    (tokens,) = [name for name in table.columns if name.startswith("Tokens")]
    assert [line.series for line in tables.sorted_by(table, tokens).lines][-2:] == ["ptp", "full"]
    assert set(tables.sorted_by(table, tokens).lines) == set(table.lines)


def test_costs_and_their_units_are_those_asked_for() -> None:
    table = tables.method_table(marks(GRID), unit=lambda axis: axis.units[0], costs=["flops", "retention"])
    assert [name for name in table.columns if "," in name or name == "Ratio"] == ["Computation, FLOPs", "Ratio"]
    assert tables.method_table(marks(GRID), costs=["ttft"]).columns == ("bench", "Avg. % of full"), "nobody timed it"
