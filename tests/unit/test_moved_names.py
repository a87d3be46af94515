"""Every name of hero_ray that tests and perf modules use is where they look for it: slow tests need not find out."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("tests", "perf", "tools", "dashboard")
USERS = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "fixtures" not in path.parts)


def imported(name: str, attribute: str | None = None) -> object:
    """The module `name`, or what it holds as `attribute`, be it a value or a module below it."""
    module = importlib.import_module(name)
    if attribute is None or hasattr(module, attribute):
        return module if attribute is None else getattr(module, attribute)
    return importlib.import_module(f"{name}.{attribute}")


def missing(source: str) -> list[str]:
    """Names that `source` takes from hero_ray and that are not there, each with its line."""
    tree = ast.parse(source)
    faults, modules = [], {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("hero_ray") or node.level:
            continue
        for name in node.names:
            try:
                value = imported(str(node.module), name.name)
            except ModuleNotFoundError as error:
                if not str(error.name).startswith("hero_ray"):
                    continue  # an extra that is not installed here
                faults.append(f"line {node.lineno}: {node.module}.{name.name}")
            else:
                if isinstance(value, ModuleType):
                    modules[name.asname or name.name] = value
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
            module = modules.get(node.value.id) if node.value.id not in bound else None
            if module is not None and not hasattr(module, node.attr):
                faults.append(f"line {node.lineno}: {module.__name__}.{node.attr}")
    return faults


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from hero_ray.store import writes\nwrites.no_such_name(1)", ["line 2: hero_ray.store.writes.no_such_name"]),
        ("from hero_ray.store import no_such_room", ["line 1: hero_ray.store.no_such_room"]),
        ("from hero_ray.store.records import sample_id\nsample_id(1)", []),
        ("from hero_ray.store import writes\ndef f(writes): return writes.anything", []),
    ],
)
def test_a_name_that_moved_is_found(source: str, found: list[str]) -> None:
    assert missing(source) == found


def test_what_tests_and_measurements_use_is_there() -> None:
    faults = {str(path.relative_to(ROOT)): missing(path.read_text("utf-8")) for path in USERS}
    assert {path: names for path, names in faults.items() if names} == {}
