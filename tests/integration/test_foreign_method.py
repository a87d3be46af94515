"""A method in somebody's own package, installed with an entry point, is a method like any other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from hero_ray.models import miniature
from hero_ray.store import open_store

ROOT = Path(__file__).resolve().parents[2]

METHOD = '''
"""Loudest: tokens with the largest L2 norm (an example, no paper).

Every view keeps its equal share of the budget by the norm of its projected tokens.

Differs: none.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.methods.kit.allocation import equal
from hero_ray.methods.base import Method
from hero_ray.methods.kit.scores import caps, finite, keep_top


@dataclass(frozen=True)
class Loudest(Method):
    """Top norms, equal share per view."""

    power: float = 2.0

    name = "loudest"
    paper = "an example"
    reads = "projected tokens"

    def check(self) -> None:
        self.require(self.power > 0.0, "power", "a positive exponent")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        if budget.is_full:
            return keep_all(encoded.layout)
        scores = finite(encoded.features, self.name, "projected tokens").norm(p=self.power, dim=-1)
        counts = equal(budget.total, caps(encoded.layout.valid))
        return Selection(keep_top(scores, counts, encoded.layout.valid), scores=scores, view_budgets=tuple(counts))
'''


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Environment of an interpreter in which the package is installed."""
    (tmp_path / "loudest_pruning.py").write_text(METHOD)
    info = tmp_path / "loudest_pruning-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loudest-pruning\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[hero_ray.methods]\nloudest = loudest_pruning:Loudest\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "OMP_NUM_THREADS": "1"}


def python(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)


def verb(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    script = f"from hero_ray.cli import main; main({list(arguments)!r})"
    return python(environment, "-c", script)


def test_it_is_listed_beside_our_own(installed: dict[str, str]) -> None:
    done = verb(installed, "list", "methods", "--json")
    assert done.returncode == 0, done.stderr
    [entry] = [entry for entry in json.loads(done.stdout) if entry["name"] == "loudest"]
    assert entry["defaults"] == "power=2"
    assert entry["paper"] == "an example"


@pytest.mark.slow
def test_it_joins_the_contract_suite_by_existing(installed: dict[str, str]) -> None:
    done = python(installed, "-m", "pytest", "-q", "-k", "loudest", "tests/contract/test_methods.py")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.search(r"(\d+) passed", done.stdout)
    assert ran is not None
    assert int(ran.group(1)) > 10, "one case per layout and promise"


@pytest.mark.slow
def test_sweeps_plan_it_and_models_run_it(installed: dict[str, str], tmp_path: Path) -> None:
    folder = miniature.write_llava(miniature.llava_next(), tmp_path / "model", miniature.clip())
    database = f"sqlite:///{tmp_path / 'results.db'}"
    options = ["--models", str(folder), "--methods", "loudest", "--budgets", "0.2", "--tasks", "synth-exist"]
    done = python(installed, "-m", "hero_ray.sweep", *options, "--dry-run", "--db", database)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loudest" in done.stdout
    script = f"""
import hero_ray
from PIL import Image
vlm = hero_ray.load_model({str(folder)!r}, device="cpu")
out = vlm.generate(Image.new("RGB", (112, 56)), "what?", method="loudest", retention_ratio=0.5, power=1)
print(out.selection.n_selected, out.tokens.budget_nominal)
"""
    done = python(installed, "-c", script)
    assert done.returncode == 0, done.stderr
    kept, budget = done.stdout.split()
    assert kept == budget


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_runs_it_and_stores_what_it_kept(installed: dict[str, str], tmp_path: Path) -> None:
    """The whole way: Ray's workers find the package, its masks and scores end in the tables under its name."""
    url = f"sqlite:///{tmp_path / 'results.db'}"
    options = ["--models", "hero-tiny", "--methods", "loudest", "--budgets", "0.2", "--tasks", "synth-exist"]
    options += ["--limit", "4", "--no-profile", "--no-straw-men"]
    done = python(installed, "-m", "hero_ray.sweep", *options, "--db", url)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["status"] == "complete"
    assert summary["failed"] == 0
    assert "loudest" in done.stdout
    query = (
        "select c.params, p.n_selected, p.budget_nominal, p.keep_mask, p.score from predictions p"
        " join cells c on c.id = p.cell_id where c.method = 'loudest'"
    )
    with open_store(url) as store, store.engine.connect() as connection:
        rows = connection.execute(text(query)).all()
    assert len(rows) == 4
    for parameters, kept, budget, mask, score in rows:
        assert json.loads(parameters) == {"power": 2.0}
        assert kept == budget == sum(byte.bit_count() for byte in mask)
        assert score in (0.0, 1.0)


@pytest.mark.slow
def test_explain_shows_its_masks_and_scores(installed: dict[str, str]) -> None:
    script = """
import json
from fastapi.testclient import TestClient
from tests.local_serve import Local, Noted, data_url, picture
from hero_ray.serve.api import build_api
from hero_ray.serve.desk import Desk
from hero_ray.serve.engine import Engine
from hero_ray.serve.settings import ServeSettings
settings = ServeSettings(db="sqlite://")
pruning = {"method": "loudest", "retention_ratio": 0.2, "power": 1}
body = {"model": "hero-tiny", "image": data_url(picture()), "question": "What color is it?", "pruning": [pruning]}
api = build_api(settings, Local(Engine({})), Desk(settings, Noted()))
with TestClient(api, base_url="http://localhost") as client:
    response = client.post("/v1/explain", json=body)
    print(json.dumps({"status": response.status_code, "body": response.json()}))
"""
    done = python(installed, "-W", "ignore", "-c", script)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["status"] == 200, answer["body"]
    [row] = answer["body"]["results"]
    assert row["method"] == "loudest"
    assert row["parameters"] == {"power": 1.0}
    assert sum(row["kept_per_view"]) == row["tokens"]["n_selected"] == row["tokens"]["budget_nominal"]
    assert row["kept_per_view"] == row["view_budgets"]
