"""Options shared by the verbs."""

from __future__ import annotations

import click
import pytest
import typer

from hero_ray.cli import GROUPS, app, load_verbs, main
from hero_ray.cli.options import model_pairs, pairs
from hero_ray.core.errors import ConfigError


def test_pairs_are_read_with_their_spaces_taken_off() -> None:
    assert pairs(" dtype = bfloat16,url=a=b ,") == {"dtype": "bfloat16", "url": "a=b"}
    assert pairs(None) == pairs("") == {}


def test_model_arguments_are_what_a_sweep_file_would_hold() -> None:
    typed = model_pairs("max_tiles=6,graphs=false,fast=true,dtype=float32,clip=./06,style=")
    assert typed == {"max_tiles": 6, "graphs": False, "fast": True, "dtype": "float32", "clip": "./06", "style": ""}
    assert isinstance(typed["max_tiles"], int), "'6' would name another cell than the file's 6"


@pytest.mark.parametrize("text", ["max_tiles", "=6", "a=1,b"])
def test_a_part_that_is_no_pair_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        pairs(text)


def test_a_sweep_refuses_model_arguments_without_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "--model-args", "max_tiles", "--dry-run"])
    assert stop.value.code == 2
    assert "'max_tiles' is not KEY=VALUE" in capsys.readouterr().err


def verbs(group: click.Group, path: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found |= verbs(command, f"{name} ") if hasattr(command, "commands") else {path + name: command}
    return found


@pytest.fixture(scope="module")
def root() -> click.Group:
    load_verbs()
    return typer.main.get_command(app)  # type: ignore[return-value]


def test_every_verb_is_in_one_group_of_the_help(root: click.Group) -> None:
    grouped = [verb for group in GROUPS.values() for verb in group]
    assert sorted(grouped) == sorted(root.commands)
    assert "Others" not in {getattr(command, "rich_help_panel", None) for command in root.commands.values()}


ONE_NAME = {
    "--run": {"--run-id", "--run"},
    "--output": {"--out", "--output-path", "--output"},
    "--tasks": {"--task", "--benchmark", "--benchmarks", "--tasks"},
    "--budgets": {"--budget", "--budgets"},
    "--format": {"--form", "--format"},
}
"""A name that every verb takes for a thing, and the ways it was or is also called."""


@pytest.mark.parametrize("name", ONE_NAME)
def test_the_same_thing_has_the_same_option_everywhere(root: click.Group, name: str) -> None:
    asked = 0
    for verb, command in verbs(root).items():
        for option in command.params:
            if ONE_NAME[name] & set(option.opts):
                assert name in option.opts, (verb, option.opts)
                asked += 1
    assert asked > 1


def test_a_plan_takes_what_narrows_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    main_ends(["plan", "--methods", "random", "--budgets", "20%", "--tasks", "synth-exist", "--limit", "4"])
    narrow = capsys.readouterr().out
    assert "synth-exist" in narrow
    assert "synth-words" not in narrow


def main_ends(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
