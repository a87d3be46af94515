"""Results to and from other tools' files."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from hero_ray.benchmarks import get
from hero_ray.core.errors import DatasetError
from hero_ray.results.exchange.lmms_export import folder_name, model_args, results_document, write
from hero_ray.results.exchange.readers import read
from hero_ray.results.exchange.records import ImportedAnswer, ModelRun, TaskResult
from hero_ray.results.exchange.rescore import rescore
from tests import hub_layouts

TIME = datetime(2026, 3, 4, 5, 6, 7)
ANSWERS = (
    ImportedAnswer(
        1,
        "61-1",
        "No",
        ["Yes"],
        "Is it red?\nAnswer the question with a single word.",
        {"relaxed_overall": 0.0},
        "human_test",
    ),
    ImportedAnswer(0, "60-0", "10.4", "10", "How much?", {"relaxed_overall": 1.0}, "human_test"),
)
TASK = TaskResult(
    "chartqa", {"relaxed_overall": 0.5, "relaxed_human_split": 0.5}, ANSWERS, 2500, {"relaxed_overall": 0.25}, 16
)
RUN = ModelRun(
    "org/model", [TASK], {"method": "hero", "retention_ratio": 0.2}, "2026-03-04T05:06:07+00:00", 12.5, "abc"
)


def test_results_file_in_lmms_evals_shape() -> None:
    document = json.loads(json.dumps(results_document(RUN)))
    assert document["results"] == {
        "chartqa": {
            "alias": "chartqa",
            "relaxed_overall,none": 0.5,
            "relaxed_overall_stderr,none": 0.25,
            "relaxed_human_split,none": 0.5,
            "relaxed_human_split_stderr,none": "N/A",
        }
    }
    assert document["n-samples"] == {"chartqa": {"original": 2500, "effective": 2}}
    assert document["config"]["model_args"] == "pretrained=org/model,method=hero,retention_ratio=0.2"
    assert document["configs"]["chartqa"]["generation_kwargs"]["max_new_tokens"] == 16
    assert document["higher_is_better"] == {"chartqa": {"relaxed_overall": True, "relaxed_human_split": True}}
    needed = {"group_subtasks", "versions", "n-shot", "task_hashes", "model_name", "model_name_sanitized", "date"}
    assert needed <= document.keys()


def test_names_are_safe() -> None:
    assert re.fullmatch(r"org__model_hero_0\.2_[0-9a-f]{8}", folder_name(RUN))
    odd = ModelRun('a/b:"c"', [], {"tasks": "x,y"})
    assert not set(folder_name(odd)) & set('/\\:"*?<>|')
    assert model_args(odd).count(",") == 1


@pytest.mark.parametrize("model", ["m" * 400, "\u6a21" * 300, "../../etc", "a\nb", "", "..", "a/b", "a_b"])
def test_any_model_and_any_settings_make_a_name_that_file_systems_take(model: str) -> None:
    runs = [
        ModelRun(model, [TASK], {"method": "hero", **{f"parameter_{i}": value + i for i in range(60)}})
        for value in (0, 1)
    ]
    names = [folder_name(run) for run in runs]
    assert names[0] != names[1]
    for name in names:
        assert len(name.encode()) <= 200
        assert not set(name) & set('/\\:"*?<>|\n\x00')
        assert name.strip("._") == name


def test_a_task_whose_name_is_a_path_comes_back(tmp_path: Path) -> None:
    """`file:` benchmarks are called by their path."""
    tasks = [replace(TASK, task=name) for name in ("file:/data/a b.jsonl", "file:/data/a/b.jsonl", "x" * 300)]
    written = write(replace(RUN, tasks=tasks), tmp_path, TIME)
    assert len(set(written)) == 4
    for path, task in zip(written[1:], tasks, strict=True):
        found = read(path)
        assert (found.task, found.metrics) == (task.task, task.metrics)


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    """`model_args` is text and has no comma inside a value; the exact settings stand beside it."""
    settings = {"method": "hero", "variant": "paper", "layers": [1, 2], "alpha": 0.5, "tokens": 64, "seed": 3}
    _, samples = write(replace(RUN, settings=settings), tmp_path, TIME)
    assert read(samples).settings == settings


def test_files_and_the_way_back(tmp_path: Path) -> None:
    results, samples = write(RUN, tmp_path, TIME)
    assert results.name == "20260304_050607_results.json"
    assert samples.name == "20260304_050607_samples_chartqa.jsonl"
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [line["doc_id"] for line in lines] == [0, 1]
    assert lines[0]["filtered_resps"] == ["10.4"]
    assert lines[0]["relaxed_overall"] == lines[0]["score"] == 1.0
    assert set(map(len, (lines[0]["doc_hash"], lines[0]["prompt_hash"], lines[0]["target_hash"]))) == {64}
    imported = read(samples)
    assert imported.task == "chartqa"
    assert imported.model == "org/model"
    assert imported.settings == {"method": "hero", "retention_ratio": 0.2}
    assert imported.metrics == TASK.metrics
    assert list(imported.answers) == sorted(ANSWERS, key=lambda answer: answer.document or 0)


def test_lmms_evals_own_lines(tmp_path: Path) -> None:
    """Keys as lmms-eval writes them: no `resps` where it equals the filtered ones, targets as text, no results file."""
    path = tmp_path / "llava__x" / "20250101_000000_samples_chartqa.jsonl"
    path.parent.mkdir()
    line = {
        "doc_id": 2,
        "target": "0.5",
        "filtered_resps": ["50%"],
        "doc_hash": "h",
        "relaxed_overall": 1.0,
        "input": "How much?",
    }
    path.write_text(json.dumps(line) + "\n\n")
    imported = read(path)
    assert (imported.model, imported.metrics) == ("llava__x", {})
    assert imported.answers == [ImportedAnswer(2, "", "50%", "0.5", "How much?", {"relaxed_overall": 1.0})]
    hub_layouts.write(tmp_path, "chartqa")
    again = rescore(imported, get("chartqa", data=tmp_path / "chartqa"))
    assert [(item.sample.key, item.scores) for item in again.scored] == [("2", {"relaxed_overall": 1.0})]


KIT_ROWS = [
    {
        "index": 241,
        "question": "Which is it?",
        "A": "cat",
        "B": "dog",
        "answer": "A",
        "prediction": "A",
        "category": "c",
    },
    {
        "index": 1000241,
        "question": "Which is it?",
        "A": "dog",
        "B": "cat",
        "answer": "B",
        "prediction": "cat",
        "category": "c",
    },
    {"index": 999, "question": "Elsewhere?", "A": "x", "B": "y", "answer": "B", "prediction": "y", "category": "c"},
]


@pytest.mark.parametrize("suffix", ["xlsx", "tsv", "csv", "json"])
def test_vlmevalkit_tables(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"InternVL2-2B_MMBench_DEV_EN.{suffix}"
    if suffix == "xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for row in [list(KIT_ROWS[0]), *(list(row.values()) for row in KIT_ROWS)]:
            book.active.append(row)
        book.save(path)
    elif suffix == "json":
        path.write_text(json.dumps(KIT_ROWS))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(KIT_ROWS[0]), delimiter="\t" if suffix == "tsv" else ",")
            writer.writeheader()
            writer.writerows(KIT_ROWS)
    imported = read(path)
    assert (imported.model, imported.task) == ("InternVL2-2B", "MMBench_DEV_EN")
    assert [answer.key for answer in imported.answers] == ["241", "1000241", "999"]
    hub_layouts.write(tmp_path, "mmbench_en_dev")
    benchmark = get(imported.task, "vlmevalkit", data=tmp_path / "mmbench_en_dev")
    again = rescore(imported, benchmark)
    assert [item.scores["letter"] for item in again.scored] == ["A", "B"]
    assert [answer.key for answer in again.unmatched] == ["999"]
    assert benchmark.aggregate(again.scored)[0].value == 100.0


def test_rows_numbered_differently_are_matched_by_question(tmp_path: Path) -> None:
    """Two harnesses count the rows of one dataset differently; a wrong match would score the wrong question."""
    hub_layouts.write(tmp_path, "realworldqa")
    benchmark = get("realworldqa", data=tmp_path / "realworldqa")
    questions = [sample.question for sample in benchmark.samples()]
    path = tmp_path / "m_RealWorldQA.json"
    rows = [
        {"index": 0, "question": questions[1], "prediction": "2"},
        {"index": 1, "question": questions[0], "prediction": "A"},
    ]
    path.write_text(json.dumps(rows))
    again = rescore(read(path), benchmark)
    assert [item.sample.key for item in again.scored] == ["1", "0"]
    assert [item.scores["exact_match"] for item in again.scored] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.pkl", "", "expected .jsonl"),
        ("x.txt", "", "column 'prediction'; found no rows"),
        ("x.jsonl", "{}", "no keys is no table of answers"),
        ("t_samples_a.jsonl", "", "has no lines"),
        ("t_samples_a.jsonl", '{"target": 1}\n{"target": 2}\n', "line 1 is not an lmms-eval sample: it lacks doc_id"),
        ("t_samples_a.jsonl", "nonsense\n", "line 1 is not JSON"),
        ("m_POPE.tsv", "index\tanswer\n1\tyes\n", "column 'prediction'; found"),
        ("m_POPE.json", "{}", "no keys is no table of answers"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError, match=says):
        read(tmp_path / name)


def test_missing_files_and_strangers(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        read(tmp_path / "none.jsonl")
    hub_layouts.write(tmp_path, "chartqa")
    path = tmp_path / "m_ChartQA_TEST.json"
    path.write_text(json.dumps([{"index": 77, "question": "Never asked?", "prediction": "x"}]))
    with pytest.raises(DatasetError, match="none of the 1 answers"):
        rescore(read(path), get("chartqa", data=tmp_path / "chartqa"))
