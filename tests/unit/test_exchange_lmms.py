"""lmms-eval's files of all its versions: their own figures, one answer a question, or one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.core.errors import DatasetError
from hero_ray.results.exchange import readers
from hero_ray.results.exchange.into_store import import_task
from hero_ray.results.exchange.records import ImportedAnswer, ImportedTask
from hero_ray.results.exchange.rescore import rescore
from hero_ray.store import Store
from tests import hub_layouts
from tests.answer_files import figures, lines, sample


def test_scores_that_are_records_give_the_samples_score(blank_store: Store, tmp_path: Path) -> None:
    record = {"question_id": "0", "score": 1.0, "prediction": "yes", "ground_truth": "yes"}
    names = ("pope_accuracy", "pope_precision", "pope_f1_score")
    path = lines(tmp_path / "20260101_000000_samples_pope.jsonl", [sample(0, **dict.fromkeys(names, record))])
    assert figures(blank_store, path) == {"pope_accuracy": 1.0}  # the mean of a sample's score is no F1
    told = {"pope": {"alias": "pope", "pope_accuracy,none": 1.0, "pope_f1_score,none": 0.85947, "x_stderr,none": "N/A"}}
    results = {"results": told, "config": {"model_args": "pretrained=a/b,device_map=auto"}}
    (tmp_path / "20260101_000000_results.json").write_text(json.dumps(results))
    assert figures(blank_store, path) == {"pope_accuracy": 1.0, "pope_f1_score": 0.85947}
    (cell,) = blank_store.cells(blank_store.run("latest").id)
    assert (cell.model, dict(cell.params)) == ("a/b", {})  # device_map is no parameter of a pruning method


PERCEIVED = {"question_id": "code/1", "category": "code", "score": 1.0}
RECORDS: dict[str, tuple[str, Any, float | None, float]] = {
    # metric: (task, what a sample holds, what the results file says, the right figure)
    "mme_perception_score": ("mme", PERCEIVED, 1531.17, 1531.17),
    "mme_percetion_score": ("mme", PERCEIVED, 1508.94, 1508.94),
    "ocrbench_accuracy": ("ocrbench", {"question_type": "t", "score": 1, "prediction": "a"}, None, 1.0),
    "seed_all": ("seedbench", {"pred": "A", "answer": "A", "question_id": "1"}, None, 1.0),
    "gpt_eval_score": ("mmvet", {"question_id": "v", "score": 0.5}, 36.1, 36.1),
    "exact_match": ("scienceqa_img", 1.0, None, 1.0),
    "pope_accuracy": ("pope", True, None, 1.0),
}


@pytest.mark.parametrize("metric", RECORDS)
def test_every_kind_of_record_has_its_figure(blank_store: Store, tmp_path: Path, metric: str) -> None:
    task, held, told, expected = RECORDS[metric]
    path = lines(tmp_path / f"20260101_000000_samples_{task}.jsonl", [sample(0, **{metric: held})])
    if told:
        content = {"results": {task: {f"{metric},none": told}}}
        (tmp_path / "20260101_000000_results.json").write_text(json.dumps(content))
    assert figures(blank_store, path) == {metric: expected}
    (point,) = blank_store.points([blank_store.run("latest").id])
    assert (point.metric, point.benchmark) == (metric, task)
    assert 0 <= point.value <= point.scale


def test_records_without_a_figure_are_refused(import_file: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "t_samples_mme.jsonl", [sample(0, mme_perception_score={"score": 1.0, "category": "c"})])
    code, said, runs = import_file(path, "--as-is")
    assert (code, runs) == (2, [])
    assert "mme_perception_score" in said
    assert "leave out --as-is" in said


def test_lines_as_the_newest_lmms_eval_writes_them(blank_store: Store, tmp_path: Path) -> None:
    """0.7.3: one plain text for one request, lists of references as Python text, counts of tokens beside."""
    targets = ["['Paris', \"it's paris\"]", "[5]", "[]", "['a'", "yes", "{'answer': 'a'}", "[{'answer': 'a'}]", None]
    rows = [
        {"doc_id": i, "target": target, "filtered_resps": "Paris", "token_counts": [{"input": 5}], "doc_hash": "h",
         "input_media": ["a.png"], "exact_match": 0.9, "submission": {"answer": "x"}, "input": f"Where is {i}?"}
        for i, target in enumerate(targets)
    ]  # fmt: skip
    path = lines(tmp_path / "org__model" / "20260101_000000_samples_docvqa_val.jsonl", rows)
    found = readers.read(path)
    assert [answer.target for answer in found.answers] == [
        ["Paris", "it's paris"], "[5]", "[]", "['a'", "yes", {"answer": "a"}, [{"answer": "a"}], None
    ]  # fmt: skip
    assert {answer.prediction for answer in found.answers} == {"Paris"}
    assert [dict(answer.scores) for answer in found.answers] == [{"exact_match": 0.9}] * len(rows)
    assert figures(blank_store, path) == {"exact_match": pytest.approx(0.9)}


@pytest.mark.parametrize("order", [("args", "model_configs", "logs"), ("logs", "args", "model_configs", "time")])
def test_older_logs_are_read(blank_store: Store, tmp_path: Path, order: tuple[str, ...]) -> None:
    """v0.2.0, v0.2.3 and HiRED's copy keep everything in TASK.json."""
    log = sample(0, resps=[["Yes"]], mme_percetion_score={"question_id": "a", "score": 1.0})
    log |= {"doc": {"question": "Is it?"}, "arguments": [["Is it red?", {"until": ["x"]}]]}
    del log["input"]
    parts = {
        "args": {"model": "llava", "model_args": "pretrained=liuhaotian/llava-v1.5-7b,device_map=auto", "tasks": "mme"},
        "model_configs": {"task": "mme", "dataset_path": "lmms-lab/MME"},
        "logs": [log, log | {"doc_id": 1, "filtered_resps": ["No"], "resps": [["No"]]}],
        "time": "0101",
    }
    path = tmp_path / "mme.json"
    path.write_text(json.dumps({name: parts[name] for name in order}))
    (tmp_path / "results.json").write_text(json.dumps({"results": {"mme": {"mme_percetion_score,none": 1510.5}}}))
    found = readers.read(path)
    assert (found.task, found.model) == ("mme", "liuhaotian/llava-v1.5-7b")
    assert [answer.prediction for answer in found.answers] == ["Yes", "No"]
    assert {answer.question for answer in found.answers} == {"Is it red?"}
    assert figures(blank_store, path) == {"mme_percetion_score": 1510.5}


