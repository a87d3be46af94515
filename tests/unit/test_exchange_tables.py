"""Tables as VLMEvalKit and people write them, in any encoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.core.errors import DatasetError
from hero_ray.results.exchange import readers
from hero_ray.results.exchange.into_store import import_task
from hero_ray.store import Store
from tests import hub_layouts
from tests.answer_files import lines, sample

openpyxl = pytest.importorskip("openpyxl")


TABLE = "index\tquestion\tprediction\tanswer\n1\tWo ist Käthe?\tüben 你\tA\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_marked_encodings_are_read(tmp_path: Path, encoding: str, ends: str) -> None:
    path = tmp_path / "m_POPE.tsv"
    path.write_bytes(TABLE.replace("\n", ends).encode(encoding))
    (answer,) = readers.read(path).answers
    assert (answer.key, answer.question, answer.prediction) == ("1", "Wo ist Käthe?", "üben 你")
    samples = tmp_path / "t_samples_pope.jsonl"
    samples.write_bytes((json.dumps(sample(0, "é你"), ensure_ascii=False) + ends).encode(encoding))
    assert readers.read(samples).answers[0].prediction == "é你"


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "big5"])
def test_other_encodings_have_to_be_said(import_file: Any, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "m_POPE.csv"
    path.write_bytes("index,question,prediction,hit\n1,有沒有?,有,1\n".encode(encoding))
    code, said, runs = import_file(path, "--as-is")
    assert (code, runs) == (2, [])
    assert "line 2 is not utf-8 text" in said
    assert "--encoding gbk" in said
    assert readers.read(path, encoding=encoding).answers[0].prediction == "有"
    assert "unknown" in import_file(path, "--encoding", "klingon")[1]


def test_json_lines_whatever_the_name(tmp_path: Path) -> None:
    rows = [{"index": i, "question": f"Is {i}?", "prediction": "yes", "answer": "yes"} for i in range(3)]
    path = tmp_path / "m_POPE.json"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert len(readers.read(path).answers) == 3
    path = tmp_path / "t_samples_pope.jsonl"
    path.write_text(json.dumps([sample(0), sample(1)], indent=1))
    assert len(readers.read(path).answers) == 2
    path = tmp_path / "p.json"
    path.write_text('{"a":1}\n{"a":2}')
    with pytest.raises(DatasetError, match=r"p\.json: found entries with a; expected"):
        readers.read(path)


def workbook(path: Path, rows: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_answers_that_begin_with_an_equals_sign(tmp_path: Path) -> None:
    said = ["=1+1", "=B", "= 5", "007", "nan", "-", "None", True, 5.0]
    head = ["index", "question", "prediction", "answer"]
    table = [head, *([i, f"q{i}", text, "=0"] for i, text in enumerate(said))]
    found = readers.read(workbook(tmp_path / "m_POPE.xlsx", table))
    assert [a.prediction for a in found.answers] == ["=1+1", "=B", "= 5", "007", "nan", "-", "None", "True", "5"]
    assert {a.target for a in found.answers} == {"=0"}
    array = openpyxl.worksheet.formula.ArrayFormula("C2", "=A1")
    found = readers.read(workbook(tmp_path / "m_POPE.xlsx", [head, [1, "q", array, "A"]]))
    assert found.answers[0].prediction == "{=A1}"


def test_more_than_four_options(tmp_path: Path) -> None:
    head = ["index", "question", *"ABCDEF", "answer", "prediction"]
    path = workbook(tmp_path / "m_MMStar.xlsx", [head, [1.0, "q", "a", "b", "c", "d", "e", None, "E", "E"]])
    (answer,) = readers.read(path).answers
    assert answer.scores == {"options": dict(zip("ABCDE", "abcde", strict=True))}
    assert answer.key == "1"


@pytest.mark.parametrize(
    ("name", "model", "task"),
    [
        ("llava-v1.5-13b_POPE", "llava-v1.5-13b", "POPE"),
        ("llava_v1.5_7b_POPE_auxmatch", "llava_v1.5_7b", "POPE"),
        ("InternVL2-2B_MMBench_DEV_EN_openai_result", "InternVL2-2B", "MMBench_DEV_EN"),
        ("llava_next_yi_34b_MMStar", "llava_next_yi_34b", "MMStar"),
        ("my_MME_model_ScienceQA_TEST", "my_MME_model", "ScienceQA_TEST"),
        ("Qwen_mme", "Qwen", "mme"),
        ("InternVL2-8B_HRBench4K", "InternVL2-8B", "HRBench4K"),
        ("m_VStarBench_exact_matching_result", "m", "VStarBench"),
        ("m_InfoVQA_VAL", "m", "InfoVQA_VAL"),
        ("POPE", "", "POPE"),
    ],
)
def test_names_of_tables(tmp_path: Path, name: str, model: str, task: str) -> None:
    path = workbook(tmp_path / f"{name}.xlsx", [["index", "prediction"], [1, "yes"]])
    found = readers.read(path)
    assert (found.model, found.task) == (model, task)


@pytest.mark.parametrize("name", ["llava-v1.5-13b.xlsx", "results.json", "answers.csv", "run.jsonl"])
@pytest.mark.parametrize("as_is", [(), ("--as-is",)])
def test_a_name_without_a_benchmark(import_file: Any, tmp_path: Path, name: str, as_is: tuple[str, ...]) -> None:
    path = tmp_path / name
    if path.suffix == ".xlsx":
        workbook(path, [["index", "question", "prediction", "hit"], [1, "q?", "A", 1]])
    elif path.suffix == ".csv":
        path.write_text("index,question,prediction,hit\n1,q?,A,1\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps([{"index": 1, "question": "q?", "prediction": "A", "hit": 1}]))
    else:
        lines(path, [sample(0, exact_match=1.0)])
    code, said, runs = import_file(path, *as_is)
    assert (code, runs) == (2, [])
    assert "give --task" in said
    assert import_file(path, "--as-is", "--task", "MMBench_DEV_EN", "--model", "mine")[::2] == (0, ["complete"])


def test_by_hand(tmp_path: Path) -> None:
    """Capitals and blanks in the header, semicolons of a German Excel, blank rows at the end, other columns."""
    path = tmp_path / "m_POPE.csv"
    path.write_text("Index ; Question;Prediction;Notes\n1.0;Is it?;yes;fine\n;;;\n\n")
    (answer,) = readers.read(path).answers
    assert (answer.key, answer.question, answer.prediction) == ("1", "Is it?", "yes")
    book = workbook(tmp_path / "m_POPE.xlsx", [["INDEX", "prediction "], [2, "no"], [None, None], ["=A2+1", "yes"]])
    assert [a.prediction for a in readers.read(book).answers] == ["no", "yes"]
    path.write_text("| Index | Prediction |\n|---|:-:|\n| 1 | yes |\n")  # a Markdown table
    assert [(a.key, a.prediction) for a in readers.read(path).answers] == [("1", " yes ")]
    listed = tmp_path / "m_POPE.json"
    listed.write_text(json.dumps([{"index": 1, "prediction": [["yes"]]}]))
    assert [a.prediction for a in readers.read(listed).answers] == ["yes"]
    columns = tmp_path / "m_POPE.json"
    columns.write_text(json.dumps({"index": {"0": 7, "1": 8}, "prediction": {"0": "yes", "1": "no"}}))
    assert [(a.key, a.prediction) for a in readers.read(columns).answers] == [("7", "yes"), ("8", "no")]
    path.write_text("prediction,model\nyes,m\n")
    with pytest.raises(DatasetError, match="neither `index` nor `question`"):
        readers.read(path)


def test_tables_without_scores_are_refused_as_they_are(import_file: Any, tmp_path: Path) -> None:
    path = tmp_path / "m_MMStar.csv"
    path.write_text("index,question,prediction,A,B\n1,q?,A,x,y\n")
    code, said, runs = import_file(path, "--as-is")
    assert (code, runs) == (2, [])
    assert "no scores in the file; leave out --as-is" in said
    path.write_text("index,question,prediction,hit\n1,q?,A,1\n2,r?,B,0\n")
    assert import_file(path, "--as-is")[::2] == (0, ["complete"])


def test_an_imported_benchmark_has_our_name_and_the_flavour_asked_for(
    import_file: Any, blank_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m_MMStar.csv"
    path.write_text("index,question,prediction,hit\n1,q?,A,1\n")
    import_task(blank_store, readers.read(path), as_is=True)
    assert blank_store.cells(blank_store.run("latest").id)[0].benchmark == "mmstar"
    hub_layouts.write(tmp_path, "pope")
    monkeypatch.setenv("HERO_RAY_DATA", str(tmp_path))
    first = next(iter(get("pope").samples()))
    lines(tmp_path / "t_samples_pope.jsonl", [sample(0, "Yes.", input=first.question)])
    for flavour in ("head", "vlmevalkit"):
        import_task(blank_store, readers.read(tmp_path / "t_samples_pope.jsonl"), flavour=flavour)
        assert blank_store.cells(blank_store.run("latest").id)[0].flavour == flavour
    assert import_file(path, "--as-is", "--flavour", "head")[0] == 2
