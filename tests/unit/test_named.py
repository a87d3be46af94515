"""Cells, questions and pictures are named as those who look for them do."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from hero_ray.benchmarks.custom import picture_names
from hero_ray.core.types import Prediction, Sample
from hero_ray.pipeline.status import describe_failures
from hero_ray.results.exchange import from_runs
from hero_ray.results.named import cell_names, failures, picture_of, question_name
from hero_ray.store import Store, open_store
from tests import fake_results as fake


@pytest.mark.parametrize(
    ("benchmark", "key", "extra", "name"),
    [
        ("file:shop.jsonl", "16", {"doc_id": 16}, "row 17"),
        ("file:shop.jsonl", "lamp", {"doc_id": 0}, "row 1 (lamp)"),
        ("file:shop.jsonl", "16", None, "16"),
        ("textvqa_val", "34602", {"doc_id": 0}, "34602"),
    ],
)
def test_rows_of_own_data_are_counted_from_one(benchmark: str, key: str, extra: dict[str, int], name: str) -> None:
    assert question_name(benchmark, key, extra) == name


def own_run(store: Store, data: Path) -> None:
    """Two rows asked of two seeds of random; the second row failed in the second seed."""
    name = f"file:{data}"
    cells = [fake.cell("random", 0.2, name, seed) for seed in (0, 1)]
    store.create_run("r", "s", {}, "h")
    store.add_cells("r", cells, {cell.id: 2 for cell in cells})
    for cell in cells:
        rows = []
        for number in range(2):
            sample = Sample(name, str(number), "What?", ["yes"], f"p{number}", None, "", {"doc_id": number})
            rows.append(fake.answer(cell, sample, 1.0))
        if cell.seed:
            rows[1] = Prediction(cell.id, sample, error_type="ImageError", error_message="cut short")
        store.write_unit("r", rows)


def test_a_failure_names_its_cell_and_row(tmp_path: Path) -> None:
    data = tmp_path / "shop.jsonl"
    with open_store(":memory:") as store:
        own_run(store, data)
        (text,) = describe_failures(failures(store, "r", 50))
        assert text == f"random@20% seed 1 on file:{data}, row 2: ImageError: cut short"
        ids = [cell.id for cell in store.cells("r")]
        assert sorted(cell_names(store.cells("r")).values()) == ["random@20% seed 0", "random@20% seed 1"]
        assert not any(cell in text for cell in ids)


def test_exported_answers_name_their_pictures(tmp_path: Path) -> None:
    data = tmp_path / "shop.jsonl"
    rows = [{"image": name, "question": "What?", "answer": "yes"} for name in ("lamp.jpg", "sofa.jpg")]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_store(":memory:") as store:
        own_run(store, data)
        named = {row["sample_key"]: row["picture"] for row in from_runs.predictions(store, "r")}
        assert named == {"0": "lamp.jpg", "1": "sofa.jpg"}
        data.unlink()
        gone = {row["sample_key"]: row["picture"] for row in from_runs.predictions(store, "r")}
        assert gone == {"0": f"row 1 of file:{data}", "1": f"row 2 of file:{data}"}
    assert picture_of("textvqa_val")({"doc_id": 4}) == "row 5 of textvqa_val"
    assert picture_of("textvqa_val")({}) == ""


def test_a_row_that_holds_its_picture_has_no_file(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.jsonl"
    cells = ["a.png", "data:image/png;base64,AAAA", "A" * 600, None]
    mixed.write_text("".join(json.dumps({"image": cell, "question": "?"}) + "\n" for cell in cells))
    assert picture_names(str(mixed)) == ["a.png", "", "", ""]
    parquet.write_table(pa.table({"image": [b"\x89PNG", b"\x89PNG"]}), tmp_path / "bytes.parquet")
    assert picture_names(str(tmp_path / "bytes.parquet")) == []
    assert picture_names(str(tmp_path / "gone.jsonl")) == []
