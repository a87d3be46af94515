"""Which tests share a process: those that look at the demo sweep or at a browser, and all others that start a Ray.

A job asks which Ray was started last on its machine, so two that take jobs must not be started beside each other.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COLLECTED = pytest.StashKey[list[pytest.Item]]()
"""Every test a run has collected, before `-m` leaves some of them out."""
HEAVY = ("ray", "browser")
"""Marks of tests that start a Ray or a Chromium."""


DEMO = re.compile(r"\bdemo(_results)?: |pytest\.mark\.browser")
"""How a test file asks for the demo sweep or a browser."""


@cache
def lane(file: str) -> str:
    """`demo`, `ray`, or "" for a test file, named from the repository's root, that starts neither Ray nor browser."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if not any(f"pytest.mark.{name}" in text for name in HEAVY):
        return ""
    return "demo" if DEMO.search(text) else "ray"


def scope(nodeid: str) -> str:
    """Tests of one scope run in one process, one after another: those of a file, or those of all files of a lane."""
    file = nodeid.partition("::")[0]
    return lane(file) or file
