"""Digests behind tags: all or none, and back again. `docker` is a script here; no registry is asked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tools import pin_images

ANSWERS = """#!/bin/sh
case "$4" in
  python:*) echo sha256:{a} ;;
  postgres:*) {other} ;;
esac
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in pin_images.FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pin_images.ROOT / name, tmp_path / name)
    monkeypatch.setattr(pin_images, "ROOT", tmp_path)
    monkeypatch.setattr(pin_images, "DOCKER", str(tmp_path / "docker"))
    return tmp_path


def docker(root: Path, other: str) -> None:
    (root / "docker").write_text(ANSWERS.format(a="a" * 64, other=other))
    (root / "docker").chmod(0o755)


def texts(root: Path) -> list[str]:
    return [(root / name).read_text(encoding="utf-8") for name in pin_images.FILES]


def test_every_foreign_image_gets_its_digest_and_loses_it(root: Path) -> None:
    assert pin_images.main(["--unpin"]) == 0
    before = texts(root)
    docker(root, f"echo sha256:{'b' * 64}")
    assert pin_images.main([]) == 0
    compose, dockerfile, stateful = texts(root)
    assert re.findall(r"image: (postgres\S+)", compose + stateful) == [f"postgres:17.9-bookworm@sha256:{'b' * 64}"] * 2
    assert f"PYTHON_IMAGE=python:3.11.15-slim-bookworm@sha256:{'a' * 64}\n" in dockerfile
    docker(root, f"echo sha256:{'c' * 64}")
    assert pin_images.main([]) == 0
    assert "b" * 64 not in "".join(texts(root)), "a digest is replaced, not added to"
    assert pin_images.main(["--unpin"]) == 0
    assert texts(root) == before


@pytest.mark.parametrize("other", ["echo no such host >&2; exit 1", "echo latest"])
def test_without_a_registry_nothing_changes(root: Path, capsys: pytest.CaptureFixture[str], other: str) -> None:
    before = texts(root)
    assert pin_images.main([]) == 1, "no docker at all"
    docker(root, other)
    assert pin_images.main([]) == 1
    assert texts(root) == before
    assert "the tags stay as they are" in capsys.readouterr().out
