"""`hero-ray study engines`, with a stand-in for vLLM: equal answers, answers that part, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("plotly")

from dashboard import study_figures
from hero_ray import models
from hero_ray.cli import app, load_verbs
from hero_ray.core import engines as core_engines
from hero_ray.core.errors import InputError, MissingExtraError, ParameterError
from hero_ray.store import open_store, studies
from hero_ray.studies import engine_times, engines
from hero_ray.studies.records import StudyRequest
from tests.stand_in_vllm import StandInEngine, stand_in_model

METHODS = ("hero",)
SOURCE = {"num_images": 2, "questions_per_image": 2}
TASKS = ("synth-digits", "synth-words")


class Parting(StandInEngine):
    """Gives a third of the prompts the second likeliest first token, then what it was going to say."""

    def _answer(self, rows: torch.Tensor, params: Any) -> tuple[list[int], list[float], str]:
        ids, logprobs, reason = super()._answer(rows, params)
        if len(self.asked) % 3 == 0:
            ids = [(ids[0] + 1) % 90 + 3, *ids[1:]]
        return ids, logprobs, reason


def both(kind: type[StandInEngine]) -> Any:
    torch.set_num_threads(1)
    return stand_in_model("hero-tiny-internvl", kind)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "vllm_version", lambda: "0.32.0")
    for name, value in (
        ("CLIENTS", (1, 2)),
        ("PICTURES", 1),
        ("REPEATS", 2),
        ("ROUNDS", 2),
        ("WARMUP", 0),
        ("NEW_TOKENS", 3),
    ):
        monkeypatch.setattr(engine_times, name, value)


def as_rows(table: Any) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.mark.usefixtures("short")
def test_equal_engines_differ_in_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, adapter = list[dict[str, Any]](), both(StandInEngine)

    def load(name: str, **arguments: Any) -> Any:
        loaded.append({"name": name, **arguments})
        return adapter

    monkeypatch.setattr(models, "load", load)
    load_verbs()
    url = f"sqlite:///{tmp_path / 'results.db'}"
    command = ["study", "engines", "--limit", "2", "--methods", ",".join(METHODS), "--tasks", ",".join(TASKS)]
    command += ["--db", url, "--out", str(tmp_path), "--model-args", "dtype=float32"]
    command += ["--source", "num_images=2", "--source", "questions_per_image=2"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert loaded == [{"name": "hero-tiny", "dtype": "float32", "engine": "auto"}]
    with open_store(url) as store, store.engine.connect() as connection:
        (row,) = studies.found(connection, "engines")
    assert row["request"]["engine"] == "auto"
    found = row["result"]
    assert found == json.loads((tmp_path / "engines.json").read_text())
    assert found["findings"]["equal"] == found["findings"]["answers"] > 6
    same, parted, times, over, pruned = found["tables"]
    for line in same["rows"]:
        told = dict(zip(same["columns"], line, strict=True))
        assert (told["equal"], told["vllm - ours"]) == (1.0, 0.0)
        assert told["low"] < 1.0 < told["high"] + 1e-9
    assert {line[1] for line in same["rows"]} == {*TASKS, "all"}
    assert parted["rows"] == []
    assert [line[:2] for line in times["rows"]] == [
        [name, side] for name in ("full", *METHODS) for side in engines.SIDES
    ]
    assert all(value > 0 for line in times["rows"] for value in line[2:])
    cache = {tuple(line[:2]): line[-1] for line in times["rows"]}
    assert cache["hero", "ours"] < cache["hero", "vllm"] < cache["full", "vllm"]  # whole blocks, of fewer tokens
    measures = {engine_times.FIRST, engine_times.LATER, "answers at 1", "answers at 2"}
    assert {(line[0], line[1]) for line in over["rows"]} == {(n, m) for n in ("full", *METHODS) for m in measures}
    assert {line[0] for line in pruned["rows"]} == set(METHODS)
    read = study_figures.read_study(found)
    assert read is not None
    assert [chart.data[0].type for _, chart in read["charts"]] == ["scatter", "scatter"]


@pytest.mark.usefixtures("short")
def test_answers_that_part_are_counted_with_their_margin_and_their_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    untimed = engine_times.EngineSpeeds((), (), {})
    monkeypatch.setattr(engine_times, "measure", lambda *_: untimed)
    study = engines.run(StudyRequest(both(Parting), TASKS, 2, SOURCE, ("hero",)))
    same, parted = study.tables[:2]
    findings = study.findings
    assert 0 < findings["answers"] - findings["equal"] == len(parted.rows)
    assert all(one["margin of the logits"] > 0 for one in as_rows(parted))
    assert all(one["ours"] != one["vllm"] for one in as_rows(parted))
    assert findings["largest margin"] == max(one["margin of the logits"] for one in as_rows(parted))
    total = {one["method"]: one for one in as_rows(same) if one["benchmark"] == "all"}
    assert sum(one["answers"] * (1 - one["equal"]) for one in total.values()) == pytest.approx(
        len(parted.rows), abs=0.1
    )
    for one in total.values():
        assert one["vllm - ours"] == pytest.approx(one["vllm"] - one["ours"], abs=2e-4)


def test_what_cannot_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="load hero-tiny with engine=auto"):
        engines.run(StudyRequest(models.load("hero-tiny"), TASKS, 1))
    with pytest.raises(InputError, match=r"vLLM cannot answer fastv drops tokens inside the language model.*--methods"):
        engines.compared(("hero", "fastv"), 0.2)
    assert set(engines.compared(("fastv",), 1.0)) == {"full", "fastv"}  # bypassed
    monkeypatch.setattr(core_engines, "DISTRIBUTIONS", ("no-such-distribution",))
    load_verbs()
    with pytest.raises(MissingExtraError, match=r"hero-ray\[vllm\]"):
        CliRunner().invoke(app, ["study", "engines", "--db", f"sqlite:///{tmp_path}/r.db"], catch_exceptions=False)
