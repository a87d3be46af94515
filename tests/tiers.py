"""Which tests share a process: one for all that starts a Ray or a service, one for all that looks at the demo sweep.

More of them at once crowd a small machine; in one process they share their Ray, their service, their demo.
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


DEMO = re.compile(r"\bdemo(_results)?: ")
"""How a test asks for the demo sweep."""


@cache
def lane(file: str) -> str:
    """`demo`, `ray`, or "" for a test file, named from the repository's root, that starts neither Ray nor browser."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if not any(f"pytest.mark.{name}" in text for name in HEAVY):
        return ""
    return "demo" if "pytest.mark.browser" in text or DEMO.search(text) else "ray"


def scope(nodeid: str) -> str:
    """Tests of one scope run in one process, one after another: those of a file, or those of all files of a lane."""
    file = nodeid.partition("::")[0]
    return lane(file) or file
