"""Cells and units are a pure function of the sweep; ids follow content and nothing else."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from typing import Any

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


# --- what is in a cell ---


def sha(content: Any) -> str:
    """The documented id, made the plain way: 16 hex digits over compact JSON with sorted keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_cell_is_everything_that_may_change_its_answers() -> None:
    config = build({"tasks": ["t"], "methods": ["hero"], "budgets": [0.2], "straw_men": False, "max_new_tokens": 5})
    model = replace(MODEL, options={"max_tiles": 6})
    task = replace(TASK, prompts={"llava-next": "ab12", "internvl2": "cd34"})
    fact = plan.MethodFact("hero", "paper", {"alpha": 0.7}, 3, seeded=False, budgeted=True)
    (cell,) = plan.cells(config, [model], [(config.methods[0], fact)], [task])
    expected = {
        "model": {
            "name": "tiny",
            "family": "llava-next",
            "revision": "abc",
            "dtype": "float32",
            "options": {"max_tiles": 6},
        },
        "method": {"name": "hero", "variant": "paper", "params": {"alpha": 0.7}, "code": 3},
        "budget": {"ratio": 0.2, "tokens": None, "base": "real"},
        "newline_policy": "unpadded_rows",
        "benchmark": {"name": "synth-exist", "flavour": "head", "data": "data"},
        "generation": {"max_new_tokens": 5, "prompt": "ab12", "decoding": "greedy"},
    }
    assert (dict(cell.spec), cell.id) == (expected, sha(expected))
    assert (cell.model, cell.method, cell.variant, cell.params) == ("tiny", "hero", "paper", {"alpha": 0.7})
    assert (cell.benchmark, cell.flavour, cell.seed, cell.own_count) == ("synth-exist", "head", 0, False)


def test_answer_length_and_prompt_fall_back_to_the_benchmarks_own() -> None:
    (cell,) = planned(methods=["full"], straw_men=False)
    assert cell.spec["generation"] == {"max_new_tokens": 8, "prompt": "", "decoding": "greedy"}


def test_a_digest_ignores_the_order_of_keys_and_keeps_letters_as_they_are() -> None:
    assert plan.digest({"b": 1, "a": ["é"]}) == plan.digest({"a": ["é"], "b": 1}) == sha({"a": ["é"], "b": 1})
    assert plan.digest([1], length=40) == hashlib.sha256(b"[1]").hexdigest()[:40]
    assert plan.digest(FIRST) == sha(str(FIRST))  # what JSON does not know is told by its text


FIRST = complex(1, 2)


# --- token budgets ---


def test_a_token_budget_is_one_cell_whose_share_is_of_the_largest_prompt() -> None:
    cells = planned(methods=["hero"], budgets=["80tok", "320tok", "576tok", "1tok", 0.25], straw_men=False)
    found = [(cell.tokens, cell.retention_ratio) for cell in cells if cell.method == "hero"]
    assert found == [(80, 0.25), (320, 1.0), (576, 1.0), (1, 1 / 320), (None, 0.25)]
    assert len({cell.id for cell in cells}) == len(cells), "80 tokens of each picture are no quarter of each"
    by_tokens = next(cell for cell in cells if cell.tokens == 80)
    assert by_tokens.spec["budget"] == {"ratio": None, "tokens": 80, "base": "real"}


def test_token_budgets_may_be_included_by_their_share() -> None:
    kept = planned(methods=["hero"], budgets=["80tok", 0.5], include=[{"budget": [0.25]}], straw_men=False)
    assert [(cell.method, cell.tokens) for cell in kept] == [("hero", 80)]


# --- seeds and budgets of methods ---


def seeds(params: dict[str, Any] | None = None, **document: object) -> list[int]:
    config = build({"tasks": ["t"], "methods": [{"random": params or {}}], "budgets": [0.2], **document})
    fact = plan.MethodFact("random", "exact", params or {}, 1, seeded=True, budgeted=True)
    found = plan.cells(config, [MODEL], [(config.methods[0], fact)], [TASK])
    assert [cell.params["seed"] for cell in found] == [cell.seed for cell in found]
    return [cell.seed for cell in found]


