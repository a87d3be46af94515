"""Cells and units are a pure function of the sweep; ids follow content and nothing else."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hero_ray.core import plan
from hero_ray.core.config import SweepConfig, build
from hero_ray.core.errors import ConfigError
from hero_ray.core.types import Sample

MODEL = plan.ModelFact("tiny", "llava-next", "abc", "float32", 320)
TASK = plan.TaskFact("synth-exist", "head", "data", 8)


def facts(config: SweepConfig) -> list:
    def fact(entry):
        seeded = entry.name == "random"
        budgeted = entry.name not in ("full", "prumerge")
        return plan.MethodFact(entry.name, entry.variant or "exact", entry.params, 1, seeded, budgeted)

    return [(entry, fact(entry)) for entry in config.all_methods]


def planned(**document: object) -> list:
    config = build({"tasks": ["synth-exist"], **document})
    return plan.cells(config, [MODEL], facts(config), [TASK])


def test_full_once_seeded_methods_once_per_seed() -> None:
    cells = planned(methods=["hero"], budgets=[0.4, 0.2])
    count = {name: sum(cell.method == name for cell in cells) for name in ("full", "random", "spatial", "hero")}
    assert count == {"full": 1, "random": 6, "spatial": 2, "hero": 2}
    assert len({cell.id for cell in cells}) == len(cells)


def test_a_method_whose_count_is_its_own_is_one_cell_with_the_id_of_the_first_budget() -> None:
    (cell,) = planned(methods=["prumerge"], budgets=[0.4, 0.2, "16tok"], straw_men=False)
    (alone,) = planned(methods=["prumerge"], budgets=[0.4], straw_men=False)
    assert (cell.method, cell.retention_ratio, cell.id) == ("prumerge", 0.4, alone.id)
    (pruned,) = planned(methods=["prumerge"], budgets=[1.0, 0.2], straw_men=False)
    assert pruned.retention_ratio == 0.2, "at 100 % the method would be the unpruned model"


def test_ids_follow_content() -> None:
    first = {cell.id for cell in planned(methods=["hero"])}
    assert first == {cell.id for cell in planned(methods=["hero"], name="other", batch_size=3, replicas=7)}
    assert first.isdisjoint({cell.id for cell in planned(methods=["hero"], newline_policy="none")})
    other_alpha = {cell.id for cell in planned(methods=[{"hero": {"alpha": 0.1}}], straw_men=False)}
    assert first.isdisjoint(other_alpha)


def test_a_straw_man_is_known_by_its_cell_and_not_by_its_id() -> None:
    config = build({"tasks": ["synth-exist"], "methods": ["hero"], "budgets": [0.2], "straw_men": False})
    cells = [
        plan.cells(config, [MODEL], [(entry, replace(fact, straw_man=told)) for entry, fact in facts(config)], [TASK])
        for told in (False, True)
    ]
    assert [[cell.straw_man for cell in each] for each in cells] == [[False], [True]]
    assert [cell.id for cell in cells[0]] == [cell.id for cell in cells[1]]


def test_include_and_exclude() -> None:
    cells = planned(methods=["hero"], exclude=[{"method": ["random", "spatial", "downsample"]}])
    assert {cell.method for cell in cells} == {"full", "hero"}
    kept = planned(methods=["hero"], include=[{"method": "hero", "budget": 0.2}])
    assert [(cell.method, cell.retention_ratio) for cell in kept] == [("hero", 0.2)]
    with pytest.raises(ConfigError, match="no cells left"):
        planned(methods=["hero"], include=[{"method": "nothing"}])
    with pytest.raises(ConfigError, match="unknown"):
        planned(methods=["hero"], exclude=[{"methods": "hero"}])


def test_the_same_cell_asked_for_twice_appears_once() -> None:
    assert len(planned(methods=["hero", "hero"], straw_men=False)) == 3


def sample(benchmark: str, key: str, image: str) -> Sample:
    return Sample(benchmark, key, "q", ["a"], image, {"path": image})


def test_units_hold_all_questions_of_a_picture_longest_first() -> None:
    samples = [sample("a", "1", "x"), sample("b", "1", "y"), sample("b", "2", "y"), sample("c", "9", "y")]
    random.Random(3).shuffle(samples)
    units = plan.units(samples)
    assert [unit.image_key for unit in units] == ["y", "x"]
    assert len(units[0].samples) == 3
    assert {unit.id for unit in units} == {unit.id for unit in plan.units(reversed(samples))}


def test_a_picture_with_many_questions_is_cut_in_order() -> None:
    unit = plan.units([sample("a", str(i), "x") for i in range(10)])[0]
    parts = plan.split_unit(unit, 4)
    assert [len(part.samples) for part in parts] == [4, 4, 2]
    assert [s.key for part in parts for s in part.samples] == [s.key for s in unit.samples]
    assert len({part.id for part in parts}) == 3


def test_a_thousand_cells_over_many_questions() -> None:
    budgets = [round(0.001 * i, 3) for i in range(1, 1001)]
    assert len(planned(methods=["hero"], budgets=budgets, straw_men=False)) == 1000
    units = plan.units([sample("synth-exist", str(i), str(i // 5)) for i in range(100_000)])
    assert len(units) == 20_000
    assert sum(len(unit.samples) for unit in units) == 100_000
