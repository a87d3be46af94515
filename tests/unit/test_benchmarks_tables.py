"""Rows on disk: streaming, locating, fingerprinting, and where a source is looked for."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hero_ray.benchmarks import get, tables
from hero_ray.benchmarks.sources import Source, open_path, open_source
from hero_ray.benchmarks.tables import JsonlTable, ParquetTable
from hero_ray.core.errors import DatasetError
from tests import hub_layouts

SOURCE = Source(ids=(), split="test", columns=("n",), image=None)


def write(path: Path, numbers: range, group: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"n": list(numbers), "text": [f"row {n}" for n in numbers]}), path, row_group_size=group)
    return path


def test_parquet_rows_in_order_over_files_and_groups(tmp_path: Path) -> None:
    table = ParquetTable([write(tmp_path / "a.parquet", range(7)), write(tmp_path / "b.parquet", range(7, 9))])
    rows = list(table.rows(["n"]))
    assert [row for _, row in rows] == [{"n": n} for n in range(9)]
    assert [locator for locator, _ in rows][5:9] == [[0, 1, 2], [0, 2, 0], [1, 0, 0], [1, 0, 1]]
    assert [table.cell(locator, "text") for locator, _ in reversed(rows)] == [f"row {n}" for n in range(8, -1, -1)]


def test_large_row_groups_are_scanned_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP_CACHE_BYTES", 0)
    monkeypatch.setattr(tables, "BATCH_ROWS", 4)
    table = ParquetTable([write(tmp_path / "a.parquet", range(11), group=11)])
    assert [table.cell(locator, "n") for locator, _ in table.rows(["n"])] == list(range(11))
    assert "_cached" not in vars(table)


def test_a_scan_goes_on_where_it_stopped_and_holds_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 8K pictures as text: read once in order, a few at a time, and again from the start where asked back."""
    monkeypatch.setattr(tables, "GROUP_CACHE_BYTES", 0)
    monkeypatch.setattr(tables, "BATCH_BYTES", 2_000)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"{n}" * 1_000 for n in range(9)]}), path, use_dictionary=False)
    table, batches = ParquetTable([path]), list[int]()
    real = ParquetTable._batches

    def counted(self: ParquetTable, *place: Any) -> Any:
        for batch in real(self, *place):
            batches.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(ParquetTable, "_batches", counted)
    assert [table.cell([0, 0, n], "text")[0] for n in range(9)] == [str(n) for n in range(9)]
    assert sum(batches) == 9
    assert max(batches) <= 2
    assert table.cell([0, 0, 2], "text")[0] == "2"
    assert 9 < sum(batches) <= 14


def test_a_file_that_broke_while_it_was_read_is_no_fault_of_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", range(2_000), group=1_000)
    table = ParquetTable([path])
    assert table.cell([0, 0, 1], "n") == 1
    whole = path.read_bytes()
    path.write_bytes(b"")  # the open file has lost its bytes
    with pytest.raises(DatasetError, match=r"a\.parquet: the data changed"):
        table.cell([0, 1, 1], "n")
    path.write_bytes(whole[:4] + b"\xff" * (len(whole) - 8) + whole[-4:])
    with pytest.raises(DatasetError, match=r"a\.parquet' cannot be read any more"):
        ParquetTable.cell(table, [0, 0, 1], "text")


@pytest.mark.parametrize("locator", [[0, 9, 0], [5, 0, 0], 12, [0, 0, 99]])
def test_rows_that_are_gone_are_errors(
    tmp_path: Path, locator: list[int] | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "GROUP_CACHE_BYTES", 0)
    table = ParquetTable([write(tmp_path / "a.parquet", range(3))])
    with pytest.raises(DatasetError, match="the data changed"):
        table.cell(locator, "n")


def test_open_tables_pickle_without_handles(tmp_path: Path) -> None:
    table = ParquetTable([write(tmp_path / "a.parquet", range(3))])
    table.cell([0, 0, 1], "n")
    there = pickle.dumps(table)
    assert len(there) < 400
    assert pickle.loads(there).cell([0, 0, 1], "n") == 1


def test_jsonl_by_offset(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"n": n, "text": "é" * n}, ensure_ascii=False) for n in range(4)]
    path.write_text(lines[0] + "\n\n" + "\n".join(lines[1:]), encoding="utf-8")
    table = JsonlTable(path)
    assert table.columns == ("n", "text")
    found = [(table.cell(locator, "text"), row["n"]) for locator, row in table.rows(())]
    assert found == [("é" * n, n) for n in range(4)]


