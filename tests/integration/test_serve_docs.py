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


def printed(command: list[str], service: Service, folder: Path) -> list[str]:
    """Lines that an example prints beside a picture, with the service's address in its environment."""
    (folder / "picture.png").write_bytes(picture())
    environment = os.environ | {"API": service.url}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.ray
@pytest.mark.parametrize("script", blocks("curl"))
def test_the_curl_examples(service: Service, tmp_path: Path, script: str) -> None:
    script = script.replace("curl -s", "curl -sS --fail -w '\\n'")
    answers = [json.loads(line) for line in printed(["bash", "-ec", script], service, tmp_path) if line]
    assert answers
    assert all("error" not in answer for answer in answers)


@pytest.mark.ray
def test_the_openai_example(service: Service, tmp_path: Path) -> None:
    first, second = printed([sys.executable, "-c", blocks("python")[0]], service, tmp_path)[:2]
    assert "kept" in first
    assert second
