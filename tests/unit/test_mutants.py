"""`tools.mutants` speaks of files that are there and leaves annotations alone."""

from __future__ import annotations

from pathlib import Path

from tools.mutants import TESTS, annotated

ROOT = Path(__file__).resolve().parents[2]


def test_files_and_their_tests_are_there() -> None:
    files = [f"hero_ray/{name}" for name in TESTS]
    tests = [f"tests/{test}.py" for named in TESTS.values() for test in named]
    assert [path for path in [*files, *tests] if not (ROOT / path).exists()] == []
    decisions = {f"stats/{path.name}" for path in (ROOT / "hero_ray" / "stats").glob("[!_]*.py")}
    assert decisions <= set(TESTS), "every file that decides is in the list"


def test_annotations_are_told_from_values() -> None:
    source = "def f(a: int | None = 1 | 2) -> list[int]:\n    b: 'x' = 3\n"
    held = annotated(source)
    texts = source.splitlines()
    inside = "".join(texts[line - 1][column] for line, column in sorted(held) if column < len(texts[line - 1]))
    assert inside == "int | Nonelist[int]'x'"
