"""Answers as the field's own scripts write them, and which question of a benchmark each belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.core.errors import DatasetError
from hero_ray.results.exchange import readers
from hero_ray.results.exchange.rescore import rescore
from hero_ray.store import Store
from tests import hub_layouts
from tests.answer_files import Lines, figures, lines, sample

SHORT = "\nAnswer the question using a single word or phrase."


def llava(question_id: Any, prompt: str, text: str) -> dict[str, Any]:
    """One line of `model_vqa_loader.py`."""
    return {
        "question_id": question_id,
        "prompt": prompt + SHORT,
        "text": text,
        "answer_id": "x7",
        "model_id": "llava-v1.5-7b",
        "metadata": {},
    }


def kept(root: Path, name: str, rows: Lines, flavour: str | None = None) -> dict[str, str]:
    """Sample key -> prediction, of a file of such rows."""
    hub_layouts.write(root, name)
    path = lines(root / "answers.jsonl", rows)
    found = rescore(readers.read(path, task=name), get(name, flavour, data=root / name))
    return {item.sample.key: item.prediction for item in found.scored}


@pytest.mark.parametrize("flavour", ["head", "v0.2.3", "hired", "vlmevalkit"])
def test_llavas_answers_to_mme(tmp_path: Path, flavour: str) -> None:
    """Its id is the picture's, for two questions, and its prompt lacks MME's plea, whatever the flavour's prompts."""
    rows = [
        llava(f"{folder}.jpg", f"Is there a {gold}?", said)
        for folder in ("existence/000000", "code_reasoning/000001")
        for gold, said in (("No", "no"), ("Yes", "Yes"))
    ]
    assert kept(tmp_path, "mme", rows, flavour) == {
        "existence/000000.jpg": "Yes",
        "existence/000000.jpg#2": "no",
        "code_reasoning/000001.jpg": "Yes",
        "code_reasoning/000001.jpg#2": "no",
    }
    found = readers.read(tmp_path / "answers.jsonl", task="mme")
    assert (found.model, found.repeated) == ("llava-v1.5-7b", 0)
    metrics = get("mme", flavour, data=tmp_path / "mme").aggregate(
        rescore(found, get("mme", flavour, data=tmp_path / "mme")).scored
    )
    assert {m.name: m.value for m in metrics if not m.category}["mme_perception_score"] == 200.0


def test_llavas_answers_to_textvqa(tmp_path: Path) -> None:
    """The picture's id again, and words of its own after the question."""
    asked = [("a1", "is it Red?", "no"), ("a1", "what does the Sign say?", "stop"), ("a2", "what?", "go")]
    rows = [llava(image, f"{text}\nReference OCR token: STOP", said) for image, text, said in asked]
    assert kept(tmp_path, "textvqa_val", rows) == {"34603": "no", "34602": "stop", "34604": "go"}


def test_llavas_own_ids(tmp_path: Path) -> None:
    hub_layouts.write(tmp_path, "gqa")
    samples = list(get("gqa", data=tmp_path / "gqa").samples())
    rows = [llava(one.key, one.question, f"said {n}") for n, one in enumerate(samples)]
    assert kept(tmp_path, "gqa", rows[::-1]) == {one.key: f"said {n}" for n, one in enumerate(samples)}
    assert kept(tmp_path, "gqa", [{"question_id": rows[0]["question_id"], "prediction": "B"}]) == {samples[0].key: "B"}


def test_a_file_without_ids_is_matched_in_its_order(tmp_path: Path) -> None:
    """A ChartQA script's results: questions that come again, no ids, the benchmark's own order."""
    rows = [{"imgname": "x.png", "query": "How much?", "prediction": str(n), "answer": "1"} for n in range(3)]
    assert kept(tmp_path, "chartqa", rows) == {"0": "0", "1": "1", "2": "2"}
    with pytest.raises(DatasetError, match="none of the 2 answers"):
        kept(tmp_path, "chartqa", [{**rows[0], "query": f"What is {n}?"} for n in range(2)])


