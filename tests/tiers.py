"""Which tests share a process: those that share the demo sweep, a Ray, a service. At most two start something heavy at
once, one in each process.
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
    "ray": re.compile(r"\blocal_ray: "),
    "service": re.compile(r"\bservice: "),
}
"""What costs half a minute to make and is made once in each process: how a test file asks for it."""


@cache
def lane(file: str) -> str:
    """What a test file, named from the repository's root, shares with others; "" for nothing."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return next((name for name, asks in SHARED.items() if asks.search(text)), "")


def scope(nodeid: str) -> str:
    """Tests of one scope run in one process, one after another: those of a file, or those of all files of a lane."""
    file = nodeid.partition("::")[0]
    return lane(file) or file
