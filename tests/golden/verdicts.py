"""Our verdict beside a harness's, and where the released VLMEvalKit is known to differ from the commit we follow."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hero_ray.benchmarks import get
from hero_ray.benchmarks.choices import match_option, match_option_vlmevalkit
from hero_ray.benchmarks.realworldqa import option_texts

ROADS = "Which way?\n\nA. Left\nB. Right\nC. Straight\nPlease answer directly."


def ours(rule: str, text: str, references: Any) -> Any:
    """The verdict of `rule`, BENCHMARK[@FLAVOUR], on a stripped answer: a score, or the letter that a matcher finds."""
    name, _, flavour = rule.partition("@")
    if name == "mmbench_en_dev":
        return (match_option_vlmevalkit if flavour == "vlmevalkit" else match_option)(text, references)
    if name == "realworldqa":
        references = {"answer": references, "options": option_texts(ROADS)}
    benchmark = get(name, flavour or None)
    return benchmark.score(text, references)[benchmark.main_metric]


def _announces(text: str, theirs: Any, found: Any) -> bool:
    """e8e78f05 reads "answer is X" where the letters alone decide nothing; 0.0.20 goes on to the options' texts."""
    said = re.search(r"answer is\s*\**([A-D])", text, re.IGNORECASE)
    return said is not None and said[1].upper() == found


LISTED: dict[str, dict[str, Callable[[str, Any, Any], bool]]] = {
    "mmbench_en_dev@vlmevalkit": {"answer is X": _announces},
}
"""rule -> name of a known difference of the released package -> whether (answer, their verdict, ours) is one."""


def listed(rule: str, text: str, theirs: Any, found: Any) -> str:
    """The known difference that explains two verdicts, or ""."""
    return next((name for name, holds in LISTED.get(rule, {}).items() if holds(text, theirs, found)), "")


def same(theirs: Any, found: Any) -> bool:
    numbers = isinstance(theirs, int | float) and isinstance(found, int | float)
    return abs(theirs - found) <= 1e-12 if numbers else bool(theirs == found)
