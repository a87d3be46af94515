"""What a user sees of the main commands under default filters: no warning, ours or a dependency's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.demo import Demo, command
from tests.machine import free_port

ROOT = Path(__file__).parents[2]
# `warnings` prints the category before a colon; libraries that log instead say "is deprecated".
COMPLAINT = re.compile(r"Warning\b|[Dd]eprecat")
GENERATE = """
from PIL import Image
from hero_ray import load_model

for name in ("hero-tiny", "hero-tiny-internvl", "hero-tiny-qwen"):
    print(load_model(name).generate(Image.new("RGB", (160, 120)), "is it red", method="hero", retention_ratio=0.5).text)
"""
PAGES = """
import sys
from pathlib import Path
from streamlit.testing.v1 import AppTest

for page in sorted(Path(sys.argv[1]).glob("*.py")):
    shown = AppTest.from_file(str(page), default_timeout=200).run()
    assert not shown.exception, (page, shown.exception)
    print(page.stem)
"""


def complaints(text: str) -> list[str]:
    return [line for line in text.splitlines() if COMPLAINT.search(line)]


def test_a_warning_would_be_seen(tmp_path: Path) -> None:
    done = command(tmp_path, "timeit", "-n1", "-r1", "import warnings; warnings.warn('`a` is old', FutureWarning)")
    assert len(complaints(done.stderr)) == 1
    assert complaints("[transformers] `torch_dtype` is deprecated! Use `dtype` instead!")


@pytest.mark.slow
def test_generate(tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(GENERATE)
    done = command(tmp_path, "ask")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3), done.stderr
    assert complaints(done.stdout + done.stderr) == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep(demo: Demo) -> None:
    assert "answers" in demo.stderr
    assert complaints(demo.stderr + "\n".join(demo.lines)) == []


@pytest.mark.ray
@pytest.mark.slow
def test_every_page_of_the_dashboard(demo: Demo) -> None:
    pytest.importorskip("streamlit")
    (demo.folder / "pages.py").write_text(PAGES)
    done = command(demo.folder, "pages", str(ROOT / "dashboard" / "pages"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(list((ROOT / "dashboard" / "pages").glob("*.py")))
    assert complaints(done.stdout + done.stderr) == []


def test_the_start_of_the_dashboard(tmp_path: Path) -> None:
    pytest.importorskip("streamlit")
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as sink:
        arguments = ["dashboard", "--db", f"sqlite:///{tmp_path / 'none.db'}", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "hero_ray", *arguments],
            cwd=tmp_path,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert b"<title>" in first_page(f"http://127.0.0.1:{port}/")
    finally:
        process.terminate()  # as a supervisor does: the one process it knows of
        process.wait(60)
    with pytest.raises(ProcessLookupError):  # nobody of its session is left to hold the port
        os.killpg(process.pid, 0)
    assert "hero_ray dashboard of" in log.read_text()
    assert complaints(log.read_text()) == []


def first_page(address: str, seconds: float = 90) -> bytes:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            time.sleep(0.5)
    raise AssertionError(f"nothing answers on {address}")
