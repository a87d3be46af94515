"""A sweep file is validated once; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hero_ray import methods
from hero_ray.core import config
from hero_ray.core.errors import BudgetError, ConfigError, InputError


@pytest.mark.parametrize(
    ("written", "ratio", "tokens"),
    [(0.2, 0.2, None), ("20%", 0.2, None), ("drop=0.8", 0.2, None), ("1", 1.0, None), ("576tok", None, 576)],
)
def test_every_form_of_a_budget(written: object, ratio: float | None, tokens: int | None) -> None:
    budget = config.parse_budget(written)
    assert (budget.ratio, budget.tokens) == (ratio, tokens)


@pytest.mark.parametrize("written", [0, 2, -0.1, "0%", "120%", "drop=1", "0tok", "many", "nan"])
def test_budgets_out_of_range_are_refused(written: object) -> None:
    with pytest.raises(BudgetError):
        config.parse_budget(written)


def test_methods_in_every_form() -> None:
    built = config.build({"tasks": "synth-exist", "methods": "hero:alpha=0.7,variant=paper,hired", "straw_men": False})
    hero, hired = built.all_methods
    assert (hero.name, hero.variant, hero.params) == ("hero", "paper", {"alpha": 0.7})
    assert hired == config.MethodEntry(name="hired")
    listed = config.build({"tasks": ["synth-exist"], "methods": [{"hero": {"alpha": 0.7, "variant": "paper"}}]})
    assert listed.methods == (hero,)


def test_straw_men_ride_along_once() -> None:
    built = config.build({"tasks": "synth-exist", "methods": ["random", "hero"]})
    assert [entry.name for entry in built.all_methods] == ["full", "spatial", "downsample", "random", "hero"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"taks": ["synth-exist"]}, "unknown sweep key 'taks'. Did you mean 'tasks'?"),
        ({"tasks": []}, "`tasks` is empty"),
        ({"tasks": ["a"], "limit": 0}, "`limit`"),
        ({"tasks": ["a"], "profile": {"imags": 1}}, "profile.imags"),
        ({"tasks": ["a"], "methods": [{"a": 1, "b": 2}]}, "exactly one key"),
    ],
)
def test_wrong_documents_are_named(document: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(document)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_set_reaches_into_the_document() -> None:
    document: dict = {"tasks": ["a"]}
    config.override(document, "profile.images=2")
    config.override(document, "newline-policy=none")
    built = config.build(document)
    assert (built.profile.images, built.newline_policy) == (2, "none")
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        config.override(document, "profile.images")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sweep file"):
        config.read(tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="mapping"):
        config.read(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        config.read(tmp_path / "broken.yaml")


def test_shipped_sweep_files_are_valid() -> None:
    files = sorted(Path("configs").rglob("*.yaml"))
    assert files
    for file in files:
        config.build(config.read(file))


@pytest.mark.parametrize(
    "document",
    [
        {"seed": 2**31},
        {"seed": -(2**31) - 1},
        {"seed": 2**31 - 2, "random_seeds": 3},
        {"methods": [{"name": "random", "seeds": [2**31]}]},
    ],
)
def test_seeds_that_a_database_cannot_hold_are_refused(document: dict) -> None:
    with pytest.raises(ConfigError, match="seed"):
        config.build({"tasks": ["pope"], **document})
    assert config.build({"tasks": ["pope"], "seed": 2**31 - 3}).seed == 2**31 - 3


def test_a_sweep_name_is_text_that_a_database_can_hold() -> None:
    assert config.build({"tasks": ["pope"], "name": "a\x00b \ud800 \u2603"}).name == "a\ufffdb \ufffd \u2603"


DOUBLING = "[&a0 [x]" + "".join(f", &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)) + "]"
"""Two to the 39th characters, should anyone write it out."""


@pytest.mark.parametrize("written", [f"hero:alpha={DOUBLING}", "hero:alpha=[", "hero:alpha=2024-99-99"])
def test_a_value_of_one_line_that_is_not_yaml_is_refused_in_one(written: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse_method(written)
    assert len(str(refused.value)) < 600
    with pytest.raises(ConfigError):
        config.override({}, f"params.alpha={written.partition('=')[2]}")


def test_a_file_whose_aliases_double_is_refused_shortly() -> None:
    """In a file aliases have their use; what they mean is never written out."""
    value = yaml.safe_load(DOUBLING)
    for make in (
        lambda: methods.create("hero", alpha=value),
        lambda: methods.create("hero", variant=value),
        lambda: config.parse_budget(value),
        lambda: config.build({"tasks": ["synth-exist"], "limit": value}),
        lambda: config.build({"tasks": ["synth-exist"], "methods": [{"name": "hero", "budgets": [value]}]}),
    ):
        with pytest.raises(InputError) as refused:
            make()
        assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    "budget",
    [
        {"ratio": 7},
        {"ratio": 0},
        {"ratio": -1},
        {"tokens": 0},
        {},
        None,
        [],
        {"ratio": 0.2, "tokens": 3},
        {"ratio": float("nan")},
    ],
    ids=str,
)
def test_a_budget_as_a_mapping_is_held_to_the_same_range(budget: object) -> None:
    with pytest.raises(InputError):
        config.build({"tasks": ["synth-exist"], "budgets": [budget]})
    with pytest.raises(InputError):
        config.build({"tasks": ["synth-exist"], "methods": [{"name": "hero", "budgets": [budget]}]})
