"""One class name, one owner; and the glossary names owners that exist."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from tests.contract import house


def owners() -> dict[str, list[str]]:
    """Public class name -> files that define it at their top level, below the package or the repository."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted([*house.PACKAGE.rglob("*.py"), *(house.ROOT / "dashboard").rglob("*.py")]):
        root = house.PACKAGE if path.is_relative_to(house.PACKAGE) else house.ROOT
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path.relative_to(root).as_posix())
    return found


def test_a_class_name_has_one_owner() -> None:
    assert {name: files for name, files in owners().items() if len(files) > 1} == {}


def test_the_glossary_names_owners_that_exist() -> None:
    page = (house.ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (`[A-Z].*?) \| `([\w/]+\.py)` \|", page, re.MULTILINE)
    named = {name: file for names, file in lines for name in re.findall(r"`(\w+)`", names)}
    assert len(named) > 30
    found = owners()
    assert {name: found.get(name) for name in named} == {name: [file] for name, file in named.items()}
