"""The bill of materials is the lock, package by package."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tools import lock, sbom


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("dist")
    assert sbom.main(str(made)) == 0
    return made


def test_it_holds_every_line_and_every_hash_of_the_lock(folder: Path) -> None:
    found = json.loads((folder / sbom.NAME).read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    told = {(one["name"], one["version"]): {each["content"] for each in one["hashes"]} for one in found["components"]}
    wanted: dict[tuple[str, str], set[str]] = {}
    for part in lock.PARTS.glob("*.txt"):
        head: set[str] = set()
        for line in part.read_text(encoding="utf-8").splitlines():
            if start := re.match(r"([a-z0-9].*?)==([^\s;]+)", line):
                head = wanted.setdefault((start[1], start[2]), set())
            head.update(re.findall(r"sha256:(\w+)", line))
    assert told == wanted
    refs = [one["bom-ref"] for one in found["components"]]
    assert len(set(refs)) == len(refs)
    for one in found["components"]:
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[\w.%]+", one["purl"]), one["purl"]
        assert canonicalize_name(one["name"]) == one["name"]
    needed = set(found["dependencies"][0]["dependsOn"])
    assert f"pkg:pypi/ray@{lock.versions((lock.PARTS / 'runtime.txt').read_text())['ray']}" in needed
    assert not [ref for ref in needed if "/pytest@" in ref]


def test_licences_are_those_the_packages_state(folder: Path) -> None:
    lines = (folder / sbom.LIST).read_text().splitlines()
    assert len(lines) == len(json.loads((folder / sbom.NAME).read_text())["components"])
    known = dict(line.replace("==", "  ", 1).split("  ")[::2] for line in lines)
    assert known["pytest"] == "MIT"
    assert "BSD" in known["torch"]
    assert sbom.licence("no-such-package-anywhere") == sbom.NOT_HERE


def test_the_same_lock_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    sbom.main(str(tmp_path))
    for name in (sbom.NAME, sbom.LIST):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