def test_seeds_count_on_from_the_sweeps_unless_the_method_names_one() -> None:
    assert seeds() == [0, 1, 2]
    assert seeds(seed=7, random_seeds=2) == [7, 8]
    assert seeds({"seed": 5}) == [5]


def test_a_method_without_seeds_has_seed_0_and_no_such_parameter() -> None:
    cells = planned(methods=["hero"], budgets=[0.2], seed=9, straw_men=False)
    assert [(cell.method, cell.seed, "seed" in cell.params) for cell in cells] == [("hero", 0, False)]


def test_the_unpruned_model_is_one_cell_at_its_full_size_whatever_was_asked() -> None:
    (cell,) = planned(methods=[{"name": "full", "budgets": [0.1, 0.2]}], budgets=["16tok"], straw_men=False)
    assert (cell.retention_ratio, cell.tokens, cell.own_count) == (1.0, None, False)


def test_a_methods_own_budgets_come_before_the_sweeps() -> None:
    cells = planned(methods=[{"name": "hero", "budgets": [0.3]}, "hired"], budgets=[0.2, 0.1], straw_men=False)
    assert [(c.method, c.retention_ratio) for c in cells] == [("hero", 0.3), ("hired", 0.2), ("hired", 0.1)]


def test_a_count_of_its_own_is_marked_and_named_by_the_first_budget_even_at_100_percent() -> None:
    (cell,) = planned(methods=["prumerge"], budgets=[1.0], straw_men=False)
    assert (cell.retention_ratio, cell.own_count) == (1.0, True)


def test_exclude_needs_every_part_of_a_rule_and_any_of_the_rules() -> None:
    rules = [{"method": "hero", "budget": 0.2}, {"model": "other"}, {"task": "synth-exist", "budget": [0.4]}]
    cells = planned(methods=["hero", "hired"], budgets=[0.4, 0.2, 0.1], exclude=rules, straw_men=False)
    found = [(cell.method, cell.retention_ratio) for cell in cells]
    assert found == [("hero", 0.1), ("hired", 0.2), ("hired", 0.1)]
    with pytest.raises(ConfigError, match="include/exclude key 'a' is unknown; use model, method, task, budget"):
        planned(methods=["hero"], include=[{"z": 1, "a": 2}])


# --- units ---


def test_a_units_id_is_of_its_picture_and_its_benchmarks() -> None:
    made = plan.units([sample("b", "1", "x"), sample("a", "2", "x"), sample("b", "3", "x")])
    assert [(unit.id, unit.benchmarks) for unit in made] == [(sha(["x", ["a", "b"]]), ("b", "a"))]


def test_equally_long_units_come_by_id() -> None:
    made = plan.units([sample("a", str(i), f"p{i}") for i in range(8)])
    assert [unit.id for unit in made] == sorted(sha([f"p{i}", ["a"]]) for i in range(8))


def test_parts_of_a_unit_are_numbered_and_a_unit_that_fits_is_left_whole() -> None:
    unit = plan.units([sample("a", str(i), "x") for i in range(4)])[0]
    assert plan.split_unit(unit, 4) == [unit]
    assert [part.id for part in plan.split_unit(unit, 2)] == [f"{unit.id}-0", f"{unit.id}-1"]
    assert {part.image_key for part in plan.split_unit(unit, 3)} == {"x"}


# --- sweeps ---


def test_a_sweeps_hash_is_of_cells_samples_profile_and_margin() -> None:
    cells = planned(methods=["hero"], straw_men=False)
    plain = build({"tasks": ["t"], "profile": {"enabled": False}})
    content = {"cells": sorted(cell.id for cell in cells), "samples": {"t": "s"}, "profile": None, "race": None}
    assert plan.sweep_hash(plain, cells, {"t": "s"}) == plan.sweep_hash(plain, cells[::-1], {"t": "s"}) == sha(content)
    decided = build({"tasks": ["t"], "profile": {"enabled": False}, "until": "decided", "margin": 2})
    assert plan.sweep_hash(decided, cells, {"t": "s"}) == sha(content | {"race": 2.0})
    timed = build({"tasks": ["t"]})
    assert plan.sweep_hash(timed, cells, {"t": "s"}) == sha(content | {"profile": timed.profile.model_dump()})


