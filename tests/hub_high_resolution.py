"""Rows of the high-resolution benchmarks in their hub layouts; see `hub_layouts`, which they are part of."""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa

from tests.hub_cells import IMAGE, INT, TEXT, TEXTS, picture

Rows = tuple[dict[str, pa.DataType], list[dict[str, Any]]]


def _hrbench(first: int, size: tuple[int, int]) -> Rows:
    """Two questions in four orders each; the picture is base64 text, not a picture column."""
    texts = ("question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image")
    schema = {"index": INT, **dict.fromkeys(texts, TEXT)}
    rows = []
    for number, (category, options) in enumerate(
        [("single", ["red", "blue", "green", "grey"]), ("cross", ["left", "right", "above", "below"])]
    ):
        pixels = base64.b64encode(picture(first + number, size, "JPEG")["bytes"]).decode()
        for turn in range(4):
            turned = options[turn:] + options[:turn]
            rows.append(
                {
                    "index": 4 * number + turn,
                    "question": "What colour is the bag? " if category == "single" else "Where is the bag?",
                    "answer": "ABCD"[turned.index(options[0])],
                    "category": category,
                    **dict(zip("ABCD", turned, strict=True)),
                    "cycle_category": str(turn),
                    "image": pixels,
                }
            )
    return schema, rows


def hrbench4k() -> Rows:
    return _hrbench(150, (96, 54))


def hrbench8k() -> Rows:
    return _hrbench(160, (192, 108))


def vstar() -> Rows:
    schema = {"image": IMAGE, "text": TEXT, "category": TEXT, "label": TEXT, "question_id": TEXT}
    closing = "Answer with the option's letter from the given choices directly."
    asked = [
        (
            "direct_attributes",
            "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather\n" + closing,
        ),
        (
            "relative_position",
            "Is the red car on the left or right side of the dog?\n(A) right\n(B) left\n" + closing,
        ),
        ("direct_attributes", "What is the color of the cup? (A) dark blue (B) white, or grey (C) red"),
    ]
    rows = [
        {
            "image": picture(170 + number, (96, 80), "JPEG"),
            "text": text,
            "category": category,
            "label": "AB"[number % 2],
            "question_id": str(number),
        }
        for number, (category, text) in enumerate(asked)
    ]
    return schema, rows


def infovqa() -> Rows:
    schema = {
        "questionId": TEXT,
        "question": TEXT,
        "answers": TEXTS,
        "answer_type": TEXTS,
        "image": IMAGE,
        "image_url": TEXT,
        "operation/reasoning": TEXTS,
        "ocr": TEXT,
        "data_split": TEXT,
    }
    rows = [
        {
            "questionId": str(98_313 + number),
            "question": "Which social platform has heavy female audience?",
            "answers": ["pinterest"] if number else ["40%", "40 %"],
            "answer_type": ["single span"],
            "image": picture(180 + page, (40, 160)),
            "image_url": f"https://example.org/{page}.png",
            "operation/reasoning": [],
            "ocr": "[]",
            "data_split": "val",
        }
        for number, page in enumerate((0, 0, 1))
    ]
    return schema, rows


def _card(split: str) -> str:
    """The repository's card: its files are not named after their splits."""
    files = f"  - split: {split}\n    path: hr_bench_{split.removeprefix('hrbench_')}.parquet\n"
    return f"---\nconfigs:\n- config_name: hrbench_version_split\n  data_files:\n{files}---\n"


CARDS = {"hrbench4k": _card("hrbench_4k"), "hrbench8k": _card("hrbench_8k")}
LAYOUTS = {
    "hrbench4k": [("hr_bench_4k.parquet", hrbench4k)],
    "hrbench8k": [("hr_bench_8k.parquet", hrbench8k)],
    "vstar_bench": [("data/test-00000-of-00001.parquet", vstar)],
    "infovqa_val": [("InfographicVQA/validation-00000-of-00001.parquet", infovqa)],
}
