"""The papers' runs as tables: settings named by what they change, seeds averaged, limits said."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from hero_ray.methods import create
from hero_ray.store import PointRow, RunRow
from hero_ray.studies.paper_tables import setting, table


def point(method: str, value: float, benchmark: str = "synth-words", **changes: Any) -> PointRow:
    row: dict[str, Any] = {field.name: None for field in fields(PointRow)}
    row |= {"model": "hero-tiny", "method": method, "variant": "exact", "params": {}, "retention_ratio": 0.2}
    row |= {"benchmark": benchmark, "value": value, "scale": 1.0, "n_visual_llm": 80.0, "profile": {}}
    row |= {"ci_low": value - 0.02, "ci_high": value + 0.02}
    return PointRow(**row | changes)


def run(**config: Any) -> RunRow:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    return RunRow("r1", "hero-table-5-offline", config, "h", "complete", "cli", now, now, now, "abc", {}, False)


def stored(method: str, **params: Any) -> dict[str, Any]:
    known = create(method, **params).parameters()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in known.items()}


def test_a_setting_is_named_by_what_it_changes() -> None:
    assert setting("hero", "exact", stored("hero")) == "hero"
    changed = stored("hero", alpha=1.0, tile_layers=(4, 5, 6), thumbnail_layers=(22,))
    assert setting("hero", "exact", changed) == "hero: alpha 1, tile_layers 4-6"
    assert setting("random", "exact", stored("random", seed=2)) == "random"


def test_a_table_has_a_row_per_setting_and_averages_seeds() -> None:
    points = [
        point("hero", 0.9, params=stored("hero")),
        point("hero", 0.5, "synth-exist", params=stored("hero"), scale=0.5),
        *(point("random", value, params=stored("random", seed=seed)) for seed, value in enumerate((0.2, 0.4))),
    ]
    made = table(run(limit=40, seed=3), points)
    assert made.columns == ("model", "setting", "kept", "visual tokens", "synth-words", "synth-exist")
    assert made.rows == (
        ("hero-tiny", "hero", "20 %", "80", "90.0 [88, 92]", "100.0 [96, 104]"),
        ("hero-tiny", "random", "20 %", "80", "30.0 (2 seeds)", ""),
    )
    assert made.title == "hero-table-5-offline, run r1, commit abc, seed 3, first 40 questions of each benchmark only"
