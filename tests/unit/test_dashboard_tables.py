"""Tables in the papers' form and paired differences."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("plotly")

from hero_ray.results.shown import differences, points, tables
from tests.dashboard_rows import GRID, row


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