def test_results_without_answers_name_what_to_import(import_file: Any, tmp_path: Path) -> None:
    path = tmp_path / "20260101_000000_results.json"
    path.write_text(json.dumps({"results": {"pope": {"pope_accuracy,none": 0.9}}, "config": {}}))
    code, said, runs = import_file(path, "--as-is")
    assert (code, runs) == (2, [])
    assert "samples file" in said


def test_equal_repeats_are_one_answer(import_file: Any, tmp_path: Path, blank_store: Store) -> None:
    rows = [sample(i, exact_match=float(i)) for i in (0, 1, 2, 2, 0)]
    path = lines(tmp_path / "t_samples_pope.jsonl", rows)
    code, said, runs = import_file(path, "--as-is")
    assert (code, runs) == (0, ["complete"])
    assert "2 repeated lines left out" in said
    assert json.loads(said.splitlines()[-1])["answers"] == 3
    import_task(blank_store, readers.read(path), as_is=True)
    (cell,) = blank_store.cells(blank_store.run("latest").id)
    assert (cell.n_expected, cell.n_done, cell.status) == (3, 3, "complete")


def test_filters_that_disagree_have_to_be_chosen(import_file: Any, tmp_path: Path) -> None:
    rows = [
        sample(i, said, filter=name, exact_match=score)
        for i in range(6)
        for name, said, score in (("strict", "No", 0.0), ("flexible", "Yes", 1.0))
    ]
    path = lines(tmp_path / "t_samples_pope.jsonl", rows)
    code, said, runs = import_file(path, "--as-is")
    assert (code, runs) == (2, [])
    assert "two different answers to document 0: 'No' and 'Yes'" in said
    assert "--filter" in said
    assert "it has strict, flexible" in import_file(path, "--as-is", "--filter", "lax")[1]
    code, said, runs = import_file(path, "--as-is", "--filter", "flexible")
    assert (code, runs) == (0, ["complete"])
    assert {answer.prediction for answer in readers.read(path, filter="flexible").answers} == {"Yes"}


def test_several_responses_are_not_one_answer(tmp_path: Path) -> None:
    path = lines(tmp_path / "t_samples_pope.jsonl", [sample(0, filtered_resps=[["Yes", "Yes"]])])
    assert readers.read(path).answers[0].prediction == "Yes"
    lines(path, [sample(0, filtered_resps=[["Yes", "No"]])])
    with pytest.raises(DatasetError, match="line 1 holds 2 different responses"):
        readers.read(path)


def test_two_answers_that_find_one_sample(tmp_path: Path) -> None:
    hub_layouts.write(tmp_path, "realworldqa")
    benchmark = get("realworldqa", data=tmp_path / "realworldqa")
    question = next(iter(benchmark.samples())).question
    pair = [ImportedAnswer(None, key, "A", question=question) for key in ("x", "y")]
    assert len(rescore(ImportedTask("realworldqa", "m", pair), benchmark).scored) == 1
    with pytest.raises(DatasetError, match="two different answers"):
        rescore(
            ImportedTask("realworldqa", "m", [pair[0], ImportedAnswer(None, "z", "B", question=question)]), benchmark
        )
