"""`file:PATH`: one's own JSONL or Parquet as a benchmark, as docs/custom_data.md shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hero_ray.benchmarks import get
from hero_ray.core.errors import DatasetError, UnknownNameError
from hero_ray.core.plan import units
from tests.hub_layouts import picture

PAGE = Path(__file__).parents[2] / "docs" / "custom_data.md"


def jsonl(folder: Path, rows: list[dict[str, object]]) -> Path:
    for name, number in (("one.png", 1), ("two.png", 2)):
        (folder / name).write_bytes(picture(number)["bytes"])
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS: list[dict[str, object]] = [
    {"image": "one.png", "question": "How many?", "answer": 12, "id": "a", "category": "count"},
    {"image": "one.png", "question": "Which?", "answers": ["B"], "options": ["cat", "dog"], "id": "b"},
    {"image": "two.png", "question": "What?", "answer": "a sign"},
]


def test_jsonl_rows(tmp_path: Path) -> None:
    benchmark = get(f"file:{jsonl(tmp_path, ROWS)}", suffix="\nBe brief.")
    samples = list(benchmark.samples())
    assert [sample.key for sample in samples] == ["a", "b", "2"]
    assert [sample.references for sample in samples] == [["12"], ["B"], ["a sign"]]
    assert [sample.category for sample in samples] == ["count", "", ""]
    assert [len(unit.samples) for unit in units(samples)] == [2, 1]
    assert benchmark.prompt(samples[0], "llava-next") == "How many?\nBe brief."
    assert benchmark.prompt(samples[1], "llava-next").startswith(
        "Which?\nA. cat\nB. dog\nAnswer with the option's letter"
    )
    assert benchmark.load_image(samples[2].image_ref).size == (48, 40)


def test_parquet_rows(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": [picture(n)["bytes"] for n in (1, 1, 2)],
            "question": ["q"] * 3,
            "answers": [["x", "y"], ["z"], ["z"]],
        }
    )
    pq.write_table(table, tmp_path / "mine.parquet")
    benchmark = get(f"file:{tmp_path / 'mine.parquet'}", "contains")
    samples = list(benchmark.samples())
    assert [sample.key for sample in samples] == ["0", "1", "2"]
    assert len(units(samples)) == 2
    assert benchmark.score("it is Y.", samples[0].references) == {"contains": 1.0}


@pytest.mark.parametrize(
    ("metric", "prediction", "answers", "value"),
    [
        ("exact_match", " Red ", ["blue", "red"], 1.0),
        ("exact_match", "red.", ["red"], 0.0),
        ("contains", "a red car", ["red"], 1.0),
        ("vqa", "two", ["2", "2", "3"], pytest.approx((1 / 3 + 1 / 3 + 2 / 3) / 3)),
        ("anls", "Pariss", ["Paris"], pytest.approx(5 / 6)),
        ("relaxed", "10.4", ["10"], 1.0),
        ("letter", "The answer is (B)", ["b"], 1.0),
        ("yes_no", "Yes, it is.", ["yes"], 1.0),
    ],
)
def test_metrics_by_name(metric: str, prediction: str, answers: list[str], value: float) -> None:
    assert get("file:any.jsonl", metric).score(prediction, answers) == {metric: value}


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'exact_match'"):
        get("file:any.jsonl", "exact_matches")
    with pytest.raises(DatasetError, match="does not exist"):
        list(get(f"file:{tmp_path / 'none.jsonl'}").samples())
    with pytest.raises(DatasetError, match=r"lacks \['image'\]"):
        list(get(f"file:{jsonl(tmp_path, [{'question': 'q', 'answer': 'a'}])}").samples())
    with pytest.raises(DatasetError, match="row 2, column answer: holds no answer"):
        list(get(f"file:{jsonl(tmp_path, [ROWS[0], {'image': 'one.png', 'question': 'q'}])}").samples())
    with pytest.raises(DatasetError, match="several answers"):
        get("file:any.jsonl", "vqa").score("x", ["x"])


def test_the_page_works_as_written(tmp_path: Path) -> None:
    """Every block of the page runs, in order, in an empty folder with one picture."""
    Image.new("RGB", (64, 48), "white").save(tmp_path / "kitchen.jpg")
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    rows = [text for language, text in blocks if language == "json"]
    (tmp_path / "mine.jsonl").write_text("".join(rows))
    for code in (text for language, text in blocks if language == "python"):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout
