"""Tables in the papers' form."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("plotly")

from hero_ray.results.averages import FLAG, FLAG_NOTES, WORSE
from hero_ray.results.marks import marks, unpruned
from hero_ray.results.names import EMBEDDED_NOTE
from hero_ray.results.shown import markers, palette, tables
from hero_ray.results.writer import latex_text
from tests.dashboard_rows import GRID, row


def shown(best: str, others: Sequence[str], benchmark: str) -> set[str]:
    """A test that tells hired and hero not apart, and everything else."""
    return {name for name in others if {best, name} != {"hero@20%", "hired@20%"}}


def test_best_what_is_not_told_apart_from_it_and_straw_man_flag() -> None:
    weak = row("fastervlm", 0.2, 0.6)
    table = tables.method_table(marks([*GRID, weak]), flagged={"fastervlm@20%": WORSE, "random@20%": FLAG}, below=shown)
    lines = {line.series: line for line in table.lines}
    assert [name for name, line in lines.items() if line.entries[0].best] == ["hero", "hired"]
    assert {name: line.flag for name, line in lines.items() if line.flag} == {"fastervlm": WORSE, "random": FLAG}
    assert {f"{note}." for note in FLAG_NOTES.values()} <= set(table.notes)
    assert "Bold: the best of a budget and all that the paired test does not tell apart from it" in table.notes[0]
    assert lines["hero"].entries[0].text == "85.0 ± 10.0"


def test_nothing_is_bold_without_a_test_or_alone_at_a_budget() -> None:
    rows = marks([row("hero", value=0.8), row("hired", value=0.7), row("ptp", 0.4, value=0.7)])
    assert not any(line.entries[0].best for line in tables.method_table(rows).lines)
    table = tables.method_table(rows, below=lambda best, others, benchmark: others)
    assert [line.series for line in table.lines if line.entries[0].best] == ["hero"]


def test_latex_is_escaped_and_marked() -> None:
    found, flags = marks([*GRID, row("fastervlm", 0.2, 0.6)]), {"fastervlm@20%": FLAG}
    text = tables.to_latex(tables.method_table(found, flagged=flags, below=shown))
    assert r"\textbf{85.0}" in text
    assert r"\textbf{80.0}" in text, "not told apart from the best"
    assert r"\textbf{65.0}" not in text
    assert "underline" not in text
    _, _, facts = text.partition("\\end{tabular}\n")
    assert facts.splitlines() == ["% model hero-tiny", "% bench n = 150 on 60 pictures", f"% {EMBEDDED_NOTE}"]
    assert latex_text(EMBEDDED_NOTE) in text.partition(r"\bottomrule")[2], "and below the table"
    assert r"20\%" in text
    assert r"fastervlm $^\dagger$" in text
    assert len([line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]) == 6
    assert r"{\footnotesize $^\dagger$ not shown to be better" in text, "its meaning stands below the table"


def test_an_interval_that_goes_one_way_is_never_a_plus_minus() -> None:
    rows = [row("full", 1.0, 1.0, ci_low=0.96, ci_high=1.0), row("hero", 0.2, 0.0, ci_low=0.0, ci_high=0.04)]
    table = tables.method_table(marks(rows))
    assert [line.entries[0].text for line in table.lines] == ["100.0, 96.0-100.0", "0.0, 0.0-4.0"]
    assert r"100.0{\scriptsize, 96.0-100.0}" in tables.to_latex(table)
    assert "<b>" not in tables.to_html(table)
    assert "100.0<small>, 96.0-100.0</small>" in tables.to_html(table)


def test_every_line_bears_its_methods_marker_in_its_colour() -> None:
    text = tables.to_html(tables.method_table(marks(GRID)))
    looks = {palette.look(name) for name in ("full", "hero", "hired", "random")}
    pictures = {markers.picture(look.symbol, look.colour) for look in looks}
    assert len(pictures) == len(looks)
    assert all(text.count(f'alt="" src="{one}"') == 1 for one in pictures)


def test_costs_say_what_they_save_against_full() -> None:
    table = tables.method_table(marks(GRID), costs=["flops"])
    lines = {line.series: line for line in table.lines}
    assert lines["full"].entries[-1].text == "1.0"
    assert lines["hero"].entries[-1].text == "0.2 −80 %"
    assert lines["hero"].entries[-1].saved == pytest.approx(80)
    assert r"0.2{\scriptsize $-$80 \%}" in tables.to_latex(table)
    assert "Percentages beside costs" in " ".join(table.notes)
    alone = tables.method_table(marks(GRID[1:]), costs=["flops"], full=unpruned(marks(GRID)))
    assert alone.lines[0].entries[-1].saved == pytest.approx(80), "held against what the filter left out"
    assert not any("Percentages" in note for note in tables.method_table(marks(GRID[1:]), costs=["flops"]).notes)


def test_a_score_decided_early_has_its_own_sign() -> None:
    table = tables.method_table(marks([row(stop_reason="decided")]))
    assert table.lines[0].entries[0].text == "80.0 ± 10.0‡"
    assert "‡ decided early." in table.notes


def test_html_escapes_names_from_the_database() -> None:
    text = tables.to_html(tables.method_table(marks([row("<script>alert(1)</script>")])))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_csv_keeps_interval_and_flag_in_columns() -> None:
    lines = tables.to_csv(tables.method_table(marks(GRID))).splitlines()
    assert lines[0].startswith("model,method,budget,straw_man_flag,bench,bench 95% low,bench 95% high")
    assert '"KV cache, KiB","KV cache, KiB, saved %"' in lines[0]
    assert "hero-tiny,hero,20%,0,85.0,75.0,95.0" in lines[2] + lines[3] + lines[4]


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
