"""What cannot be imported is one clear line and leaves no run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hero_ray.core.errors import DatasetError, HeroRayError
from hero_ray.results.exchange import raw, readers
from hero_ray.results.exchange.into_store import import_task
from hero_ray.store import Store
from tests.answer_files import figures, lines, sample

BROKEN = {
    "m_POPE.xlsx": b"not a zip",
    "empty_POPE.xlsx": b"",
    "cut_POPE.xlsx": b"PK\x03\x04" + bytes(60),
    "t_samples_pope.jsonl": b'{"doc_id": 0, "filtered_resps": ["a"]}\n{"doc_id',
    "bin_samples_pope.jsonl": bytes(range(256)),
    "deep_samples_pope.jsonl": b"[" * 100_000,
    "deep_POPE.json": b'{"a":' * 100_000,
    "list_samples_pope.jsonl": b"[1, 2]\n",
    "null_samples_pope.jsonl": b'{"doc_id": null, "filtered_resps": ["a"]}\n',
    "none_samples_pope.jsonl": b'{"doc_id": 1, "filtered_resps": [null]}\n',
    "nul_POPE.tsv": "index\tprediction\n1\tyes\n".encode("utf-16-le"),
    "long_POPE.json": json.dumps([{"index": 1, "prediction": "a" * (raw.MAX_TEXT + 1)}]).encode(),
    "logs.json": b'{"logs": [1]}',
    "x_POPE.json": b"null",
    "y_POPE.json": b'"text"',
    "z_POPE.json": b"[]",
    "a_POPE.csv": b"",
    "half_samples_pope.jsonl": b'{"doc_id": 1.5, "filtered_resps": ["a"], "acc": 1}\n',
    "true_samples_pope.jsonl": b'{"doc_id": true, "filtered_resps": ["a"], "acc": 1}\n',
    "big_samples_pope.jsonl": b'{"doc_id": 1, "filtered_resps": ["a"], "acc": 1' + bytes(b"0" * 400) + b"}\n",
    "judge_samples_pope.jsonl": b'{"doc_id": 1, "judge_mode": "llm", "metrics": {"acc": 1}}\n',
    "odds_samples_pope.jsonl": b'{"doc_id": 1, "filtered_resps": [[-3.0, false]], "acc": 1}\n',
    # Each of these put one text in another's place, or left rows out, without a word.
    "two_POPE.csv": b"index,prediction,prediction,hit\n1,yes,no,1\n",
    "comma_POPE.csv": b"index,question,prediction,hit\n1,q,No, it is not,1\n",
    "short_POPE.csv": b"index,question,prediction,hit\n1,q,yes,1\n2,q\n",
    "quote_POPE.csv": b'index,question,prediction,hit\n1,"q,yes,1\n2,q,no,0\n',
    "uneven_POPE.json": b'{"index": [1, 2], "prediction": ["a"], "hit": [1, 0]}',
    "other_POPE.json": b'{"index": {"0": 1, "1": 2}, "prediction": {"0": "a"}, "hit": {"0": 1, "5": 0}}',
    "record_POPE.json": b'[{"index": 1, "prediction": {"text": "yes"}, "hit": 1}]',
    "several_POPE.json": b'[{"index": 1, "prediction": ["yes", "no"], "hit": 1}]',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line_and_leaves_no_run(import_file: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    for options in ((), ("--as-is",)):
        code, said, runs = import_file(path, *options)
        assert (code, runs) == (2, [])
        assert said.count("\n") == 1
        assert len(said) < 700
        assert "error: " in said


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MAX_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "m_POPE.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("xl/worksheets/sheet1.xml", bytes(3 << 20))
    assert path.stat().st_size < 10_000
    with pytest.raises(DatasetError, match="unpacks to 3 MiB"):
        readers.read(path)
    monkeypatch.setattr(raw, "MAX_BYTES", 100)
    with pytest.raises(DatasetError, match="GiB"):
        readers.read(path)


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "nonsense",
        '{"config": {"model_args": "method=hero,retention_ratio=abc"}}',
        '{"config": {"model_args": "method=hero,retention_ratio=7"}}',
        '{"config": {"model_args": "method=hero,retention_ratio=0"}}',
        '{"config": {"model_args": "method=hero,retention_ratio=1e999"}}',
        '{"config": {"model_args": "method=hero,tokens=-3"}}',
        '{"config": {"model_args": "method=hero,tokens=1.5"}}',
        '{"config": {"model_args": "method=random,seed=99999999999"}}',
        '{"config": {"hero_ray": {"settings": {"method": "hero", "retention_ratio": "abc"}}}}',
        '{"config": {"hero_ray": {"settings": {"method": "hero", "retention_ratio": [1]}}}}',
    ],
)
def test_a_broken_results_file_is_named(import_file: Any, tmp_path: Path, content: str) -> None:
    path = lines(tmp_path / "20260101_000000_samples_pope.jsonl", [sample(0, exact_match=1.0)])
    (tmp_path / "20260101_000000_results.json").write_text(content)
    code, said, runs = import_file(path, "--as-is")
    assert (code, runs) == (2, [])
    assert "20260101_000000_results.json" in said


def test_half_characters_and_nul_are_cleaned(blank_store: Store, tmp_path: Path) -> None:
    odd = "half \ud83d and \0 nul"
    path = tmp_path / "t_samples_pope.jsonl"
    lines(
        path, [sample(0, odd, input=odd, target=odd, key=odd, category=odd, exact_match=1.0, note=odd, answers=[odd])]
    )
    (tmp_path / "t_results.json").write_text(json.dumps({"config": {"model_args": f"pretrained={odd},a={odd}"}}))
    run_id, _, _ = import_task(blank_store, readers.read(path), as_is=True)
    (cell,) = blank_store.cells(run_id)
    (row,) = blank_store.cell_scores(run_id, cell.id)
    for text in (cell.model, row.text, row.question, row.category, row.sample_key, row.reference):
        assert text == "half \ufffd and \ufffd nul"


@pytest.mark.parametrize("name", ["a\0b.jsonl", "half \ud83d.jsonl", "x" * 300 + ".json", "."])
def test_paths_that_cannot_be(import_file: Any, name: str) -> None:
    code, said, runs = import_file(name)
    assert (code, runs) == (2, [])
    assert "Traceback" not in said


def test_an_import_that_fails_leaves_no_run(
    blank_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lines(
        tmp_path / "t_samples_pope.jsonl",
        [sample(0, target=float("nan"), exact_match=float("nan")), sample(1, exact_match=1.0)],
    )
    assert figures(blank_store, path) == {"exact_match": 1.0}  # NaN is no score; a target that is NaN is none
    before = blank_store.runs()

    def full(*arguments: object, **named: object) -> None:
        raise HeroRayError("the disk is full")

    monkeypatch.setattr(Store, "write_metrics", full)
    with pytest.raises(HeroRayError, match="disk is full"):
        import_task(blank_store, readers.read(path), as_is=True)
    assert blank_store.runs() == before


KEYS = [
    "doc_id",
    "filtered_resps",
    "resps",
    "target",
    "logs",
    "results",
    "prediction",
    "index",
    "question",
    "args",
    "model_configs",
    "filter",
    "input",
    "arguments",
    "score",
    "A",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=12,
)


def answers_or_one_line(path: Path) -> bool:
    try:
        found = readers.read(path, task="pope")
    except DatasetError as error:
        return "\n" not in str(error)
    return bool(found.answers) and all(isinstance(answer.prediction, str) for answer in found.answers)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=VALUES, name=st.sampled_from(["t_samples_pope.jsonl", "m_POPE.json", "x.json"]))
def test_any_json_is_answers_or_one_clear_line(tmp_path: Path, content: Any, name: str) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    assert answers_or_one_line(tmp_path / name)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80), ending=st.sampled_from(["csv", "tsv", "txt", "json", "jsonl", "xlsx"]))
def test_any_bytes_are_answers_or_one_clear_line(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    for start in (b"", b"index,prediction\n1,", b'{"doc_id": 0, "filtered_resps": "'):
        path.write_bytes(start + content)
        assert answers_or_one_line(path)
