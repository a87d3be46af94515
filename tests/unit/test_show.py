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
    parts = drawn.count("cell 1")
    assert parts == len(show.chunks([6, *[8 + (i > 9) for i in range(12)]], width))
    assert (parts == 1) == (width > 300)


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
