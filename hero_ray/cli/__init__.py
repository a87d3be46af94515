"""The `hero-ray` command: thin verbs, heavy imports inside each command.

A verb is a function in a module of this package, decorated with `@app.command()`; `main` imports the modules.
Options may be written with dashes or underscores.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from hero_ray.core.errors import HeroRayError, InputError, RunLockedError, StoreError
from hero_ray.core.version import __version__

EXIT_FAILED_SAMPLES = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def _dashes(token: str) -> str:
    return token.replace("_", "-")


class _Plain:
    """A command whose help gives switches no type: `--dry-run <bool>` reads as if a value were due."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in params:
            if getattr(one, "is_flag", False):
                one.metavar = ""
        return params


class Verb(_Plain, TyperCommand):
    """A verb."""


class Verbs(_Plain, TyperGroup):
    """A group of verbs."""


app = typer.Typer(
    name="hero-ray",
    cls=Verbs,
    help="How many visual tokens can a vision-language model lose, with which method, and at what cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": _dashes, "help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    pass


GROUPS = {
    "Ask": ("init", "plan", "sweep", "status", "cancel", "nightly"),
    "Read the answers": ("advise", "check", "compare", "frontier", "report", "dashboard", "study"),
    "Choose parameters": ("tune", "calibrate"),
    "Measure and serve": ("profile", "serve"),
    "Exchange": ("export", "import", "verify", "board"),
    "Look after it": ("doctor", "list", "describe", "db"),
}
"""Verbs as `hero-ray --help` shows them, in the order in which people come to need them."""


def load_verbs() -> None:
    """Import every module of this package, so that its verbs register; put them in the order of `GROUPS`."""
    for info in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{info.name}")
    places = {verb: (place, panel) for place, (verb, panel) in enumerate((v, p) for p in GROUPS for v in GROUPS[p])}
    registered: list[Any] = [*app.registered_commands, *app.registered_groups]
    for command in registered:
        command.rich_help_panel = places.get(_verb(command), (0, "Others"))[1]
        command.cls = Verbs if command in app.registered_groups else Verb
        for inner in command.typer_instance.registered_commands if command.cls is Verbs else ():
            inner.cls = Verb
    app.registered_commands.sort(key=lambda one: places.get(_verb(one), (len(places), ""))[0])


def _verb(command: Any) -> str:
    """Name of a verb, or of a group of them."""
    group = getattr(command, "typer_instance", None)
    return str(group.info.name if group is not None else command.name or command.callback.__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors made on purpose become one line and an exit code, never a traceback."""
    # Modules are a million objects that stay: looking for garbage among them again and again takes a tenth of a start,
    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)  # and once more at the end half a second
    load_verbs()
    try:
        app(args=list(arguments) if arguments is not None else None)
    except (InputError, StoreError, RunLockedError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except HeroRayError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `hero-ray ... | head` is not a failure