@pytest.mark.parametrize(("line", "says"), [("{", "line 2 is not JSON"), ("[1]", "line 2 is a JSON list")])
def test_broken_jsonl_names_the_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\n' + line + "\n")
    with pytest.raises(DatasetError, match=says):
        list(JsonlTable(path).rows(()))


def test_fingerprint_is_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(tmp_path / "a.parquet", range(5))
    copy = tmp_path / "elsewhere.parquet"
    copy.write_bytes(first.read_bytes())
    assert tables.fingerprint([first]) == tables.fingerprint([copy])
    assert tables.fingerprint([first]) != tables.fingerprint([first, copy])
    monkeypatch.setattr(tables, "_WHOLE_FILE_BYTES", 100)
    monkeypatch.setattr(tables, "_PROBE_BYTES", 64)
    probed = tables.fingerprint([first])
    changed = bytearray(first.read_bytes())
    changed[-20] ^= 1
    copy.write_bytes(changed)
    assert tables.fingerprint([copy]) != probed


def test_an_equal_length_edit_of_a_large_jsonl_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no footer that sums it up, so no part of it is left out."""
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps({"question": f"number {at:06d}", "answer": "yes"}) for at in range(2000)]
    path.write_text("\n".join(rows))
    small = tables.JsonlTable(path).fingerprint()
    monkeypatch.setattr(tables, "_WHOLE_FILE_BYTES", 100)
    monkeypatch.setattr(tables, "_PROBE_BYTES", 64)
    assert tables.JsonlTable(path).fingerprint() == small, "ids of small files stay"
    rows[777] = rows[777].replace("yes", "not")
    path.write_text("\n".join(rows))
    assert tables.JsonlTable(path).fingerprint() != small


@pytest.mark.parametrize(
    "path",
    [
        "test-00000-of-00001.parquet",
        "data/test-00000-of-00002.parquet",
        "cfg/test.parquet",
        "cfg/test/0.parquet",
        "x.parquet",
    ],
)
def test_folders_in_hub_layouts(tmp_path: Path, path: str) -> None:
    write(tmp_path / path, range(2))
    table = open_path(tmp_path, config="cfg", split="test")
    assert [row["n"] for _, row in table.rows(["n"])] == [0, 1]


def test_a_card_says_which_files_a_split_is(tmp_path: Path) -> None:
    write(tmp_path / "first.parquet", range(2))
    write(tmp_path / "second.parquet", range(9))
    write(tmp_path / "more/2.parquet", range(2, 4))
    write(tmp_path / "more/1.parquet", range(4, 6))
    parts = "  - split: wanted\n    path: [first.parquet, more/*]\n  - split: other\n    path: first.parquet\n"
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: one\n  data_files:\n{parts}---\n# Text")
    assert [row["n"] for _, row in open_path(tmp_path, "one", "wanted").rows(["n"])] == [0, 1, 4, 5, 2, 3]
    (tmp_path / "README.md").write_text("---\nconfigs: [{data_files: 3}\n---\n")
    with pytest.raises(DatasetError, match="no Parquet of 'one/wanted'"):
        open_path(tmp_path, "one", "wanted")


def test_folders_without_the_split_say_what_they_hold(tmp_path: Path) -> None:
    write(tmp_path / "data/train-0.parquet", range(2))
    write(tmp_path / "data/dev-0.parquet", range(2))
    with pytest.raises(DatasetError, match=r"no Parquet of 'test'.*data/dev-0.parquet"):
        open_path(tmp_path, split="test")
    with pytest.raises(DatasetError, match="does not exist"):
        open_path(tmp_path / "nowhere")
    (tmp_path / "rows.csv").write_text("a,b")
    with pytest.raises(DatasetError, match=r"not a \.jsonl or \.parquet"):
        open_path(tmp_path / "rows.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DatasetError, match="cannot read Parquet"):
        list(open_path(tmp_path / "broken.parquet").rows(["n"]))


def test_data_comes_before_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "root/mine/test-0.parquet", range(2))
    asked = write(tmp_path / "asked.parquet", range(5))
    monkeypatch.setenv("HERO_RAY_DATA", str(tmp_path / "root"))
    assert len(list(open_source("mine", SOURCE).rows(["n"]))) == 2
    assert len(list(open_source("mine", SOURCE, asked).rows(["n"]))) == 5


def test_hub_ids_are_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `datasets` client takes a folder where it takes a hub id: configuration and split are resolved by it."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = hub_layouts.write(tmp_path, "docvqa_val") / "docvqa_val"
    files = "data_files:\n  - split: validation\n    path: DocVQA/validation-*"
    (root / "README.md").write_text(f"---\nconfigs:\n- config_name: DocVQA\n  {files}\n---\n")
    source = Source(
        ids=(str(tmp_path / "gone"), str(root)), split="validation", columns=("questionId",), config="DocVQA"
    )
    table = open_source("docvqa_val", source)
    assert [row["questionId"] for _, row in table.rows(["questionId"])] == ["49153", "49154", "49155"]
    assert len(list(get("docvqa_val", hub=str(root)).samples())) == 3


def test_hub_data_in_other_formats_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "test.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    source = Source(ids=(str(folder),), split="test", columns=("n",), image=None)
    for _ in range(2):
        table = open_source("mine", source, cache=tmp_path / "converted")
        assert [row["n"] for _, row in table.rows(["n"])] == [1, 2]
    assert len(list((tmp_path / "converted").rglob("*.parquet"))) == 1


def test_no_source_names_every_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    source = Source(ids=(str(tmp_path / "one"), str(tmp_path / "two")), split="test", columns=("n",))
    with pytest.raises(DatasetError, match=r"one: .*two: .*data=FOLDER, or set HERO_RAY_DATA"):
        open_source("mine", source)


def test_bad_pictures_do_not_stop_the_stream(tmp_path: Path) -> None:
    from hero_ray.core.errors import ImageError

    schema, rows = hub_layouts._chartqa()
    rows[1]["image"] = None
    rows[2]["image"] = {"bytes": b"garbage", "path": "x.png"}
    pq.write_table(hub_layouts.table(schema, rows), tmp_path / "test-0.parquet")
    for keys in ("auto", "pixels"):
        benchmark = get("chartqa", data=tmp_path, image_keys=keys)
        samples = list(benchmark.samples())
        assert len({sample.image_key for sample in samples}) == 3
        assert benchmark.load_image(samples[0].image_ref).size == (48, 40)
        for sample in samples[1:]:
            with pytest.raises(ImageError):
                benchmark.load_image(sample.image_ref)


def test_repeated_ids_stay_apart(tmp_path: Path) -> None:
    hub_layouts.write(tmp_path, "mme")
    assert [sample.key for sample in get("mme", data=tmp_path / "mme").samples()] == [
        "existence/000000.jpg",
        "existence/000000.jpg#2",
        "code_reasoning/000001.jpg",
        "code_reasoning/000001.jpg#2",
    ]


def test_a_moved_dataset_is_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERO_RAY_DATA", str(hub_layouts.write(tmp_path / "here", "chartqa")))
    benchmark = get("chartqa")
    (sample, *_) = benchmark.samples()
    there = pickle.dumps(benchmark)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.setenv("HERO_RAY_DATA", str(tmp_path / "there"))
    assert pickle.loads(there).load_image(sample.image_ref).size == (48, 40)


def test_an_audit_compares_with_the_card(tmp_path: Path) -> None:
    hub_layouts.write(tmp_path, "chartqa", "textvqa_val", "mme")
    assert get("chartqa", data=tmp_path / "chartqa").audit() == [  # type: ignore[attr-defined]
        "3 documents; the full split has 2500",
        "2 of category 'human_test'; expected 1250",
        "1 of category 'augmented_test'; expected 1250",
    ]
    assert "2 distinct pictures; the full split has 1187" in get("mme", data=tmp_path / "mme").audit()  # type: ignore[attr-defined]
    schema, rows = hub_layouts._textvqa()
    rows[1]["answers"] = ["stop"]
    pq.write_table(hub_layouts.table(schema, rows), tmp_path / "textvqa_val/data/validation-00000-of-00001.parquet")
    findings = get("textvqa_val", data=tmp_path / "textvqa_val").audit()  # type: ignore[attr-defined]
    assert findings == ["34603: 1 answers instead of ten", "3 documents; the full split has 5000"]