def test_questions_that_agree_by_chance_make_no_match(tmp_path: Path) -> None:
    """Rows numbered otherwise: two of the six have the right question at their number, on another picture."""
    asked = ["snowboard", "car", "car", "snowboard", "car", "snowboard"]
    rows = [
        {"index": n, "question": f"Is there a {what} in the image?", "prediction": "yes"}
        for n, what in enumerate(asked)
    ]
    with pytest.raises(DatasetError, match="none of the 6 answers"):
        kept(tmp_path, "pope", rows)
    for short in ("q", "the", "the image"):  # found in every prompt
        with pytest.raises(DatasetError, match="none of the 1 answers"):
            kept(tmp_path, "pope", [{"index": 1, "question": short, "prediction": "yes"}])
    right = ["snowboard", "car"] * 3
    rows = [{**row, "question": f"Is there a {what} in the image?"} for row, what in zip(rows, right, strict=True)]
    assert len(kept(tmp_path, "pope", rows)) == 6
    assert len(kept(tmp_path, "pope", rows[3:])) == 3


def test_mmvets_own_result_file(tmp_path: Path) -> None:
    path = tmp_path / "llava-v1.5-7b.json"
    path.write_text(json.dumps({"v1_0": "It is 3.", "v1_1": "A dog."}))
    found = readers.read(path, task="mmvet")
    assert [(a.key, a.prediction) for a in found.answers] == [("v1_0", "It is 3."), ("v1_1", "A dog.")]
    assert found.model == "llava-v1.5-7b"
    for other in ({"v1_0": {"model": ["gpt-4"], "score": [0.0]}}, {"note": "text"}, {"v1_0": "a", "n": "b"}):
        path.write_text(json.dumps(other))
        with pytest.raises(DatasetError, match="is no table of answers"):
            readers.read(path, task="mmvet")


@pytest.mark.parametrize(
    "content",
    [
        {"acc": 74.4, "correct": 1, "count": 1, "results": {"4": 1}, "outputs": {"4": "B"}},  # LLaVA's, of ScienceQA
        {"correct": [{"question_id": "4", "pred": "B"}], "incorrect": []},
        {"question_id": 1, "image": "a.jpg", "text": "Is there a dog?", "label": "yes"},  # POPE's questions
        [{"image": "VizWiz_test_00000000.jpg", "answer": "black"}],  # what VizWiz' server takes
        [{"dataset_name": "IIIT5K", "id": 1, "question": "what is written?", "answers": "CENTRE", "type": "t"}],
    ],
)
def test_other_files_of_the_field_are_named_for_what_they_hold(
    import_file: Any, tmp_path: Path, content: dict[str, Any]
) -> None:
    path = tmp_path / "llava-v1.5-13b_result.json"
    path.write_text(json.dumps(content))
    code, said, runs = import_file(path, "--task", "pope")
    assert (code, runs, said.count("\n")) == (2, [], 1)
    assert "is no table of answers" in said or "found entries with" in said
    assert "figures" not in said


def test_standard_errors_are_no_metrics(blank_store: Store, tmp_path: Path) -> None:
    """v0.6 writes three of each; `_stderr_clt` of F1 is the accuracy's and so no error of it."""
    path = lines(tmp_path / "20260218_234435_samples_pope.jsonl", [sample(0), sample(1)])
    errors = {"_stderr": "N/A", "_stderr_clt": 0.25, "_stderr_clustered": 0.5}
    found = {f"{name}{kind},none": value for name in ("acc", "f1") for kind, value in {"": 0.5, **errors}.items()}
    path.with_name("20260218_234435_results.json").write_text(json.dumps({"results": {"pope": found}}))
    assert figures(blank_store, path) == {"acc": 0.5, "f1": 0.5}
    rows = [row for rows in blank_store.metrics(blank_store.run("latest").id).values() for row in rows]
    assert {(row.ci_low, row.ci_high) for row in rows} == {(None, None)}


def test_two_questions_of_one_id_are_two_answers_as_they_are(blank_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m_MME.csv"
    path.write_text("question_id,question,prediction,score\na.png,Is it?,yes,1\na.png,Is it not?,no,0\n")
    assert figures(blank_store, path) == {"score": 0.5}
    run = blank_store.run("latest").id
    (cell,) = blank_store.cells(run)
    assert (cell.n_expected, cell.n_done, cell.status) == (2, 2, "complete")
    ((row,),) = blank_store.metrics(run).values()
    assert row.n_clusters == 1
    assert "the tool's figure may be another" in row.flags
