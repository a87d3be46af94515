"""The pages as a site: every page in its navigation, commands as they are, nothing asked of the network."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hero_ray import cli
from tests.integration.sweeps import script_environment

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^    ```(python|sh)\n(.*?)^    ```", re.MULTILINE | re.DOTALL)


def named(nav: Any) -> Iterator[str]:
    """Files of a navigation, whatever their depth."""
    for entry in nav if isinstance(nav, list) else [nav]:
        if isinstance(entry, str):
            yield entry
        else:
            for inside in entry.values():
                yield from named(inside)


def test_every_page_is_in_the_navigation_once() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(named(settings["nav"])) == sorted(path.name for path in DOCS.glob("*.md"))


def test_the_page_of_commands_is_that_of_today() -> None:
    page = importlib.import_module("tools.commands").page()
    assert page == (DOCS / "commands.md").read_text(encoding="utf-8"), "write it anew with `make docs`"
    assert "## `hero-ray db merge`" in page


def test_every_verb_that_takes_options_stands_on_the_page_of_commands() -> None:
    """`nightly` is a verb and a group of verbs: both have a place."""
    import typer

    cli.load_verbs()
    page = (DOCS / "commands.md").read_text(encoding="utf-8")

    def called(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", {})
        if path != "hero-ray" and (not children or command.invoke_without_command):
            yield path, command
        for name, child in children.items():
            yield from called(child, f"{path} {name}")

    found = dict(called(typer.main.get_command(cli.app), "hero-ray"))
    assert {"hero-ray nightly", "hero-ray nightly accept", "hero-ray db merge"} <= set(found)
    for path, command in found.items():
        _, _, rest = page.partition(f"## `{path}`\n")
        section, _, _ = rest.partition("\n## ")
        assert section, f"{path} is missing"
        for option in command.params:
            assert getattr(option, "hidden", False) or option.param_type_name == "argument" or option.opts[0] in section


def test_the_page_of_python_names_is_that_of_today() -> None:
    page = importlib.import_module("tools.reference").page()
    assert page == (DOCS / "reference.md").read_text(encoding="utf-8"), "write it anew with `make docs`"
    assert " at 0x" not in page
    assert "- `BudgetError`:" in page


@pytest.mark.slow
def test_the_site_is_built_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md"))) - 1
    for page in pages:
        fetched = re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"(https?:[^\"]+)", page.read_text("utf-8"))
        assert fetched == [], page.name
    assert (tmp_path / "search" / "search_index.json").stat().st_size > 10_000


@pytest.mark.ray
@pytest.mark.slow
def test_the_tutorial_ends_in_a_verdict(tmp_path: Path) -> None:
    """Its blocks, one after another, in an empty folder."""
    blocks = [(kind, re.sub("^    ", "", text, flags=re.MULTILINE)) for kind, text in BLOCK.findall(TUTORIAL)]
    assert [kind for kind, _ in blocks] == ["python", "sh", "python", "sh", "sh", "sh"]
    said = ""
    for kind, text in blocks:
        for command in [[sys.executable, "-c", text]] if kind == "python" else map(str.split, text.splitlines()):
            words = [sys.executable, "-m", "hero_ray", *command[1:]] if command[0] == "hero-ray" else command
            done = subprocess.run(
                words, cwd=tmp_path, capture_output=True, text=True, env=script_environment(), timeout=400, check=False
            )
            assert done.returncode == 0, (words, done.stderr)
            said += done.stdout
    assert "put a question and its answer into each row" in said
    assert "no method is shown to stay within 5 points" in said
    assert "of 20 pictures differ; a loss up to" in said
    assert "pictures on" in said
