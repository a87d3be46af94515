"""The newest lane: deprecations are noted with the line of ours that causes them; other warnings stay errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tools import newest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = """
import warnings

def old(): warnings.warn("old() goes in 2.0", FutureWarning, stacklevel=1)
def ignored(): warnings.warn("ours alone to ignore", DeprecationWarning, stacklevel=1)
def bad(): warnings.warn("no deprecation", UserWarning)
"""
OURS = "import library\n\ndef use():\n    library.old()\n    library.ignored()\n"
TESTS = """
import library
import caller

def test_deprecated(): caller.use()
def test_again(): caller.use()
def test_other(): library.bad()
"""
SETTINGS = """
[pytest]
pythonpath = hero_ray site
filterwarnings =
    error
    ignore:ours alone:DeprecationWarning
"""


def test_a_deprecation_is_a_note_with_our_line(tmp_path: Path) -> None:
    for folder in ("site", "hero_ray"):
        (tmp_path / folder).mkdir()
    (tmp_path / "site" / "library.py").write_text(LIBRARY)
    (tmp_path / "hero_ray" / "caller.py").write_text(OURS)
    (tmp_path / "test_ours.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    notes = tmp_path / "notes.jsonl"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tools.newest",
        f"--deprecations={notes}",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_ours.py::test_other - UserWarning: no deprecation" in done.stdout
    assert [json.loads(line) for line in notes.read_text().splitlines()] == [
        ["hero_ray/caller.py:4", "FutureWarning", "old() goes in 2.0"]
    ]


def test_the_report_names_versions_and_causes() -> None:
    note = ("hero_ray/a.py:3", "FutureWarning", "gone soon")
    other = (newest.NOWHERE, "DeprecationWarning", "inside")
    text = newest.report(
        [note, other, note], {"a": "2", "torch": "1.0+cpu", "b": "1", "hero-ray": "0"}, {"a": "1", "torch": "1.0"}
    )
    assert text.splitlines() == [
        "2 versions differ from the lock:",
        "  a 2 (lock: 1)",
        "  b 1 (not in the lock)",
        "2 deprecation warnings from 2 lines:",
        "  hero_ray/a.py:3",
        "    FutureWarning: gone soon",
        "  no line of ours",
        "    DeprecationWarning: inside",
    ]
