"""A few generated rows per benchmark in the exact column layout of the hub datasets, written as Parquet.

`python -m tests.hub_layouts FOLDER` writes them; `FOLDER` then works as `HERO_RAY_DATA`. Questions and pictures are
made up; column names, types, configurations and file names are the hub's.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests import hub_high_resolution
from tests.hub_cells import IMAGE, INT, TEXT, TEXTS, picture

__all__ = ["IMAGE", "LAYOUTS", "mask", "picture", "table", "write"]


def mask(left: int, size: tuple[int, int] = (48, 48)) -> dict[str, Any]:
    """White from column `left` on."""
    image = Image.new("L", size)
    image.paste(255, (left, 0, *size))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": "mask.png"}


def _vqav2() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    answer = pa.struct([("answer", TEXT), ("answer_confidence", TEXT), ("answer_id", INT)])
    schema = {
        "question_type": TEXT,
        "multiple_choice_answer": TEXT,
        "answers": pa.list_(answer),
        "image_id": INT,
        "answer_type": TEXT,
        "question_id": INT,
        "question": TEXT,
        "image": IMAGE,
    }
    rows = []
    for i, (image, question, said) in enumerate(
        [(9, "Is it red?", "yes"), (9, "How many?", "2"), (10, "What?", "dog")]
    ):
        answers = [
            {"answer": said if n < 7 else "no", "answer_confidence": "yes", "answer_id": n + 1} for n in range(10)
        ]
        rows.append(
            {
                "question_type": "what",
                "multiple_choice_answer": said,
                "answers": answers,
                "image_id": image,
                "answer_type": ("yes/no", "number", "other")[i],
                "question_id": image * 1000 + i,
                "question": question,
                "image": picture(image),
            }
        )
    return schema, rows


def _textvqa() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    schema = {
        "image_id": TEXT,
        "question_id": pa.int32(),
        "question": TEXT,
        "question_tokens": TEXTS,
        "image": IMAGE,
        "image_width": pa.int32(),
        "image_height": pa.int32(),
        "flickr_original_url": TEXT,
        "flickr_300k_url": TEXT,
        "answers": TEXTS,
        "image_classes": TEXTS,
        "set_name": TEXT,
        "ocr_tokens": TEXTS,
    }
    rows = [
        {
            "image_id": image,
            "question_id": 34602 + i,
            "question": question,
            "question_tokens": question.split(),
            "image": picture(20 + int(image[-1])),
            "image_width": 48,
            "image_height": 40,
            "flickr_original_url": "",
            "flickr_300k_url": "",
            "answers": ["stop"] * 6 + ["stop sign"] * 4,
            "image_classes": ["Sign"],
            "set_name": "val",
            "ocr_tokens": ["STOP"],
        }
        for i, (image, question) in enumerate(
            [("a1", "what does the Sign say?"), ("a1", "is it Red?"), ("a2", "what?")]
        )
    ]
    return schema, rows


def _vizwiz() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    schema = {"question_id": TEXT, "image": IMAGE, "question": TEXT, "answers": TEXTS, "category": TEXT}
    rows = [
        {
            "question_id": f"VizWiz_val_{i:08d}",
            "image": picture(30 + i, form="JPEG"),
            "question": "what IS this?",
            "answers": ["unanswerable"] * 5 + ["a can"] * 5,
            "category": ("unanswerable", "other")[i],
        }
        for i in range(2)
    ]
    return schema, rows


def _gqa() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    kinds = pa.struct([("detailed", TEXT), ("semantic", TEXT), ("structural", TEXT)])
    schema = {
        "id": TEXT,
        "imageId": TEXT,
        "question": TEXT,
        "answer": TEXT,
        "fullAnswer": TEXT,
        "isBalanced": pa.bool_(),
        "groups": pa.struct([("global", TEXT), ("local", TEXT)]),
        "entailed": TEXT,
        "equivalent": TEXT,
        "types": kinds,
        "semanticStr": TEXT,
    }
    rows = [
        {
            "id": f"2016{i}",
            "imageId": image,
            "question": "Is it to the left?",
            "answer": answer,
            "fullAnswer": f"{answer}.",
            "isBalanced": True,
            "groups": {"global": None, "local": "x"},
            "entailed": "",
            "equivalent": "",
            "types": {"detailed": "d", "semantic": "s", "structural": "verify"},
            "semanticStr": "",
        }
        for i, (image, answer) in enumerate([("n10", "yes"), ("n11", "t-shirt"), ("n10", "no")])
    ]
    return schema, rows


def _gqa_images() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    return {"id": TEXT, "image": IMAGE}, [{"id": f"n1{i}", "image": picture(40 + i)} for i in (1, 0)]


def _scienceqa() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    texts = ("task", "grade", "subject", "topic", "category", "skill", "lecture", "solution")
    schema = {
        "image": IMAGE,
        "question": TEXT,
        "choices": TEXTS,
        "answer": pa.int8(),
        "hint": TEXT,
        **dict.fromkeys(texts, TEXT),
    }
    rows = [
        {
            "image": picture(50 + i),
            "question": "Which is softer?",
            "choices": ["plastic", "wool", "glass"][: 2 + i],
            "answer": 1,
            "hint": ("", "Look at the picture.")[i],
            **dict.fromkeys(texts, "x"),
            "subject": ("natural science", "social science")[i],
        }
        for i in range(2)
    ]
    return schema, rows


def _chartqa() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    schema = {"type": TEXT, "question": TEXT, "answer": TEXT, "image": IMAGE}
    asked = [("human_test", 60, "10"), ("human_test", 60, "Yes"), ("augmented_test", 61, "0.5")]
    return schema, [{"type": t, "question": "How much?", "answer": a, "image": picture(n)} for t, n, a in asked]


def _docvqa() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    schema = {
        "questionId": TEXT,
        "question": TEXT,
        "question_types": TEXTS,
        "image": IMAGE,
        "docId": INT,
        "ucsf_document_id": TEXT,
        "ucsf_document_page_no": TEXT,
        "answers": TEXTS,
        "data_split": TEXT,
    }
    rows = [
        {
            "questionId": str(49153 + i),
            "question": "What is the ‘actual’ value?",
            "question_types": ["figure/diagram"],
            "image": picture(70 + doc, (60, 80)),
            "docId": doc,
            "ucsf_document_id": "pybv0228",
            "ucsf_document_page_no": "81",
            "answers": ["0.28", "0.280"],
            "data_split": "val",
        }
        for i, doc in enumerate((4, 5, 4))
    ]
    return schema, rows


def _ocrbench() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    schema = {"dataset": TEXT, "question": TEXT, "question_type": TEXT, "answer": TEXTS, "image": IMAGE}
    kinds = [
        ("IIIT5K", "what is written in the image?", "Regular Text Recognition", ["CENTRE"]),
        ("HME100k", "Please write out the expression.", "Handwritten Mathematical Expression Recognition", ["A+B"]),
    ]
    return schema, [
        {"dataset": d, "question": f"{q} ", "question_type": t, "answer": a, "image": picture(80 + i)}
        for i, (d, q, t, a) in enumerate(kinds)
    ]


def _mme() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    schema = {"question_id": TEXT, "image": IMAGE, "question": TEXT, "answer": TEXT, "category": TEXT}
    rows = []
    for n, category in enumerate(("existence", "code_reasoning")):
        for answer in ("Yes", "No"):
            rows.append(
                {
                    "question_id": f"{category}/{n:06d}.jpg",
                    "image": picture(90 + n),
                    "question": f"Is there a {answer}? Please answer yes or no.",
                    "answer": answer,
                    "category": category,
                }
            )
    return schema, rows


def _mmbench() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    texts = ("question", "hint", "answer", "A", "B", "C", "D", "category")
    schema = {
        "index": INT,
        **dict.fromkeys(texts, TEXT),
        "image": IMAGE,
        "source": TEXT,
        "L2-category": TEXT,
        "comment": TEXT,
        "split": TEXT,
    }
    rows = []
    for base, options in ((241, ["cat", "dog", "nan", "nan"]), (242, ["red", "blue", "green", "grey"])):
        present = [option for option in options if option != "nan"]
        for turn in range(len(present)):
            turned = present[turn:] + present[:turn] + options[len(present) :]
            rows.append(
                {
                    "index": base + turn * 1_000_000,
                    "question": "Which is it?",
                    "hint": "nan" if base == 241 else "A hint.",
                    "answer": "ABCD"[turned.index(present[0])],
                    **dict(zip("ABCD", turned, strict=True)),
                    "category": "object_localization",
                    "image": picture(base - 140),
                    "source": "s",
                    "L2-category": "finegrained_perception",
                    "comment": "nan",
                    "split": "dev",
                }
            )
    return schema, rows


def _pope() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    texts = ("id", "question_id", "question", "answer", "image_source", "category")
    schema = {**dict.fromkeys(texts, TEXT), "image": IMAGE}
    rows = []
    for number, category in enumerate(("adversarial", "popular", "random")):
        for n, answer in enumerate(("yes", "no")):
            rows.append(
                {
                    "id": str(number * 2 + n),
                    "question_id": str(n + 1),
                    "question": f"Is there a {('snowboard', 'car')[n]} in the image?",
                    "answer": answer,
                    "image_source": "COCO_val2014_000000310196",
                    "category": category,
                    "image": picture(110),
                }
            )
    return schema, rows


def _mmstar() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    meta = pa.struct([("image_path", TEXT), ("source", TEXT), ("split", TEXT)])
    schema = {
        "index": INT,
        "question": TEXT,
        "image": IMAGE,
        "answer": TEXT,
        "category": TEXT,
        "l2_category": TEXT,
        "meta_info": meta,
    }
    return schema, [
        {
            "index": i,
            "question": "What is it?\nOptions: A: cat, B: dog, C: bird, D: fish",
            "image": picture(120 + i),
            "answer": "AB"[i],
            "category": ("math", "coarse perception")[i],
            "l2_category": ("geometry", "image emotion")[i],
            "meta_info": {"image_path": "x.jpg", "source": "MMBench", "split": "val"},
        }
        for i in range(2)
    ]


def _realworldqa() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    schema = {"image": IMAGE, "image_path": TEXT, "question": TEXT, "answer": TEXT}
    order = "Please answer directly with only the letter of the correct option and nothing else."
    letter = f"Which way?\n\nA. Left\nB. Right\n{order}"
    word = "How many cars?\n\nPlease answer directly with a single word or number."
    return schema, [
        {"image": picture(130 + i, form="WEBP"), "image_path": f"{i}.webp", "question": question, "answer": answer}
        for i, (question, answer) in enumerate([(letter, "A"), (word, "2")])
    ]


def _ai2d() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    schema = {"question": TEXT, "options": TEXTS, "answer": TEXT, "image": IMAGE}
    return schema, [
        {
            "question": f"Which stage is {n}?",
            "options": ["egg", "larva", "pupa", "adult"],
            "answer": "1",
            "image": picture(140),
        }
        for n in range(2)
    ]


def _mmvet() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    texts = ("question_id", "question", "answer", "image_source", "capability")
    schema = {**dict.fromkeys(texts, TEXT), "image": IMAGE}
    return schema, [
        {
            "question_id": f"v1_{i}",
            "question": "What is x in the equation?",
            "answer": "-1<AND>-5",
            "image_source": "v1_0.png",
            "capability": ("ocr,math", "rec")[i],
            "image": picture(150),
        }
        for i in range(2)
    ]


def _seedbench() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    choices = ("choice_a", "choice_b", "choice_c", "choice_d")
    schema = {
        "answer": TEXT,
        **dict.fromkeys(choices, TEXT),
        "data_id": TEXT,
        "data_type": TEXT,
        "question": TEXT,
        "question_id": TEXT,
        "question_type_id": pa.int16(),
        "image": pa.list_(IMAGE),
        "segment": pa.list_(pa.int64()),
    }
    rows = []
    for i, (kind, data, frames) in enumerate([("video", "v1", 3), ("image", "101", 1), ("image", "101", 1)]):
        rows.append(
            {
                "answer": "A",
                **{choice: f"option {n}" for n, choice in enumerate(choices)},
                "data_id": data,
                "data_type": kind,
                "question": "How many towels?",
                "question_id": str(100 + i),
                "question_type_id": 5,
                "image": [picture(160)] * frames,
                "segment": None,
            }
        )
    return schema, rows


def _duts() -> tuple[dict[str, pa.DataType], list[dict[str, Any]]]:
    rows = [{"image": picture(170 + i, (48, 48)), "mask": mask((24, 48)[i])} for i in range(2)]
    return {"image": IMAGE, "mask": IMAGE}, rows


LAYOUTS = {
    "vqav2_val": [("data/validation-00000-of-00001.parquet", _vqav2)],
    "textvqa_val": [("data/validation-00000-of-00001.parquet", _textvqa)],
    "vizwiz_vqa_val": [("data/val-00000-of-00001.parquet", _vizwiz)],
    "gqa": [
        ("testdev_balanced_instructions/testdev-00000-of-00001.parquet", _gqa),
        ("testdev_balanced_images/testdev-00000-of-00001.parquet", _gqa_images),
    ],
    "scienceqa_img": [("ScienceQA-IMG/test-00000-of-00001.parquet", _scienceqa)],
    "chartqa": [("data/test-00000-of-00001.parquet", _chartqa)],
    "docvqa_val": [("DocVQA/validation-00000-of-00001.parquet", _docvqa)],
    "ocrbench": [("data/test-00000-of-00001.parquet", _ocrbench)],
    "mme": [("data/test-00000-of-00001.parquet", _mme)],
    "mmbench_en_dev": [("en/dev-00000-of-00001.parquet", _mmbench)],
    "pope": [("data/test-00000-of-00001.parquet", _pope)],
    "mmstar": [("mmstar.parquet", _mmstar)],
    "realworldqa": [("data/test-00000-of-00001.parquet", _realworldqa)],
    "ai2d": [("data/test-00000-of-00001.parquet", _ai2d)],
    "mmvet": [("data/test-00000-of-00001.parquet", _mmvet)],
    "seedbench": [("data/test-00000-of-00001.parquet", _seedbench)],
    "duts": [("data/test-00000-of-00001.parquet", _duts)],
    **hub_high_resolution.LAYOUTS,
}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A column type as the `datasets` client records it."""
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {kind.field(i).name: _feature(kind.field(i).type) for i in range(kind.num_fields)}
    return {"dtype": str(kind).replace("double", "float64"), "_type": "Value"}


def table(schema: dict[str, pa.DataType], rows: list[dict[str, Any]]) -> pa.Table:
    """Rows under a schema, with the client's own record of the types; every column must be given in every row."""
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in schema.items()}
    features = {name: _feature(kind) for name, kind in schema.items()}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(root: Path, *names: str) -> Path:
    """Write the named benchmarks (all by default) under `root/<benchmark>/`."""
    for name in names or LAYOUTS:
        for path, make in LAYOUTS[name]:
            target = root / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table(*make()), target)
        if card := hub_high_resolution.CARDS.get(name):
            (root / name / "README.md").write_text(card)
    return root


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
