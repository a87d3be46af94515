"""Charts of servers under load."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("plotly")

from dashboard import load_figures, profiles
from tests.dashboard_data import load_records

ROWS: list[dict[str, Any]] = [
    {**record, "certificate_hash": "h", "run_id": "r", "cell_tokens": None, "own_count": False, "seed": 0, "model": "m"}
    for record in load_records()
]


def shown() -> list[profiles.Row]:
    (group,) = profiles.conditions(ROWS)
    return list(group.rows)


def test_all_numbers_of_clients_are_one_set_of_conditions() -> None:
    (group,) = profiles.conditions(ROWS)
    assert group.batch_sizes == [1, 8, 64]
    assert {row["label"] for row in group.rows} == {"full 100%", "hero 20%"}


def test_lines_go_over_clients_and_points_hold_intervals() -> None:
    rows = shown()
    waiting = load_figures.waiting(rows)
    assert [trace.name for trace in waiting.data] == ["full 100%", "hero 20%"]
    assert list(waiting.data[0].text) == ["1", "8", "64"]
    assert list(waiting.data[0].x) == [10.0, 40.0, 50.0]
    accuracy = load_figures.accuracy([row for row in rows if row["batch_size"] == 64])
    (_, hero) = accuracy.data
    assert (hero.x[0], hero.y[0]) == (40.0, 0.85)
    assert hero.error_x.array[0] == pytest.approx(2.0)
    assert hero.error_y.arrayminus[0] == pytest.approx(0.05)


def test_gains_are_drawn_and_told_in_words() -> None:
    rows = shown()
    figure = load_figures.gains(rows, "requests_per_s")
    assert [trace.name for trace in figure.data] == ["hero 20%"]
    assert list(figure.data[0].customdata) == ["pays", "within noise", "costs"]
    lines = {line["In"]: line for line in load_figures.verdicts(rows)}
    assert lines["requests/s"]["Over the first cell"] == "pays at 1, within noise at 8, costs at 64"
    assert lines["requests/s"]["Break-even, clients"] != "none shown"
    assert lines["TTFT p95"]["Break-even, clients"] == "none shown"
    assert [row["Failed"] for row in load_figures.table_rows(rows)] == [0] * 6


def test_a_load_without_scores_or_gains_is_drawn_empty() -> None:
    rows = [row | {"details": {"load": row["details"]["load"] | {"score": None, "over_base": None}}} for row in shown()]
    assert not load_figures.accuracy(rows).data
    assert load_figures.verdicts(rows) == []
    assert not load_figures.gains(rows, "ttft_ms_p95").data
