"""A real night, as the command is typed: a sample of its answers is asked again and the night says what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.store import open_store, runs, verifications

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_night_verifies_a_sample_of_its_answers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nights.db'}"
    asked = ["nightly", "--night", "2026-01-01", "--models", "hero-tiny", "--tasks", "synth-digits", "--limit", "6"]
    asked += ["--set", "methods=[hero, fastv]", "--set", "budgets=[0.2]", "--set", "profile.enabled=false"]
    done = subprocess.run(
        [sys.executable, "-m", "hero_ray", *asked, "--verify", "0.5", "--db", url],
        cwd=tmp_path, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run_id = json.loads(done.stdout.strip().splitlines()[-1])["run_id"]
    with open_store(url, read_only=True) as store:
        (row,) = store.read(verifications.of_run, run_id)
        cells = store.cells(run_id)
        pictures = len({one.image_key for cell in cells for one in store.cell_scores(run_id, cell.id)})
        assert (row.verdict, row.pictures, row.fraction) == ("bit-equal", pictures, 0.5)
        assert 0 < row.drawn < pictures
        assert row.bit_equal == row.answers > 0
        assert "nightly-verify" not in {alert["kind"] for alert in store.read(runs.alerts, run_id)}
    said = f"verified {row.drawn} of {pictures} pictures: bit-equal"
    load_verbs()
    explained = CliRunner().invoke(app, ["nightly", "explain", "2026-01-01", "--db", url])
    assert said in done.stdout
    assert said in explained.output
