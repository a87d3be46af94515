"""Sweeps, a night and the dashboard from an installed wheel, outside the repository."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

import pytest
from PIL import Image, ImageDraw
from sqlalchemy import text

from hero_ray.store import open_store
from tests.installed import Installed

pytestmark = [pytest.mark.ray, pytest.mark.slow]
FEW = ("--budgets", "20%", "--limit", "3", "--no-profile")


@pytest.fixture(scope="module")
def swept(user: Installed) -> Installed:
    """After the demo on three questions of each benchmark: no file is named, so the shipped one is taken."""
    done = user.hero_ray("sweep", *FEW)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["status"], last["failed"]) == ("complete", 0)
    assert last["cells"] == 4 * (1 + 3 + 6)  # full; random with three seeds; six more methods; on four benchmarks
    return user


def database(user: Installed) -> str:
    return f"sqlite:///{user.folder / 'hero_ray.db'}"


def test_the_demo_ran_and_took_no_commit_for_its_own(swept: Installed) -> None:
    with open_store(database(swept), read_only=True) as store, store.engine.connect() as connection:
        [(name, commit)] = connection.execute(text("select sweep_name, git_commit from runs")).all()
    assert (name, commit) == ("demo", None)


def test_the_dashboard_shows_it(swept: Installed) -> None:
    script = """
import sys
from hero_ray.cli import dashboard
sys.path.insert(0, str(dashboard.folder().parent))
from streamlit.testing.v1 import AppTest
page = AppTest.from_file(str(dashboard.folder() / "pages" / "frontier.py"), default_timeout=120).run()
assert not page.exception, page.exception
print(page.title[0].value, len(page.get("plotly_chart")))
"""
    done = swept.python(script)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [swept.program("hero-ray"), "dashboard", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=swept.folder, env=swept.environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert _answer(f"http://127.0.0.1:{port}/_stcore/health", process) == "ok"
        assert "<title>" in _answer(f"http://127.0.0.1:{port}/", process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert f"on http://127.0.0.1:{port}" in said


def _answer(address: str, process: subprocess.Popen[str], seconds: float = 120.0) -> str:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"no answer from {address}; exit code {process.poll()}")


def test_data_of_ones_own(user: Installed) -> None:
    rows = []
    for number, colour in enumerate(("red", "green", "blue")):
        picture = Image.new("RGB", (112, 112), "white")
        ImageDraw.Draw(picture).ellipse((30, 30, 80, 80), fill=colour)
        picture.save(user.folder / f"{colour}.png")
        question = "What color is the circle?"
        rows.append({"image": f"{colour}.png", "question": question, "answer": colour, "id": str(number)})
    (user.folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = user.hero_ray(
        "sweep", "demo", "--tasks", "file:mine.jsonl", "--methods", "hero", "--no-straw-men", *FEW, "--db", "mine.db"
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["status"], last["failed"], last["samples"]) == ("complete", 0, 3 * last["cells"])


def test_a_night_runs_the_shipped_panel(user: Installed) -> None:
    done = user.hero_ray(
        "nightly", "--night", "2026-01-31", "--limit", "2", "--set", "profile.enabled=false", "--db", "night.db"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["night"] == "2026-01-31"
    assert last["cells"] == 4 * (1 + 2 * 4)  # full once; random, fastervlm, hired and hero at two budgets
