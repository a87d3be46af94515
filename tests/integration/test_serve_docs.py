"""The examples of docs/serving.md, as they are printed, against a running service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ray.serve")
from serve_fixture import Service

from hero_ray.serve.settings import ServeSettings, build_settings
from tests.local_serve import picture

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
BLOCKS = re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def blocks(kind: str) -> list[str]:
    found = [text for name, text in BLOCKS if name == kind]
    assert found
    return found


def test_the_settings_shown_are_the_defaults() -> None:
    assert build_settings(yaml.safe_load(blocks("settings")[0])) == ServeSettings()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("script", blocks("curl"))
def test_the_curl_examples(service: Service, tmp_path: Path, script: str) -> None:
    (tmp_path / "picture.png").write_bytes(picture())
    ended = subprocess.run(
        ["bash", "-ec", script.replace("curl -s", "curl -sS --fail -w '\\n'")],
        cwd=tmp_path,
        env=os.environ | {"API": service.url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines() if line]
    assert answers
    assert all("error" not in answer for answer in answers)


@pytest.mark.ray
@pytest.mark.slow
def test_the_openai_example(service: Service, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(picture())
    ended = subprocess.run(
        [sys.executable, "-c", blocks("python")[0]],
        cwd=tmp_path,
        env=os.environ | {"API": service.url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()[:2]
    assert "kept" in first
    assert second
