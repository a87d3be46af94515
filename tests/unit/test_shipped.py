"""Sweep files by name, and which file wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from hero_ray.core import config, presets, shipped
from hero_ray.core.errors import ConfigError, UnknownNameError


def test_a_shipped_file_has_three_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("nightly", "paper/offline/hero-table-5"):
        there = shipped.folder("configs") / f"{name}.yaml"
        for asked in (name, f"{name}.yaml", f"configs/{name}.yaml", there):
            assert shipped.sweep_file(asked) == there
    assert config.read("demo")["name"] == "demo"


def test_a_file_of_ones_own_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text("name: mine\n")
    assert config.read("configs/demo.yaml") == {"name": "mine"}
    assert config.read("demo")["name"] == "demo"
    (tmp_path / "nightly").mkdir()  # a folder is no file
    assert config.read("nightly")["name"] == "nightly"


@pytest.mark.parametrize("asked", ["demmo", "../demo", "configs/../demo.yaml", "presets/any", "demo.yml", ""])
def test_anything_else_is_refused_with_the_shipped_names(asked: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = "beside-defaults, demo, demo-internvl, demo-qwen, every-method, nightly, paper/hero"
    with pytest.raises(ConfigError, match=f"no sweep file at .* Shipped: {shipped}"):
        config.read(asked)


def test_presets_of_ones_own_come_before_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "package" / "configs" / "presets"
    place.mkdir(parents=True)
    for name in ("both", "ours"):
        (place / f"{name}.yaml").write_text("method: hero\n")
    monkeypatch.setattr(presets, "folder", lambda name: tmp_path / "package" / name)
    monkeypatch.chdir(tmp_path)
    presets.write(presets.Preset(method="hired"), "both")
    assert (presets.load("both").method, presets.load("ours").method) == ("hired", "hero")
    with pytest.raises(UnknownNameError, match=r"unknown preset .*Known: both, ours"):
        presets.load("none")
    with pytest.raises(UnknownNameError, match="unknown preset"):
        presets.load("elsewhere/ours.yaml")  # a path is a path


def test_an_installation_is_no_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hero_ray.pipeline import provenance

    assert shipped.checkout() == Path(__file__).resolve().parents[2]
    monkeypatch.delenv("HERO_RAY_GIT_COMMIT", raising=False)
    assert provenance.git_commit()
    monkeypatch.setattr(shipped, "INSIDE", tmp_path)
    assert shipped.checkout() is None
    assert shipped.folder("db") == tmp_path / "db"
    assert provenance.git_commit() is None
