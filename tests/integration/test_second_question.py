"""Later questions answered from the first one's tokens: no loss where nothing differs or no text is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("plotly")

from dashboard import study_figures
from hero_ray import methods, models
from hero_ray.cli import app, load_verbs
from hero_ray.core.errors import InputError
from hero_ray.core.types import Sample
from hero_ray.engine.cut import Picture, cut, needs_of
from hero_ray.models.base import Request
from hero_ray.studies import asking, drawing, files, second_question
from hero_ray.studies.records import StudyRequest
from tests import hub_layouts
from tests.integration.hub_fixture import FIRST, data_files

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


SEVERAL = (
    "vqav2_val", "textvqa_val", "gqa", "chartqa", "docvqa_val", "infovqa_val", "mme", "mmbench_en_dev", "pope", "ai2d",
    "seedbench", "hrbench4k",
)  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_every_benchmark_with_several_questions_per_picture_is_a_dialogue(
    name: str, adapter: Any, tmp_path: Path
) -> None:
    hub_layouts.write(tmp_path, name)
    request = StudyRequest(adapter, (name,), 1, {"data": str(tmp_path / name)}, ("fastervlm", "cdpruner"))
    (table,) = second_question.run(request).tables
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert set(rows) == {"fastervlm", "cdpruner"}
    assert (rows["fastervlm"]["loss"], rows["fastervlm"]["pictures"]) == (0.0, 1)


def test_questions_of_a_picture_need_not_lie_together_nor_in_the_first_pictures() -> None:
    """As in POPE, which goes over its pictures three times, and TextVQA, where most have one question."""

    class Listed:
        def __init__(self, name: str, pictures: str) -> None:
            self.name, self.pictures = name, pictures

        def samples(self) -> Iterator[Sample]:
            yield from (Sample(self.name, f"{i}", "?", [], key, key) for i, key in enumerate(self.pictures))

        def load_image(self, ref: str) -> str:
            return ref

    found = asking.dialogues([Listed("a", "xyzwzyx"), Listed("b", "pqppq")], 2)  # type: ignore[list-item]
    told = [(image, [sample.key for _, sample in asked]) for image, asked in found]
    assert told == [("x", ["0", "6"]), ("y", ["1", "5"]), ("p", ["0", "2", "3"]), ("q", ["1", "4"])]
    shared = asking.dialogues([Listed("a", "xy"), Listed("b", "yx")], 1)  # type: ignore[list-item]
    assert [image for image, _ in shared] == ["x"]


def test_fastv_cuts_before_the_last_token_has_read_the_question(adapter: Any) -> None:
    """Block 2 of 32 is the first of three here: other words in the same places leave its choice nearly as it was."""
    pruning = second_question.pruned_by(("fastv",), 0.2)["fastv"]
    (image, asked), *_ = asking.pictures(asking.opened(StudyRequest(adapter), ("synth-exist",)), 1)
    picture = Picture(adapter, image, "p", needs_of([pruning], adapter.vision))
    kept = []
    for text in ("Is there a green square in the image?", "What word is on the white sign here?"):
        prompt = adapter.prompt(text, text)
        made = cut(picture, pruning, text, prompt)
        recorded = second_question.Recorded(pruning.pruner(made.budget, [made.selection]))
        adapter.generate([Request(prompt, made.visual, 2)], pruner=recorded, positions="keep")
        ((alive, _),) = recorded.boundaries.values()
        kept.append((prompt.num_text, alive))
    (length, one), (other_length, other) = kept
    assert asked
    assert (length, other_length) == (12, 12)
    assert int((one & other).sum()) >= 0.85 * int(one.sum())


def test_the_chart_has_a_row_per_method_and_a_dot_per_benchmark(adapter: Any) -> None:
    request = StudyRequest(adapter, ("synth-digits", "synth-attribute"), 2, SOURCE, ("fastervlm", "cdpruner"))
    study = second_question.run(request)
    (chart,) = study.charts
    assert [one["name"] for one in chart["series"]] == ["all", "synth-attribute", "synth-digits"]
    losses = dict(zip(chart["names"], chart["series"][0]["x"], strict=True))
    assert losses == {name: study.findings[f"{name}/all"] for name in ("fastervlm", "cdpruner")}
    assert chart["series"][0]["x"] == sorted(losses.values(), reverse=True)
    drawn = study_figures.read_study(files.document(study, {}))
    assert drawn is not None
    ((title, figure),) = drawn["charts"]
    assert title == chart["title"]
    assert [trace.name for trace in figure.data] == ["all", "synth-attribute", "synth-digits"]
    assert list(figure.data[0].y) == chart["names"]
    assert drawing.chart(chart).size[1] > 100


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


@pytest.mark.slow
def test_the_command_reads_a_benchmark_from_the_hub(hub: Any, ask: Any, tmp_path: Path) -> None:
    hub.put(FIRST, data_files(tmp_path))
    asked = ["study", "second-question", "--tasks", "pope", "--limit", "1", "--methods", "fastervlm,cdpruner,fastv"]
    asked += ["--out", str(tmp_path / "out"), "--db", f"sqlite:///{tmp_path / 'r.db'}"]
    record = ask(f"from hero_ray.cli import app, load_verbs; load_verbs(); app({asked!r})")
    assert record["findings"]["fastervlm/pope"] == 0.0
    assert set(record["findings"]) == {"fastervlm/pope", "cdpruner/pope", "fastv/pope"}
    table = json.loads((tmp_path / "out" / "second-question.json").read_text())["tables"][0]
    assert {row[-2:] == [5, 1] for row in table["rows"]} == {True}, "five later questions about one picture"
