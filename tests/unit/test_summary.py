"""The table that ends a sweep: settings of one method never share a row, seeds do."""

from __future__ import annotations

from hero_ray.results.marks import marks
from hero_ray.results.summary import table
from hero_ray.store import PointRow
from tests.dashboard_rows import GRID, row


def first_columns(points: list[PointRow]) -> list[list[str]]:
    lines = str(table(marks(points), ["bench"])).splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[2:5]] for line in lines]


def point(value: float, method: str = "hero", seed: int = 0, **params: object) -> PointRow:
    name = f"{method} {params} {seed}"
    return row(method, 0.2, value, params=params, seed=seed, cell_id=name, ci_low=None, ci_high=None)


def test_settings_have_rows_of_their_own_named_by_what_differs() -> None:
    settings = [{"alpha": 0.5, "layers": [6, 7]}, {"alpha": "auto", "layers": [6, 7]}, {"alpha": 0.5, "layers": [1]}]
    found = first_columns([point(v, **params) for v, params in zip((0.9, 0.8, 0.5), settings, strict=True)])
    assert found == [
        ["hero (alpha=0.5, layers=[6,7])", "20%", "90.0"],
        ["hero (alpha=auto, layers=[6,7])", "20%", "80.0"],
        ["hero (alpha=0.5, layers=[1])", "20%", "50.0"],
    ]


def test_a_parameter_that_only_one_setting_has_names_it() -> None:
    found = first_columns([point(0.9, alpha=0.5), point(0.7, alpha=0.5, ratio="auto", ratio_mean=0.3)])
    assert [line[0] for line in found] == ["hero", "hero (ratio=auto, ratio_mean=0.3)"]


def test_seeds_share_a_row() -> None:
    assert first_columns([point(0.2, "random"), point(0.4, "random", 1)]) == [["random", "20%", "30.0"]]


def test_half_intervals_and_costs_stand_beside_the_scores() -> None:
    (line,) = str(table(marks([row()]), ["bench", "other"])).splitlines()[2:]
    assert line == "| hero-tiny | hero | 20% | 80.0 ± 10.0 | - | 30.0 | 0.200 | - | 195.3 | - | - | - |"


def test_a_cell_that_was_decided_early_is_marked() -> None:
    assert first_columns([row(stop_reason="decided")])[0][2] == "80.0 ± 10.0‡"


def test_what_is_saved_against_the_unpruned_model_is_the_last_column() -> None:
    lines = str(table(marks(GRID), ["bench"])).splitlines()
    assert lines[0].endswith("Saved against full, %: tokens / GFLOPs / KV / TTFT |")
    saved = {line.split(" | ")[1]: line.rpartition(" | ")[2] for line in lines[2:]}
    assert saved == {"full": "0 / 0 / 0 / - |", "hero": "73 / 80 / 80 / - |", "hired": "73 / 80 / 80 / - |",
                     "random": "73 / 80 / 80 / - |"}  # fmt: skip


def test_timings_under_another_certificate_are_not_held_against_the_unpruned_model() -> None:
    def timed(method: str, ratio: float, ms: float, certificate: str) -> PointRow:
        return row(method, ratio, profile={"ttft_ms_p50": ms, "certificate_hash": certificate})

    found = marks([timed("full", 1.0, 40.0, "a"), timed("hero", 0.2, 10.0, "a"), timed("hired", 0.2, 10.0, "b")])
    lines = str(table(found, ["bench"])).splitlines()
    assert [line.rpartition(" / ")[2] for line in lines[3:]] == ["75 |", "- |"]
