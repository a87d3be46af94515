"""The lock: complete, of one piece, inside pyproject's ranges."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import lock

ROOT = Path(__file__).resolve().parents[2]
PARTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "lock").glob("*.txt"))}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLATFORMS = [(python, machine) for python in ("3.11", "3.12", "3.13") for machine in ("x86_64", "aarch64")]


def requirements(text: str) -> dict[str, Requirement]:
    heads = [line.rstrip(" \\") for line in text.splitlines() if line and not line.startswith(("#", " "))]
    return {canonicalize_name(one.name): one for one in map(Requirement, heads)}


LOCK = requirements((ROOT / "constraints.txt").read_text(encoding="utf-8"))


def test_the_parts_hold_every_version_once_more_with_hashes() -> None:
    pinned: dict[str, str] = {}
    for part, text in PARTS.items():
        for entry in lock.entries(text.partition("\n")[2]).values():
            head, *hashes = entry.split(" \\\n")
            assert hashes, f"{part}: {head} has no hash"
            assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes), f"{part}: {head}"
            if part != "cpu":
                pinned[head.partition("==")[0]] = head
    assert pinned == {name: str(one).replace("; ", " ; ").replace('"', "'") for name, one in LOCK.items()}
    assert re.findall(r"^torch==.*(?= \\)", PARTS["cpu"], re.MULTILINE) == [f"torch{LOCK['torch'].specifier}+cpu"]


def test_no_line_names_a_place() -> None:
    text = "".join(PARTS.values()) + (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|^-|[ =]/|@ ", text.replace("    --hash", "    hash"), re.MULTILINE)


def test_torch_is_held_where_the_lock_has_it() -> None:
    assert PYPROJECT["tool"]["uv"]["constraint-dependencies"] == [str(LOCK["torch"])]
    assert not [name for name in requirements(PARTS["runtime"]) if lock.CUDA.fullmatch(name) or name == "torch"]


def ranges() -> list[str]:
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    extras = [text for name, asked in project["optional-dependencies"].items() if name not in OUTSIDE for text in asked]
    return [*project["dependencies"], *extras, *groups["dev"], *groups["build"]]


OUTSIDE = {"all", "track", "lmms", "vllm"}
"""Extras that the lock leaves out: the first names others, and the last two bring half the world for one verb each."""


def test_every_range_admits_its_locked_version() -> None:
    asked = [Requirement(text) for text in ranges()]
    wrong = [str(one) for one in asked if (str(LOCK[one.name].specifier).strip("=")) not in one.specifier]
    assert not wrong, f"`make lock` has not run since pyproject changed: {wrong}"


@pytest.mark.parametrize(("python", "machine"), PLATFORMS)
def test_what_a_locked_package_needs_is_locked(python: str, machine: str) -> None:
    """pip installs the lock without looking at dependencies: none may be missing, on any Python and machine."""
    here = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
    }
    held = {name: one for name, one in LOCK.items() if one.marker is None or one.marker.evaluate(here)}
    missing = []
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        is_locked = name in held and distribution.version.partition("+")[0] in held[name].specifier
        for text in (distribution.requires or []) if is_locked else []:
            one = Requirement(text)
            needed = one.marker is None or one.marker.evaluate(here | {"extra": ""})
            if needed and canonicalize_name(one.name) not in held:
                missing.append(f"{name} needs {text}")
    assert missing == []


def test_moves_are_named() -> None:
    old = lock.versions("# made\na==1\nb==2 ; python_version < '3.13'\n")
    assert old == {"a": "1", "b": "2"}
    assert lock.moved(old, {"a": "1", "b": "3", "c": "4"}) == ["b 2 -> 3", "c absent -> 4"]
    assert lock.moved(old, old) == []
