"""`make image-report`: the images' layers from the lock."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests import container
from tools import image_report

ROOT = Path(__file__).resolve().parents[2]


def test_the_layers_are_those_of_the_dockerfile() -> None:
    for variant, parts in image_report.PACKAGES.items():
        lines = container.stages()[f"packages-{variant}"]
        assert tuple(part for line in lines for part in re.findall(r"-r lock/(\w+)\.txt", line)) == parts


def test_every_locked_package_is_counted_or_named() -> None:
    layer = image_report.packages("cpu")
    wanted = {one.name for part in ("build", "runtime", "cpu") for one in image_report.locked(part)}
    assert set(layer.parts) | {name.partition("==")[0] for name in layer.missing} == wanted
    assert layer.parts["ray"] > 100e6, "Ray's wheel holds a few hundred MB"
    assert min(layer.parts.values()) > 0


def test_a_package_of_another_version_is_not_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    for part in ("build", "runtime", "cpu"):
        (tmp_path / "lock" / f"{part}.txt").write_text("# made\n", encoding="utf-8")
    numpy = f"numpy=={version('numpy')} ; sys_platform == 'linux'"
    lines = ["# made", "ray==0.1 \\", "    --hash=sha256:0", numpy, "absent==1 ; python_version < '3'", ""]
    (tmp_path / "lock" / "runtime.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(image_report, "ROOT", tmp_path)
    layer = image_report.packages("cpu")
    assert layer.missing == ["ray==0.1"]
    assert list(layer.parts) == ["numpy"]
    assert layer.bytes == layer.parts["numpy"] > 1e6


def test_another_build_of_torch_is_not_counted() -> None:
    """The CUDA image's torch and its libraries are gigabytes larger than the CPU build of one version."""
    one = next(one for one in image_report.locked("cuda") if one.name == "torch")
    exact = version("torch") == str(one.specifier).removeprefix("==")
    assert (image_report.installed_bytes(one) is not None) == exact


def test_the_source_is_what_the_build_is_sent() -> None:
    layer = image_report.source()
    assert set(layer.parts) == set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M))
    assert 5e6 < layer.bytes < 40e6, "the embedded weights are most of it"
    assert image_report._ignored(ROOT / "hero_ray" / "__pycache__" / "x.pyc", ["**/__pycache__"])
    assert not image_report._ignored(ROOT / "hero_ray" / "sweep.py", ["**/__pycache__", "**/*.db"])


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert image_report.main() == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["bytes"]["cpu"]["packages"] > last["bytes"]["cpu"]["source"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "image-report: $(STAMP)\n\t$(BIN)/python -m tools.image_report\n" in makefile
