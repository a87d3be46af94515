"""Verdicts on printed values: what must agree before a figure may be called reproduced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hero_ray.core.errors import UnknownNameError
from hero_ray.methods import create
from hero_ray.store import CellRow, MetricRow
from hero_ray.studies import verify

FULL = {"pope": 9_000, "scienceqa_img": 2_017, "vqav2_val": 214_354, "mmstar": 1_500}


def cell(method: str = "hero", ratio: float = 0.2, benchmark: str = "pope", **changes: Any) -> CellRow:
    params = changes.pop("params", {})
    known = create(method, **params).parameters()
    known = {key: list(value) if isinstance(value, tuple) else value for key, value in known.items()}
    fields: dict[str, Any] = dict.fromkeys(CellRow.__dataclass_fields__)
    fields |= {"run_id": "r", "id": "c", "model": "llava-next-7b", "method": method, "variant": "exact"}
    fields |= {"params": known, "retention_ratio": ratio, "seed": 0, "benchmark": benchmark, "flavour": "v0.2.0"}
    fields |= {
        "spec": {},
        "status": "complete",
        "n_expected": FULL[benchmark],
        "n_done": FULL[benchmark],
        "n_failed": 0,
    }
    return CellRow(**fields | changes)


def pope(value: float, half: float = 0.005) -> dict[str, list[MetricRow]]:
    main = MetricRow("pope_accuracy", value, 9_000, "", value - half, value + half, 500, True)
    return {"c": [main, MetricRow("pope_f1_score", value, 9_000)]}


def hero_pope() -> verify.PrintedValue:
    rows = verify.printed_values(("hero", "IV"))
    found = [r for r in rows if (r.model, r.method, r.budget, r.benchmark) == ("llava-next-7b", "hero", 0.2, "pope")]
    assert len(found) == 1
    return found[0]


def test_within_the_interval_is_reproduced_and_outside_differs() -> None:
    printed = hero_pope()
    near, far = printed.value / 100 + 0.004, printed.value / 100 + 0.02
    assert verify.judge(printed, [cell()], pope(near), "grid").verdict == verify.REPRODUCED
    line = verify.judge(printed, [cell()], pope(far), "grid")
    assert (line.verdict, line.why) == (verify.DIFFERS, "outside the interval")
    assert line.measured == pytest.approx(printed.value + 2)
    assert line.low == pytest.approx(printed.value + 1.5)


@pytest.mark.parametrize(
    ("change", "base", "why"),
    [
        ({"model": "hero-tiny"}, "grid", "the run measured hero-tiny"),
        ({"ratio": 0.4}, "grid", "no such cell"),
        ({"params": {"alpha": 0.3}}, "grid", "no such cell"),
        ({}, "real", "other budget"),
        ({"flavour": "vlmevalkit"}, "grid", "other scoring rules"),
        ({"n_done": 500}, "grid", "500 of 9000 questions"),
    ],
)
def test_what_is_unlike_is_not_compared(change: dict[str, Any], base: str, why: str) -> None:
    line = verify.judge(hero_pope(), [cell(**change)], pope(hero_pope().value / 100), base)
    assert line.verdict == verify.UNLIKE
    assert why in line.why


def test_another_model_can_stand_in_and_says_so() -> None:
    line = verify.judge(hero_pope(), [cell(model="hero-tiny")], pope(0.9), "grid", model="hero-tiny")
    assert line.why.startswith("other model: hero-tiny")
    assert line.measured == pytest.approx(90.0)


def test_a_server_score_is_never_set_against_a_validation_score() -> None:
    printed = replace(hero_pope(), benchmark="vqav2_val")
    row = MetricRow("exact_match", printed.value / 100, 1, "", 0.0, 1.0, 1, True)
    line = verify.judge(printed, [cell(benchmark="vqav2_val")], {"c": [row]}, "grid")
    assert (line.verdict, "test-dev" in line.why) == (verify.UNLIKE, True)


def test_an_ablation_finds_its_cell_by_parameters_and_category() -> None:
    rows = [r for r in verify.printed_values(("hero", "VI")) if r.category == "science and technology"]
    wide = next(row for row in rows if row.setting == "L 4-12")
    params = {"tile_layers": tuple(range(4, 13)), "thumbnail_layers": tuple(range(13, 25))}
    match = cell(benchmark="mmstar", params=params, flavour="v0.2.3")
    share = wide.value / 100
    metric = MetricRow("average", share, 250, "science & technology", share - 0.05, share + 0.05, 250)
    assert verify.judge(wide, [cell(benchmark="mmstar"), match], {"c": [metric]}, "grid").verdict == verify.REPRODUCED
    assert verify.judge(wide, [cell(benchmark="mmstar")], {"c": [metric]}, "grid").verdict == verify.UNLIKE


def test_the_papers_own_slips_are_found_by_their_formula() -> None:
    lines = {line.what: line for line in verify.cost_lines(("hero", "VIII"))}
    wrong = lines["hero 40% llava-next-7b TFLOPs"]
    assert (wrong.verdict, wrong.printed, round(wrong.measured or 0, 2)) == (verify.DIFFERS, "14.1", 14.95)
    assert lines["hero 20% llava-next-7b TFLOPs"].verdict == verify.REPRODUCED
    assert lines["hero 20% llava-next-7b KV MiB"].verdict == verify.REPRODUCED
    assert lines["hero 20% llava-next-7b decode_tokens_per_s"].verdict == verify.UNLIKE
    ptp = [line for line in verify.cost_lines(("ptp", "V")) if line.what.endswith(("TFLOPs", "MiB"))]
    assert {line.verdict for line in ptp} == {verify.REPRODUCED}


def test_every_table_is_readable_and_none_other() -> None:
    for paper, table in verify.tables():
        assert verify.parse_table(f"{paper}-{table}".lower()) == (paper, table)
        lines = verify.printed_values((paper, table)) or verify.cost_lines((paper, table))
        assert lines or verify.study_lines((paper, table))
    with pytest.raises(UnknownNameError, match="hero-IV"):
        verify.parse_table("hero-XX")


def tile_study(model: str, *rows: tuple[object, ...]) -> dict[str, object]:
    columns = ["benchmark", "ranking", "rank", "score", "low", "high", "n"]
    return {
        "name": "tile-importance",
        "model": model,
        "result": {"tables": [{"columns": columns, "rows": [list(row) for row in rows]}]},
    }


def test_tables_of_studies_point_to_the_command_until_one_is_stored() -> None:
    (line,) = verify.study_lines(("hero", "I"))
    assert "hero-ray study tile-importance" in line.why
    other = {"name": "token-roles", "model": "llava-next-7b", "result": {"tables": []}}
    assert verify.study_lines(("hero", "I"), [other]) == [line]


def test_a_stored_study_stands_beside_the_printed_values() -> None:
    study = tile_study(
        "llava-next-7b",
        ("pope", "thumbnail only", 0, 0.85, 0.84, 0.86, 9000),
        ("pope", "CLIP score", 1, 0.9, 0.895, 0.905, 9000),
        ("pope", "CLS similarity", 2, 0.86, 0.85, 0.87, 400),
        ("mme", "CLIP score", 1, 0.8, 0.79, 0.81, 2374),
    )
    lines = {line.what: line for line in verify.study_lines(("hero", "I"), [study])}
    assert len(lines) == 36
    same = lines["global thumbnail only tile_rank none pope"]
    assert (same.verdict, same.printed, same.measured, same.low) == (verify.REPRODUCED, "84.7", 85.0, 84.0)
    off = lines["thumbnail + tile by CLIP score tile_rank 1 pope"]
    assert (off.verdict, off.why) == (verify.DIFFERS, "outside the interval")
    part = lines["thumbnail + tile by CLS similarity tile_rank 2 pope"]
    assert (part.verdict, part.why.split(" (")[0]) == (verify.UNLIKE, "other split: 400 of 9000 questions")
    assert "MME points" in lines["thumbnail + tile by CLIP score tile_rank 1 mme"].why
    absent = lines["thumbnail + tile by CLIP score tile_rank 1 textvqa"]
    assert (absent.measured, absent.why) == (None, "the study measured pope, mme")


def test_studies_of_other_models_are_shown_and_never_judged() -> None:
    tiny = tile_study("hero-tiny", ("pope", "thumbnail only", 0, 0.847, 0.8, 0.9, 9000))
    own = tile_study("llava-next-7b", ("pope", "thumbnail only", 0, 0.847, 0.8, 0.9, 9000))
    first = next(line for line in verify.study_lines(("hero", "I"), [tiny]) if line.measured is not None)
    assert (first.verdict, first.why) == (verify.UNLIKE, "other model: hero-tiny instead of llava-next-7b")
    first = next(line for line in verify.study_lines(("hero", "I"), [tiny, own]) if line.measured is not None)
    assert first.verdict == verify.REPRODUCED, "the paper's own model goes before a newer study of another"
    lines = verify.study_lines(("hero", "I"), [own], model="hero-tiny")
    assert [line.measured for line in lines] == [None]


def test_categories_and_ratings_find_their_rows() -> None:
    roles = {
        "name": "token-roles",
        "model": "llava-1.5-7b",
        "result": {
            "tables": [
                {
                    "columns": ["benchmark", "category", "tokens", "score", "low", "high", "n"],
                    "rows": [["mmstar", "science & technology", "shortcut", 0.24, 0.2, 0.28, 250]],
                }
            ]
        },
    }
    (line,) = (line for line in verify.study_lines(("hero", "II"), [roles]) if line.measured is not None)
    assert (line.what, line.printed, line.verdict) == (
        "setting-2 vit_layers 12-23 mmstar science and technology",
        "23.8",
        verify.REPRODUCED,
    )
    judged = {
        "name": "caption-judge",
        "model": "llava-1.5-7b",
        "result": {
            "tables": [
                {
                    "columns": ["tokens", "rating", "mean", "low", "high", "n"],
                    "rows": [["primary", "object_coverage", 3.8, 3.6, 4.0, 50]],
                }
            ]
        },
    }
    (line,) = (line for line in verify.study_lines(("hero", "III"), [judged]) if line.measured is not None)
    assert (line.measured, line.verdict) == (3.8, verify.UNLIKE)
    assert "another judge" in line.why