def test_what_changed_between_two_cells_is_named() -> None:
    (before,) = planned(methods=["hero"], budgets=[0.2], straw_men=False)
    assert list(plan.spec_changes(before.spec, before.spec)) == []
    after = json.loads(json.dumps(before.spec))
    after["model"]["revision"], after["method"]["code"], after["generation"]["prompt"] = "def", 2, "p"
    assert list(plan.spec_changes(before.spec, after)) == [
        ("weights of tiny", "abc", "def"),
        ("code version of hero", "1", "2"),
        ("prompts of synth-exist", "", "p"),
    ]
    assert list(plan.spec_changes({}, {"model": {"dtype": "bfloat16"}})) == [("dtype of ?", "None", "bfloat16")]


def test_engines_are_part_of_ids_and_ours_leaves_them_as_they_were() -> None:
    config = build({"tasks": ["synth-exist"], "methods": ["hero", "fastv"], "budgets": [1.0, 0.4]})
    known = [(entry, replace(fact, inside=fact.name == "fastv", reads_blocks=False)) for entry, fact in facts(config)]

    def ids(engine: str, version: str = "") -> dict[tuple[str, float], str]:
        model = replace(MODEL, engine=engine, engine_version=version)
        made = plan.cells(config, [model], known, [TASK])
        assert all(cell.engine == ("ours" if engine == "ours" else cell.engine) for cell in made)
        return {(cell.method, cell.retention_ratio, cell.seed): cell for cell in made}

    ours, auto, newer = ids("ours"), ids("auto", "0.32.0"), ids("auto", "0.33.0")
    plain = {cell.id for cell in plan.cells(config, [MODEL], known, [TASK])}
    assert plain == {cell.id for cell in ours.values()}
    assert all("engine" not in cell.spec["model"] for cell in ours.values())
    inside = ("fastv", 0.4, 0)
    assert auto[inside].id == ours[inside].id
    assert auto[inside].engine == "ours"
    for key in ours.keys() - {inside}:
        assert auto[key].engine == "vllm"
        assert len({ours[key].id, auto[key].id, newer[key].id}) == 3
    changed = list(plan.spec_changes(auto["hero", 0.4, 0].spec, newer["hero", 0.4, 0].spec))
    assert [what for what, *_ in changed] == ["engine of tiny"]


def test_cells_that_vllm_cannot_answer_are_refused_and_listed() -> None:
    config = build(
        {"tasks": ["synth-exist"], "methods": ["hero", "fastv", "hired"], "budgets": [1.0, 0.4, 0.2, "16tok"]}
    )
    known = [
        (entry, replace(fact, inside=fact.name == "fastv", reads_blocks=fact.name == "hired"))
        for entry, fact in facts(config)
    ]
    model = replace(MODEL, engine="vllm", engine_version="0.32.0")
    with pytest.raises(ConfigError) as refused:
        plan.cells(config, [model], known, [TASK])
    told = str(refused.value).splitlines()
    assert told[0].startswith("engine=vllm cannot answer 6 of ")
    assert told[1:3] == [
        "  fastv (exact) drops tokens inside the language model: budgets 0.4, 0.2, 16tok on synth-exist with tiny "
        "(3 cells)",
        "  hired (exact) reads the language model's own attention: budgets 0.4, 0.2, 16tok on synth-exist with tiny "
        "(3 cells)",
    ]
    assert "engine=auto" in told[3]
    answered = {cell.method: cell.engine for cell in plan.cells(config, [replace(model, engine="auto")], known, [TASK])}
    assert (answered["hired"], answered["fastv"]) == ("vllm", "ours")
    without = build({"tasks": ["synth-exist"], "methods": ["hero", "fastv"], "exclude": [{"method": "fastv"}]})
    assert plan.cells(without, [model], [one for one in known if one[0].name != "hired"], [TASK])
