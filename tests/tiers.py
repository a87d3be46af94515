"""Which tests share a process: those of the demo sweep and of browsers, and those that share a Ray or a service.

Whatever starts a Ray of its own in a process of its own may do so beside any of them.
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


SHARED = {
    "demo": re.compile(r"\bdemo(_results)?: |pytest\.mark\.browser"),
    "ray": re.compile(r"\b(local_ray|service): "),
}
"""What costs half a minute to make and is made once in a process: how a test file asks for it."""


@cache
def lane(file: str) -> str:
    """What a test file, named from the repository's root, shares with others; "" for nothing."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return next((name for name, asks in SHARED.items() if _heavy(text) and asks.search(text)), "")


def has_slow(file: Path) -> bool:
    """Whether a test file has anything for `make test-rest`."""
    return "pytest.mark.slow" in file.read_text(encoding="utf-8")


def _heavy(text: str) -> bool:
    return any(f"pytest.mark.{name}" in text for name in HEAVY)


@cache
def turn(file: str) -> int:
    """What takes longest begins first: 0 and 1 for the lanes, 2 for other files that start something heavy, 3."""
    if own := lane(file):
        return list(SHARED).index(own)
    return 2 if _heavy((ROOT / file).read_text(encoding="utf-8")) else 3


def scope(nodeid: str) -> str:
    """Tests of one scope run in one process, one after another: those of a file, or those of all files of a lane."""
    file = nodeid.partition("::")[0]
    return lane(file) or file
