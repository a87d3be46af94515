"""What a run notes of the installed versions, and that this environment is the lock's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from hero_ray.core import shipped
from hero_ray.pipeline import provenance

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_installed_is_what_is_locked(request: pytest.FixtureRequest) -> None:
    found, known = provenance.installed(), provenance.locked()
    assert known is not None
    parts = "".join((ROOT / "lock" / f"{part}.txt").read_text(encoding="utf-8") for part in ("build", "runtime", "dev"))
    asked = set(re.findall(r"^([^\s#]+)==", parts, re.MULTILINE)) & known.keys() - found.keys()
    moved = provenance.differences(found, known) + [f"{name} absent (lock: {known[name]})" for name in sorted(asked)]
    if moved and request.config.pluginmanager.has_plugin("tools.newest"):
        pytest.skip(f"{len(moved)} versions differ from the lock, as they should here")
    assert not moved, f"this environment is not the lock's; `make setup` makes it so: {'; '.join(moved)}"


def test_provenance_says_what_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"Hero_Ray": "0.1.0", "pip": "1", "torch": "2.13.0+cpu", "NumPy": "2.4.6", "own-plugin": "1.0"}

    def install(found: dict[str, str]) -> None:
        listed = [SimpleNamespace(metadata={"Name": name, "Version": found[name]}) for name in found]
        monkeypatch.setattr(provenance.metadata, "distributions", lambda: listed)

    monkeypatch.setattr(
        provenance, "locked", lambda: {"torch": "2.13.0", "numpy": "2.4.6", "absent-extra": "3", "pip": "1"}
    )
    install(versions)
    same = provenance.installation()
    assert (same["locked"], same["moved"]) == (True, [])
    install(versions | {"pip": "2", "Hero_Ray": "0.2.0"})
    assert provenance.installation() == same
    install(versions | {"NumPy": "2.5"})
    other = provenance.installation()
    assert (other["locked"], other["moved"]) == (False, ["numpy 2.5 (lock: 2.4.6)"])
    install(versions | {"own-plugin": "1.1"})
    assert provenance.installation()["locked"] is True
    assert len({same["installed"], other["installed"], provenance.installation()["installed"]}) == 3


def test_without_a_lock_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped, "INSIDE", tmp_path)
    found = provenance.installation()
    assert (found["locked"], found["moved"]) == (None, [])
    assert re.fullmatch(r"[0-9a-f]{16}", found["installed"])


def test_a_wheel_carries_the_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    forced = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    inside = tmp_path / shipped.INSIDE.relative_to(shipped.PACKAGE.parent)
    inside.mkdir(parents=True)
    (tmp_path / forced["constraints.txt"]).write_text("# made\ntorch==1.0\nold==2 ; python_version < '3'\n")
    monkeypatch.setattr(shipped, "INSIDE", inside)
    assert provenance.locked() == {"torch": "1.0"}
