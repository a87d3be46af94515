"""Every offline variant of the papers' tables answers one question per benchmark in every cell, without Ray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.models import load
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.forecast import describe_plan
from hero_ray.studies import papers

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "paper" / "offline"


@cache
def model(name: str) -> Any:
    torch.set_num_threads(1)
    return load(name)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_an_offline_variant_answers_in_every_cell(name: str, tmp_path: Path) -> None:
    config = papers.load(FOLDER / f"{name}.yaml").model_copy(update={"limit": 1})
    plan = make_plan(config)
    forecast = describe_plan(plan, f"sqlite:///{tmp_path / 'none.db'}")
    settings = Settings(budget_base=config.budget_base)
    evaluator = Evaluator(model(config.models[0]), plan.cells, plan.benchmarks, settings)
    found = [prediction for unit in plan.units for prediction in evaluator.evaluate(unit)]
    assert f"{len(plan.cells)} cells" in forecast
    assert len(found) == sum(plan.expected.values()) == len(plan.cells)
    assert [prediction.error_message for prediction in found if prediction.error_type] == []


@pytest.mark.slow
def test_every_paper_file_is_planned_without_weights_or_data(tmp_path: Path) -> None:
    """One interpreter for all: what `hero_ray.sweep --config FILE --dry-run` says where nothing was downloaded."""
    script = "import sys\nfrom hero_ray.cli import load_verbs\nload_verbs()\nfrom hero_ray import config\n"
    script += "from hero_ray.cli.run import run_sweep\n"
    script += "for file in sys.argv[1:]:\n    run_sweep(config.build(config.read(file)), dry_run=True)\n"
    files = sorted(FOLDER.parent.glob("*.yaml"))
    bare = {"HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, files)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **bare},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plans = [line for line in done.stdout.splitlines() if line.startswith("sweep ")]
    assert [line.split()[1].rstrip(":") for line in plans] == [path.stem for path in files]
    assert all("planned from configurations alone" in line for line in plans)
    told = re.split(r"^sweep ", done.stdout, flags=re.MULTILINE)[1:]
    hours = [sum(map(float, re.findall(r"; (\S+) hours on 8 GPUs", text))) for text in told]  # a line for each model
    assert hours == pytest.approx([papers.header(path).hours for path in files], rel=0.1)
    assert list(tmp_path.glob("*.db")) == []


def test_what_cannot_be_forecast_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hero_ray.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["sweep", "--tasks", f"file:{tmp_path / 'none.jsonl'}", "--dry-run", "--db", "sqlite:///:memory:"])
    assert stopped.value.code == 2
    assert "none.jsonl' does not exist" in capsys.readouterr().err


def test_a_sweep_file_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    from hero_ray.cli import main

    file = str(FOLDER / "hero-table-5.yaml")
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", file, "--config", file, "--dry-run"])
    assert stopped.value.code == 2
    assert "two sweep files" in capsys.readouterr().err
