"""The verb `calibrate` on the embedded model: what it finds goes into a sweep as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.cli import main
from hero_ray.core.config import parse_method
from hero_ray.methods import create
from hero_ray.models import load
from hero_ray.studies.calibration import Questions, accuracy


def found(method: str, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    options = ["--tasks", "synth-exist", "--limit", "6", "--out", str(out), *more]
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", method, *options])
    assert stopped.value.code in (0, None)
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads(out.read_text(encoding="utf-8"))
    return dict(printed)


def test_gsearch_schedule_keeps_the_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = found("gsearch", tmp_path / "found.json", capsys)
    entry = parse_method(result["method"])
    schedule = create(entry.name, **entry.params).schedule  # type: ignore[attr-defined]
    assert schedule[0] == 1.0
    assert list(schedule) == sorted(schedule, reverse=True)
    questions = Questions.of([get("synth-exist", split="validation")], 6)
    adapter = load("hero-tiny")
    assert result["samples"] == 6
    assert result["revision"] == adapter.info.revision
    assert accuracy(adapter, questions, schedule) >= 0.995 * accuracy(adapter, questions, None)


def test_vtw_takes_the_first_depth_that_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strict = found("vtw", tmp_path / "strict.json", capsys, "--tolerance", "0")
    assert strict["method"] is None
    assert all(divergence > 0 for _, divergence in strict["trials"])
    loose = found("vtw", tmp_path / "loose.json", capsys, "--tolerance", "100")
    entry = parse_method(loose["method"])
    assert entry.variant == "paper"
    method = create(entry.name, variant="paper", **entry.params)
    ((depth, _),) = loose["trials"]
    assert method.depth(0.5, load("hero-tiny").info.language.num_layers) == depth  # type: ignore[attr-defined]


@pytest.mark.slow
def test_fitprune_saves_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = found("fitprune", tmp_path / "found.json", capsys, "--tolerance", "0.6")
    entry = parse_method(result["method"])
    schedule = create(entry.name, **entry.params).schedule  # type: ignore[attr-defined]
    assert len(schedule) == load("hero-tiny").info.language.num_layers
    assert schedule[0] == 1.0 > schedule[1]
    assert result["trials"][0][0] == 0.5
    enough = [left for _, left in result["trials"] if left <= 0.6]
    assert max(enough) > 0.6 - 0.05  # bisected, not just below
    never = found("fitprune", tmp_path / "never.json", capsys, "--tolerance", "0.01")
    assert never["method"] is None


def test_bad_source_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "gsearch", "--source", "validation"])
    assert stopped.value.code == 2
    assert "is not KEY=VALUE" in capsys.readouterr().err
