"""Every command on a page is one that the tool takes: its verb, its options, and the kinds of their values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from hero_ray import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "commands.md"})]
"""All but the page that is made from the tool's own help."""
FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"(?<![\w./-])(?:hero-ray|python -m hero_ray\.sweep)(?= )")
USAGE: Any = typer.BadParameter.__base__
"""What the parser raises for all that it does not take."""
END = {"|", ";", "&", "&&", ">", ">>"}


def commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """(arguments, whether they stand in a block, to be typed as they are) of every command of a page."""
    blocks = [block.replace("\\\n", " ") for block in FENCE.findall(text)]
    for line in "\n".join(blocks).splitlines():
        if not line.lstrip().startswith("kubectl"):  # hero-ray is the name of a namespace and a cluster there
            yield from ((words, True) for words in said(line))
    for span in SPAN.findall(FENCE.sub("", text)):
        if NAME.match(span):
            yield from ((words, False) for words in said(span))


def said(line: str) -> Iterator[list[str]]:
    """Arguments of each command in a line; brackets around what may be left out and dots for more are no part."""
    starts = [found.start() for found in NAME.finditer(line)]
    for start, end in pairwise([*starts, len(line)]):
        one = line[start:end].partition("`")[0].replace("python -m hero_ray.sweep", "hero-ray sweep")
        words = [word.strip("[]") for word in shlex.split(one, comments=True)[1:]]
        end_at = next((at for at, word in enumerate(words) if word in END), len(words))
        yield [word for word in words[:end_at] if word not in ("...", "…")]


@pytest.fixture(scope="module")
def root() -> Any:
    cli.load_verbs()
    return typer.main.get_command(cli.app)


def refused(root: Any, words: list[str], typed: bool) -> str:
    """Why the tool would not take them; "" if it would."""
    context = root.make_context("hero-ray", [], resilient_parsing=True)
    command = root
    while words and (inner := getattr(command, "commands", {}).get(words[0])):
        command, words = inner, words[1:]
    if command is root:
        return "" if words in (["--help"], ["--version"]) else f"no verb {words[:1]}"
    try:
        command.make_context(command.name, list(words), parent=context)
    except typer.Exit:
        pass  # --help
    except USAGE as problem:
        kind, why = type(problem).__name__, str(problem.format_message())
        is_left_out = kind in ("MissingParameter", "BadOptionUsage") and not typed
        is_placeholder = "Input should be" in why and any(word.isupper() for word in words)
        return "" if is_left_out or is_placeholder else why
    return ""


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_command_of_a_page_is_taken(root: Any, page: Path) -> None:
    found = [(words, refused(root, words, typed)) for words, typed in commands(page.read_text("utf-8"))]
    assert [(words, why) for words, why in found if why] == []


def test_what_is_no_command_would_be_found(root: Any) -> None:
    page = (
        "`hero-ray sweeep x`\n```sh\nhero-ray sweep --budgetz 20% | cat\nhero-ray plan --limit many  # here\n"
        '$ hero-ray check "hero@20% >= full - 3 on pope" --run latest  # fine\nkubectl -n hero-ray get pods\n```\n'
    )
    found = [(words, bool(refused(root, words, typed))) for words, typed in commands(page)]
    assert [wrong for _, wrong in found] == [True, True, False, True]
    assert found[2][0] == ["check", "hero@20% >= full - 3 on pope", "--run", "latest"]
