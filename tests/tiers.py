"""Which tests share a process: a Ray, a service or a browser has the machine's ports and memory for itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COLLECTED = pytest.StashKey[list[pytest.Item]]()
"""Every test a run has collected, before `-m` leaves some of them out."""
HEAVY = ("ray", "browser")
"""Marks of tests that start a Ray or a Chromium."""


@cache
def is_heavy(file: str) -> bool:
    """Whether a test file, named from the repository's root, has a test with one of those marks."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return any(f"pytest.mark.{name}" in text for name in HEAVY)


def scope(nodeid: str) -> str:
    """Tests of one scope run in one process, one after another: those of a file, or those of all heavy files."""
    file = nodeid.partition("::")[0]
    return "heavy" if is_heavy(file) else file
