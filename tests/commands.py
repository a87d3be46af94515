"""Check that a command line written into a manifest would be understood, without running it."""

from __future__ import annotations

import re
from typing import Any

import typer

from hero_ray import cli


def check_command(words: list[str]) -> None:
    """A command of ours exists and takes its options; a `ray start` is parsed by Ray's own command."""
    words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]
    if words[:2] == ["python", "-m"]:
        if words[2] != "hero_ray.sweep":
            import importlib

            importlib.import_module(words[2]).parser().parse_args(words[3:])
            return
        words = ["hero-ray", "sweep", *words[3:]]
    if words[0] == "ray":
        from ray.scripts.scripts import cli as ray_cli

        command: Any = ray_cli
    else:
        assert words[0] == "hero-ray", f"unknown program in {words}"
        cli.load_verbs()
        command = typer.main.get_command(cli.app)
    words = words[1:]
    context = command.context_class(command, **command.context_settings)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no verb {words[0]!r}; known: {sorted(command.commands)}"
        command, words = command.commands[words[0]], words[1:]
        context = command.context_class(command, parent=context)
    command.make_parser(context).parse_args(list(words))
