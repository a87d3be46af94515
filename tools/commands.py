"""docs/commands.md from the command line itself: every verb with its arguments and options.

python -m tools.commands > docs/commands.md
"""

from __future__ import annotations

import sys
from typing import Any

from hero_ray import cli

HEAD = """# Commands

Written by `make docs` from the command line itself; `hero-ray VERB --help` says the same.
"""


def page() -> str:
    """The whole page."""
    import typer

    cli.load_verbs()
    return "\n".join([HEAD, *verbs(typer.main.get_command(cli.app), "hero-ray")]).rstrip() + "\n"


def verbs(group: Any, path: str) -> list[str]:
    """Lines of every verb below a group, in alphabetical order."""
    lines: list[str] = []
    for name in sorted(group.commands):
        command = group.commands[name]
        if hasattr(command, "commands"):
            if command.invoke_without_command:  # a verb itself, with options of its own
                lines += _verb(command, f"{path} {name}")
            lines += verbs(command, f"{path} {name}")
        else:
            lines += _verb(command, f"{path} {name}")
    return lines


def _verb(command: Any, path: str) -> list[str]:
    """Heading, help, usage and options of one verb."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([path, *(f"[{one.name.upper()}]" for one in arguments)])
    lines = [f"## `{path}`", "", " ".join((command.help or "").split()), "", f"`{usage}`", ""]
    if arguments or options:
        lines += ["| option | what it does | default |", "| --- | --- | --- |"]
        lines += [_row(one.name.upper(), one) for one in arguments]
        lines += [_row(", ".join(f"`{flag}`" for flag in one.opts), one) for one in options]
        lines.append("")
    return lines


def _row(name: str, one: Any) -> str:
    default = "" if one.default in (None, False) or callable(one.default) else f"`{one.default}`"
    what = " ".join((one.help or "").split()).replace("|", "\\|")
    return f"| {name} | {what} | {default} |"


if __name__ == "__main__":
    sys.stdout.write(page())
