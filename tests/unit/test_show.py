"""Reading verbs: the answer first, a table as wide as the terminal, and the same for scripts in every format."""

from __future__ import annotations

import csv
import io
import json

import pytest

from hero_ray.cli import show
from hero_ray.cli.show import Answer
from hero_ray.results.writer import Grid, grid

NARROW = grid(["Cell", "Score"], [("hero@20%", 88.5), ("full", None)])
WIDE = grid(
    ["Cell", *(f"column {i}" for i in range(12))], [(f"cell {n}", *(n * 1000 + i for i in range(12))) for n in (1, 2)]
)


@pytest.mark.parametrize("width", [20, 40, 80, 120, 400])
def test_a_table_is_as_wide_as_the_terminal_and_whole(width: int) -> None:
    drawn = show.draw(WIDE, width)
    assert max(map(len, drawn.splitlines())) <= width
    words = drawn.split()
    assert {str(value) for row in WIDE.rows for value in row[1:]} <= set(words)
    assert words.count("column") == 12
    parts = drawn.count("cell 1")
    in_full, folded = [6, *[8 + (i > 9) for i in range(12)]], [6] * 13
    assert parts == min(len(show.chunks(each, width)) for each in (in_full, folded))
    assert ("column 11" in drawn) == (width > 150), "titles take two lines before a table is taken apart"


def test_every_part_of_a_table_names_its_rows() -> None:
    table = grid(
        ["Model", "Method", "Budget", *(f"synth-{i}" for i in range(6))],
        [("hero-tiny", method, budget, *["97.0, 90.1-100.0"] * 6) for method in ("hero", "hired") for budget in
         ("20%", "40%")], left=3,
    )  # fmt: skip
    first, *rest = show.draw(table, 70).splitlines()
    assert first == "Model: hero-tiny"
    assert not any("hero-tiny" in line for line in rest)
    named = [tuple(line.split()[:2]) for line in rest if "%" in line]
    assert named == 3 * [("hero", "20%"), ("hero", "40%"), ("hired", "20%"), ("hired", "40%")]
    assert show.draw(table, 200).count("hero-tiny") == 4, "where it fits nothing is taken out"
    assert max(map(len, show.draw(table, 30).splitlines())) <= 30


def test_what_was_said_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer(["advice: hero@20%"], [("synth", NARROW)], ["a note"], {"advice": "hero@20%"})
    show.show(answer)  # no terminal: Markdown and a last line for scripts
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "advice: hero@20%"
    assert "| hero@20% | 88.5 |" in lines
    assert json.loads(lines[-1]) == {"advice": "hero@20%"}
    show.show(answer, "table")
    drawn = capsys.readouterr().out
    assert drawn.startswith("advice: hero@20%\n")
    assert "|" not in drawn
    assert "{" not in drawn
    show.show(Answer(tables=[("", NARROW)], record={"run_id": "r"}, scripted=True), "table")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"run_id": "r"}


def test_facts_are_lines_for_people_and_json_for_scripts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"run_id": "r", "rows": {"runs": 3, "cells": 1200}, "sound": True, "lost": [], "path": None}
    show.finish(**facts)
    assert json.loads(capsys.readouterr().out) == facts
    monkeypatch.setattr(show, "is_terminal", lambda: True)
    show.finish(**facts)
    assert capsys.readouterr().out.splitlines() == [
        "run id  r", "rows    runs 3, cells 1,200", "sound   yes", "lost    -", "path    -",
    ]  # fmt: skip


def test_json_is_one_object_with_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    show.show(Answer(["x"], [("synth", NARROW)], record={"n": 1}), "json")
    found = json.loads(capsys.readouterr().out)
    table = {"title": "synth", "columns": ["Cell", "Score"], "rows": [["hero@20%", 88.5], ["full", None]]}
    assert found == {"n": 1, "tables": [table]}


@pytest.mark.parametrize("count", [1, 2])
def test_csv_is_one_table(capsys: pytest.CaptureFixture[str], count: int) -> None:
    show.show(Answer(["x"], [(f"chart {i}", NARROW) for i in range(count)]), "csv")
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 1 + 2 * count
    assert rows[0] == (["Cell", "Score"] if count == 1 else ["Table", "Cell", "Score"])
    assert rows[-1][-2:] == ["full", ""]


def test_no_tables_are_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    for form in show.FORMATS:
        show.show(Answer(["nothing"]), form)
    assert show.draw(Grid((), ())) == ""
    assert "nothing" in capsys.readouterr().out
