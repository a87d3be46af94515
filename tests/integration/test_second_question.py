"""Later questions answered from the first one's tokens: no loss where nothing differs or no text is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hero_ray import methods, models
from hero_ray.cli import app, load_verbs
from hero_ray.core.errors import InputError
from hero_ray.engine.cut import Picture, needs_of
from hero_ray.studies import asking, second_question
from hero_ray.studies.records import StudyRequest

SOURCE = {"num_images": 2, "questions_per_image": 2}
NAMES = ("fastervlm", "cdpruner", "fastv", "sparsevlm", "dart")


@pytest.fixture(scope="module")
def adapter() -> Any:
    return models.load("hero-tiny")


def test_the_same_question_twice_loses_nothing_inside_or_before_the_llm(adapter: Any) -> None:
    """Replayed decisions are those that were recorded, also where tokens are merged."""
    request = StudyRequest(adapter, ("synth-digits",), 2, SOURCE)
    prunings = second_question.pruned_by(NAMES, 0.2)
    needs = needs_of(prunings.values(), adapter.vision)
    for image, asked in asking.pictures(asking.opened(request, ()), 2):
        picture = Picture(adapter, image, asked[0][1].image_key, needs)
        for pruning in prunings.values():
            (found,) = second_question.ask_twice(picture, pruning, [asked[0], asked[0]])
            assert not found.changed, pruning.method.name
            assert found.own == found.first


def test_methods_that_read_no_question_lose_exactly_nothing(adapter: Any) -> None:
    request = StudyRequest(adapter, ("synth-digits", "synth-attribute"), 2, SOURCE, NAMES)
    study = second_question.run(request)
    (table,) = study.tables
    rows = {row[:2]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert {name for name, _ in rows} == set(NAMES)
    assert {benchmark for _, benchmark in rows} == {"all", "synth-attribute", "synth-digits"}
    for (name, _), row in rows.items():
        if name == "fastervlm":
            assert (row["loss"], row["answers changed"]) == (0.0, 0.0)
        assert row["loss"] == pytest.approx(row["own tokens"] - row["first question's"], abs=2e-4)
    assert rows["cdpruner", "all"]["tokens in common"] < 1.0
    assert rows["fastv", "all"]["tokens in common"] is None
    assert study.findings["fastv/all"] == rows["fastv", "all"]["loss"]


def test_pictures_with_one_question_are_no_dialogue(adapter: Any) -> None:
    single = StudyRequest(adapter, ("synth-digits",), 2, {"num_images": 2, "questions_per_image": 1}, ("ptp",))
    with pytest.raises(InputError, match="no picture has a second question"):
        second_question.run(single)
    with pytest.raises(InputError, match="choose no tokens"):
        second_question.pruned_by(("downsample", "full"), 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hero-tiny", "hero-tiny-internvl"])
def test_the_command_runs_all_methods_on_both_embedded_models(model: str, tmp_path: Path) -> None:
    load_verbs()
    url = f"sqlite:///{tmp_path / 'r.db'}"
    asked = ["study", "second-question", "--model", model, "--limit", "1"]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "out"), "--db", url])
    assert done.exit_code == 0, done.output
    findings = json.loads(done.stdout.strip().splitlines()[-1])["findings"]
    assert len(findings) > 20
    blind = [name for name in methods.names() if not methods.get(name).text_aware]
    assert {value for name, value in findings.items() if name.partition("/")[0] in blind} == {0.0}
