"""One's own data is checked when it is read: what cannot be scored is one line with row and column, never a 0."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hero_ray.benchmarks import get
from hero_ray.benchmarks.custom import RULES
from hero_ray.benchmarks.letters import named_letter
from hero_ray.cli import main
from hero_ray.core.errors import ConfigError, DatasetError, HeroRayError, ParameterError, UnknownNameError
from hero_ray.core.plan import units
from hero_ray.core.types import Sample, Scored
from tests.hub_layouts import picture

PICTURE = picture(1)["bytes"]


def written(folder: Path, *rows: dict[str, Any], name: str = "mine.jsonl") -> str:
    (folder / "a.png").write_bytes(PICTURE)
    full = [{"image": "a.png", "question": "What?"} | row for row in rows]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in full), encoding="utf-8")
    return f"file:{folder / name}"


def read(folder: Path, *rows: dict[str, Any], metric: str | None = None, **options: Any) -> list[Sample]:
    return list(get(written(folder, *rows), metric, **options).samples())


def parquet(folder: Path, columns: dict[str, Any], metric: str | None = None) -> list[Sample]:
    table = pa.table({"image": [PICTURE] * len(next(iter(columns.values()))), **columns})
    pq.write_table(table, folder / "mine.parquet")
    return list(get(f"file:{folder / 'mine.parquet'}", metric).samples())


BATH = ["bath", "kitchen"]


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (BATH, BATH),
        ("['bath', 'kitchen']", BATH),
        ('["bath","kitchen"]', BATH),
        ("('bath', 'kitchen')", BATH),
        ({"A": "bath", "B": "kitchen"}, BATH),
        ({"B": "kitchen", "A": "bath"}, BATH),
        ('{"A": "bath", "B": "kitchen"}', BATH),
        ("{'a': 'bath', 'b': 'kitchen'}", BATH),
        ({"0": "bath", "1": "kitchen", "2": None}, BATH),
        ({"label": ["A", "B"], "text": BATH}, BATH),
        (["bath", "kitchen", None, None], BATH),
        (["bath", "kitchen", float("nan"), ""], BATH),
        (["A. bath", "B. kitchen"], BATH),
        (["(A) bath", "(B) kitchen"], BATH),
        ("['bath', 'kitchen', nan, nan]", BATH),
        ("[np.str_('bath'), np.str_('kitchen')]", BATH),
        ("array(['bath', 'kitchen'], dtype=object)", BATH),
        ("{'A': 'bath', 'B': 'kitchen', 'C': nan}", BATH),
        ([1.0, 2], ["1", "2"]),
        (["it's", "isn't"], ["it's", "isn't"]),
        (None, []),
        ("", []),
        ([], []),
        ([None, None], []),
    ],
)
def test_options_are_read_in_every_form(tmp_path: Path, options: Any, texts: list[str]) -> None:
    (sample,) = read(tmp_path, {"options": options, "answer": "B" if texts else "word"})
    assert sample.extra["options"] == texts
    prompt = get("file:any.jsonl").prompt(sample, "llava-next")
    shown = "".join(f"{letter}. {text}\n" for letter, text in zip("ABC", texts, strict=False))
    assert prompt.startswith(f"What?\n{shown}Answer with" if texts else "What?")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("bath, kitchen", "holds the text 'bath, kitchen'; write a list"),
        ("['bath' 'kitchen']", "a list without commas"),
        ("['bath', ..., 'kitchen']", "holds a cell of type ellipsis"),
        (3, "holds the number 3"),
        (True, "holds true"),
        (["bath"], "holds 1 option"),
        ([["bath"], ["kitchen"]], "holds a list"),
        (["bath", None, "kitchen"], "nothing at option B"),
        ({"A": "bath", "C": "kitchen"}, "has the letters A, C; expected A, B"),
        ([True, False], "holds true"),
        ([f"option {n}" for n in range(27)], "holds 27 options; from 2 to 26"),
        ({"label": ["A"], "text": BATH}, "unequal number"),
    ],
)
def test_other_options_are_refused_with_row_and_column(tmp_path: Path, options: Any, says: str) -> None:
    with pytest.raises(DatasetError, match=rf"row 2, column options: .*{says}"):
        read(tmp_path, {"answer": "x"}, {"options": options, "answer": "B"})


def test_options_of_parquet(tmp_path: Path) -> None:
    fixed = pa.array([["bath", "kitchen", None, None]], pa.list_(pa.string(), 4))
    mapped = pa.array([[("A", "bath"), ("B", "kitchen")]], pa.map_(pa.string(), pa.string()))
    struct = pa.array([{"A": "bath", "B": "kitchen", "C": None}])
    for column in (fixed, mapped, struct, pa.array(["['bath', 'kitchen']"])):
        (sample,) = parquet(tmp_path, {"question": ["q"], "options": column, "answer": ["B"]})
        assert (sample.extra["options"], sample.references) == (BATH, ["B"])


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("B", BATH, "B"),
        ("b", BATH, "B"),
        ("(B)", BATH, "B"),
        ("B.", BATH, "B"),
        ("kitchen", BATH, "B"),
        (" Kitchen ", BATH, "B"),
        (4, [2, 4, 6], "B"),
        ("1", {"1": "bath", "2": "kitchen"}, "A"),
        (2, {"1": "bath", "2": "kitchen"}, "B"),
        ("J", list("qrstuvwxyz"), "J"),
    ],
)
@pytest.mark.parametrize("metric", ["exact_match", "letter"])
def test_the_gold_is_the_letter_of_its_option(
    tmp_path: Path, answer: Any, options: Any, letter: str, metric: str
) -> None:
    (sample,) = read(tmp_path, {"options": options, "answer": answer}, metric=metric)
    assert sample.references == [letter]
    assert get("file:any.jsonl", metric).score(letter, sample.references, sample) == {metric: 1.0}


@pytest.mark.parametrize(
    ("answer", "options", "says"),
    [
        (1, BATH, r"neither a letter from A to B .* \(B if it counts from 0, A if it counts from 1\)"),
        ("2", BATH, r"write the letter \(B if it counts from 1\)"),
        ("E", BATH, "neither a letter from A to B"),
        ("sauna", BATH, "'sauna', which is neither"),
        ("twin", ["twin", "twin"], "option A or B"),
        ("A", ["B", "A"], "option A or B"),
    ],
)
def test_a_gold_that_is_no_option_is_refused(tmp_path: Path, answer: Any, options: Any, says: str) -> None:
    with pytest.raises(DatasetError, match=rf"row 1, column answer: .*{says}"):
        read(tmp_path, {"options": options, "answer": answer})


@pytest.mark.parametrize("metric", ["contains", "vqa", "anls", "relaxed", "yes_no"])
def test_metrics_that_would_find_a_letter_anywhere_are_refused_with_options(tmp_path: Path, metric: str) -> None:
    with pytest.raises(DatasetError, match="column options: make the answer a letter; score by exact_match or letter"):
        read(tmp_path, {"options": BATH, "answers": ["B", "B"]}, metric=metric)


TEN = [f"thing {n}" for n in range(10)]


@pytest.mark.parametrize(
    ("prediction", "options", "gold", "score"),
    [
        ("J", TEN, "J", 1.0),
        ("J.", TEN, "J", 1.0),
        ("The answer is J", TEN, "J", 1.0),
        ("Don't know", TEN, "D", 0.0),
        ("Don\u2019t know", TEN, "D", 0.0),
        ("Cannot determine", TEN, "C", 0.0),
        ("Bird", ["cat", "dog"], "B", 0.0),
        ("b", ["cat", "dog"], "B", 1.0),
        ("A dog", ["cat", "dog"], "A", 0.0),
        ("I see a dog", TEN, "I", 0.0),
        ("**B**", ["cat", "dog"], "B", 1.0),
        ("B. dog", ["cat", "dog"], "B", 1.0),
        ("(b) dog", ["cat", "dog"], "B", 1.0),
        ("A or B", ["cat", "dog"], "A", 0.0),
        ("(A) or (B)?", ["cat", "dog"], "A", 0.0),
        ("C", ["cat", "dog"], "B", 0.0),
        ("", ["cat", "dog"], "A", 0.0),
        ("\u7b54\u6848\u662fB", ["cat", "dog"], "B", 1.0),
        ("Option A is wrong, the answer is B", ["cat", "dog"], "B", 1.0),
        ("It is not A but B.", ["cat", "dog"], "B", 1.0),
    ],
)
def test_letters_are_those_of_the_row_and_stand_alone(
    tmp_path: Path, prediction: str, options: list[str], gold: str, score: float
) -> None:
    (sample,) = read(tmp_path, {"options": options, "answer": gold}, metric="letter")
    assert get("file:any.jsonl", "letter").score(prediction, sample.references, sample) == {"letter": score}


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ({"answer": 4.0}, ["4"]),
        ({"answer": 12}, ["12"]),
        ({"answer": 0.5}, ["0.5"]),
        ({"answer": 1e22}, ["1" + "0" * 22]),
        ({"answer": ""}, [""]),
        ({"answer": "4.0"}, ["4.0"]),
        ({"answer": "[5]"}, ["[5]"]),
        ({"answers": ["x", None]}, ["x"]),
        ({"answers": ["x", float("nan"), 3.0]}, ["x", "3"]),
        ({"answers": "['Paris', \"it's paris\"]"}, ["Paris", "it's paris"]),
        ({"answer": "['Paris', 'paris']"}, ["Paris", "paris"]),
        ({"answers": None, "answer": "x"}, ["x"]),
        ({"answers": ["x", "y"], "answer": "x"}, ["x", "y"]),
        ({"answer": ["x", "y"]}, ["x", "y"]),
        ({"answers": [{"answer": "x", "answer_confidence": "yes"}, {"answer": 2.0}]}, ["x", "2"]),
        ({"answers": {"text": ["x"], "answer_start": [17]}}, ["x"]),
        ({"answer": {"answer": "x", "answer_confidence": "maybe"}}, ["x"]),
        # What str() and repr() of pandas, numpy 2 and half-converted JSON leave in a text column.
        ({"answers": "['x', nan]"}, ["x"]),
        ({"answer": "['x', nan, None]"}, ["x"]),
        ({"answers": "['x', null, 3.0]"}, ["x", "3"]),
        ({"answers": "[np.str_('x'), np.str_('y')]"}, ["x", "y"]),
        ({"answer": "[np.str_('x'), np.str_('y')]"}, ["x", "y"]),
        ({"answers": "array(['x', 'y'], dtype=object)"}, ["x", "y"]),
        ({"answer": "array(['x', 'y'], dtype='<U1')"}, ["x", "y"]),
        ({"answers": "{'text': array(['x'], dtype=object), 'answer_start': array([17])}"}, ["x"]),
        ({"answers": "{'text': ['x', 'y'], 'answer_start': [3, 9]}"}, ["x", "y"]),
        ({"answers": '[{"answer": "x"}, {"answer": "y"}]'}, ["x", "y"]),
        ({"answer": "[{'answer': 'x', 'answer_confidence': 'yes'}, {'answer': 'y'}]"}, ["x", "y"]),
        ({"answer": "{'answer': 'x', 'answer_confidence': 'yes'}"}, ["x"]),
        ({"answer": '{"answer": "x"}'}, ['{"answer": "x"}']),  # JSON that the model shall write
        ({"answers": r"['\d', 'x']"}, [r"\d", "x"]),
        ({"answer": "{'a'}"}, ["{'a'}"]),
        ({"answer": "nan"}, ["nan"]),
        ({"answer": "array(n)"}, ["array(n)"]),
    ],
)
def test_answers_are_read_by_type(tmp_path: Path, cell: dict[str, Any], answers: list[str]) -> None:
    (sample,) = read(tmp_path, cell)
    assert sample.references == answers
    assert get("file:any.jsonl").score(answers[-1], answers, sample) == {"exact_match": 1.0}


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ({"answer": None}, "column answer: holds no answer"),
        ({"answer": float("nan")}, "column answer: holds no answer"),
        ({"answers": [None]}, "column answers: holds no answer"),
        ({"answers": []}, "column answers: holds no answer"),
        ({"answer": float("inf")}, "column answer: holds inf"),
        ({"answer": True}, "column answer: holds true; .*yes_no"),
        ({"answers": "['x' 'y']"}, "column answers: holds the text .*a list without commas"),
        ({"answers": "{'value': 'x'}"}, "column answers: holds a record with value"),
        ({"answers": "array(['x', ..., 'y'], dtype=object)"}, "column answers: holds a cell of type ellipsis"),
        ({"answers": "[Timestamp('2020-01-01')]"}, "column answers: holds the text .*no list that can be read"),
        ({"answers": "['x', 'y"}, "column answers: holds the text .*no list that can be read"),
        ({"answers": [["x"]]}, "column answers: holds a list inside a list"),
        ({"answer": {"value": "x"}}, "column answer: holds a record with value; expected one of answer, answers, text"),
        ({"answer": {"answer": "x", "text": "y"}}, "column answer: holds a record with answer, text"),
        ({"answers": ["x"], "answer": "y"}, "column answer: 'y' is not among the answers"),
        ({"answer": "x", "question": None}, "column question: holds nothing"),
        ({"answer": "x", "question": "  "}, "column question: holds an empty text"),
        ({"answer": "x", "question": 7}, "column question: holds the number 7"),
        ({"answer": "x", "question": ["q"]}, "column question: holds a list"),
        ({"answer": "x", "question": "<image> or <image>?"}, "column question: names several pictures"),
        ({"answer": "x", "id": ["a"]}, "column id: holds a list"),
        ({"answer": "x", "id": True}, "column id: holds true"),
        ({"answer": "x", "category": {"a": 1}}, "column category: holds a record"),
    ],
)
def test_other_cells_are_refused_with_row_and_column(tmp_path: Path, cell: dict[str, Any], says: str) -> None:
    with pytest.raises(DatasetError, match=rf"mine.jsonl row 2, {says}") as caught:
        read(tmp_path, {"answer": "fine"}, cell)
    assert "\n" not in str(caught.value)


def test_what_pandas_writes(tmp_path: Path) -> None:
    numbers = {"question": ["q"] * 3, "answer": pa.array([4.0, 5.0, 7.0]), "id": pa.array([10.0, None, 30.0])}
    assert [(s.references, s.key) for s in parquet(tmp_path, numbers)] == [(["4"], "10"), (["5"], "1"), (["7"], "30")]
    money = parquet(tmp_path, {"question": ["q"] * 2, "answer": pa.array([Decimal("1.00"), Decimal("1.50")])})
    assert [s.references for s in money] == [["1"], ["1.5"]]
    truth = parquet(tmp_path, {"question": ["q"] * 2, "answer": pa.array([True, False])}, "yes_no")
    assert [s.references for s in truth] == [["yes"], ["no"]]
    with pytest.raises(DatasetError, match=r"row 2, column answer: holds no answer"):
        parquet(tmp_path, {"question": ["q"] * 2, "answer": pa.array([4.0, None])})
    with pytest.raises(DatasetError, match=r"row 1, column answer: holds a cell of type date"):
        parquet(tmp_path, {"question": ["q"], "answer": pa.array([datetime.date(2026, 1, 1)])})
    with pytest.raises(DatasetError, match=r"row 1, column answer: holds bytes"):
        parquet(tmp_path, {"question": ["q"], "answer": pa.array([b"x"])})


@pytest.mark.parametrize(
    ("metric", "cell", "says"),
    [
        ("letter", {"answer": "kitchen"}, "'kitchen' can never score under letter; write the option's letter"),
        ("yes_no", {"answer": "maybe"}, "'maybe' can never score under yes_no; write yes or no"),
        ("yes_no", {"answer": 1}, "'1' can never score under yes_no"),
        ("relaxed", {"answer": "nan"}, "'nan' can never score under relaxed"),
        ("relaxed", {"answer": "1e999"}, "'1e999' can never score under relaxed"),
        ("vqa", {"answer": "x"}, "needs several answers"),
    ],
)
def test_a_gold_that_no_model_can_reach_is_refused(
    tmp_path: Path, metric: str, cell: dict[str, Any], says: str
) -> None:
    with pytest.raises(DatasetError, match=rf"row 1, column answer: .*{says}"):
        read(tmp_path, cell, metric=metric)


def test_an_empty_gold_matches_an_empty_prediction_only(tmp_path: Path) -> None:
    for metric in ("contains", "exact_match"):
        (sample,) = read(tmp_path, {"answer": ""}, metric=metric)
        benchmark = get("file:any.jsonl", metric)
        assert benchmark.score("anything", sample.references, sample) == {metric: 0.0}
        assert benchmark.score(" ", sample.references, sample) == {metric: 1.0}


def test_a_metric_per_row(tmp_path: Path) -> None:
    rows = [
        {"answer": "Paris", "metric": "anls", "category": "text"},
        {"answer": True, "metric": "yes_no", "category": "truth"},
        {"answer": "kitchen", "options": BATH, "metric": "letter"},
        {"answer": "four", "metric": None},
    ]
    benchmark = get(written(tmp_path, *rows))
    samples = list(benchmark.samples())
    assert (benchmark.flavour, benchmark.main_metric) == ("by_row", "score")
    said = ("Pariss", "Yes, it is", "(b)", "five")
    scored = [Scored(s, text, benchmark.score(text, s.references, s)) for s, text in zip(samples, said, strict=True)]
    assert [item.scores["score"] for item in scored] == [pytest.approx(5 / 6), 1.0, 1.0, 0.0]
    found = {(metric.name, metric.category): (metric.value, metric.n) for metric in benchmark.aggregate(scored)}
    assert found["score", ""] == (pytest.approx(17 / 24), 4)
    assert found["anls", ""] == (pytest.approx(5 / 6), 1)
    assert found["exact_match", ""] == (0.0, 1)
    assert found["score", "truth"] == (1.0, 1)
    assert (
        get(benchmark.name, "contains").flavour == get(benchmark.name, "by_row:contains").flavour == "by_row:contains"
    )
    assert get("file:any.jsonl", "by_row").score("x", ["x"]) == {"score": 1.0}


def test_metrics_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="row 1, column metric: 'bleu' is none of exact_match, "):
        read(tmp_path, {"answer": "x", "metric": "bleu"})
    with pytest.raises(DatasetError, match="row 2, column metric: the first row has no such column"):
        read(tmp_path, {"answer": "x"}, {"answer": "x", "metric": "anls"})
    with pytest.raises(UnknownNameError, match=r"unknown metric 'anl'. Did you mean 'anls'"):
        get("file:any.jsonl", metric="anl")
    with pytest.raises(ParameterError, match="give one"):
        get("file:any.jsonl", "anls", metric="letter")
    assert get("file:any.jsonl", metric="anls").main_metric == "anls"


def test_equal_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="row 3, column id: 'b' is the id of row 1 too"):
        read(tmp_path, {"answer": "x", "id": "b"}, {"answer": "x"}, {"answer": "x", "id": "b "})
    with pytest.raises(DatasetError, match="row 2, column id: '1' is the id of row 1 too"):
        read(tmp_path, {"answer": "x", "id": 1.0}, {"answer": "x"})


def test_pictures_are_looked_at_before_anything_is_answered(tmp_path: Path) -> None:
    (tmp_path / "html.png").write_text("<html>")
    (tmp_path / "cut.png").write_bytes(PICTURE[: len(PICTURE) // 2])
    os.mkfifo(tmp_path / "pipe")
    bad = ["none.png", "html.png", "cut.png", "pipe", "/etc/hostname", None, 7, ["a.png", "a.png"], {"bytes": "!"}]
    for cell in bad:
        with pytest.raises(DatasetError, match=r"1 row has no usable picture \(row 2, column image: ") as caught:
            read(tmp_path, {"answer": "x"}, {"answer": "x", "image": cell})
        assert "\n" not in str(caught.value)
    rows = [{"answer": "x", "image": cell} for cell in bad]
    with pytest.raises(DatasetError, match=r"9 rows have no usable picture \(row 2, .*; and 6 more\). .*--keep-broken"):
        read(tmp_path, {"answer": "x"}, *rows)
    kept = read(tmp_path, {"answer": "x"}, *rows, keep_broken=True)
    assert len(kept) == len(units(kept)) == 10


def test_several_pictures_in_a_row_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"row 1, column image: expected exactly one picture per row, got 2; "):
        read(tmp_path, {"answer": "x", "image": ["a.png", "a.png"]})
    assert len(read(tmp_path, {"answer": "x", "image": ["a.png"]})) == 1


def test_half_characters_and_nul_are_cleaned_where_rows_are_read(tmp_path: Path) -> None:
    row = {
        "question": "What \ud83d color?",
        "answers": ["r\ud83ded", "x\x00"],
        "id": "i\udc00",
        "category": "c\x00",
        "extra\ud800": "ignored",
    }
    (sample,) = read(tmp_path, row)
    assert sample.question == "What \ufffd color?"
    assert sample.references == ["r\ufffded", "x\ufffd"]
    assert (sample.key, sample.category) == ("i\ufffd", "c\ufffd")
    json.dumps([sample.question, sample.references, sample.key], ensure_ascii=False).encode()
    (other,) = parquet(tmp_path, {"question": ["nul \x00"], "answer": ["x"]})
    assert other.question == "nul \ufffd"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'[{"image": "a.png"}]', "line 1 is a JSON list"),
        (b'[\n{"image": "a.png"}\n]', "line 1 is not JSON: it begins a list over several lines; write one object"),
        ('{"image": "a.png", "question": "q", "answer": "\u00e9"}'.encode("latin-1"), "not UTF-8 text; save the file"),
        (b'{"image": "a.png"}\n'.decode().encode("utf-16"), "not UTF-8 text|not JSON"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested too deeply"),
        (b"", "has no rows"),
        (b"{", "line 1 is not JSON"),
    ],
)
def test_files_of_another_shape_are_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "odd.jsonl").write_bytes(data)
    with pytest.raises(DatasetError, match=says) as caught:
        list(get(f"file:{tmp_path / 'odd.jsonl'}").samples())
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    name = written(tmp_path, {"answer": "x"})
    path = Path(name.removeprefix("file:"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [sample.references for sample in get(name).samples()] == [["x"]]


TEXTS = st.text(max_size=12)
NUMBERS = st.integers(-(10**6), 10**6) | st.floats() | st.booleans()
ATOMS = st.none() | TEXTS | NUMBERS
RECORD_KEYS = TEXTS | st.sampled_from(["answer", "text"])
CELLS = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(RECORD_KEYS, inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(["A", "B", "b", "C", "yes", "no", "bath", "kitchen", "4", "nan", ""])
LETTERS = st.sampled_from("ABCD")
ROWS = st.fixed_dictionaries(
    {"question": st.just("What?") | CELLS, "answer": WORDS | CELLS},
    optional={
        "answers": CELLS | st.lists(WORDS, max_size=3),
        "options": CELLS
        | st.just(BATH)
        | st.lists(TEXTS, max_size=5)
        | st.dictionaries(st.sampled_from("ABCD"), TEXTS),
        "id": CELLS,
        "category": CELLS,
        "metric": st.sampled_from(list(RULES)) | CELLS,
        "image": st.just("a.png") | CELLS,
    },
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=3), metric=st.sampled_from(list(RULES)), as_text=st.booleans())
def test_any_row_scores_its_own_gold_or_is_named(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], metric: str, as_text: bool
) -> None:
    """No silent zero and no traceback, whatever the cells hold and in whichever metric."""
    if as_text:
        rows = [{k: repr(v) if k in ("options", "answers") else v for k, v in row.items()} for row in rows]
    folder = tmp_path_factory.getbasetemp() / "rows"
    folder.mkdir(exist_ok=True)
    benchmark = get(written(folder, *rows), metric)
    with contextlib.suppress(DatasetError):
        for sample in benchmark.samples():
            for answer in sample.references:
                assert benchmark.score(answer, sample.references, sample)[benchmark.main_metric] > 0
            assert benchmark.prompt(sample, "llava-next").startswith(sample.question)
            assert json.loads(json.dumps([sample.references, sample.extra, sample.key])) is not None
            for option in sample.extra["options"]:
                assert option.strip()
            if sample.extra["options"]:
                assert set(sample.references) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(sample.extra["options"])])


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    answers=st.lists(st.none() | st.floats() | st.integers(), min_size=1, max_size=4)
    | st.lists(st.none() | TEXTS, min_size=1, max_size=4)
    | st.lists(st.none() | st.booleans(), min_size=1, max_size=4)
    | st.lists(st.none() | st.lists(st.none() | TEXTS, max_size=3), min_size=1, max_size=4)
    | st.lists(st.dates() | st.none(), min_size=1, max_size=4)
    | st.lists(st.binary(max_size=4) | st.none(), min_size=1, max_size=4),
    column=st.sampled_from(["answer", "answers"]),
    metric=st.sampled_from(list(RULES)),
)
def test_any_parquet_column_scores_its_own_gold_or_is_named(
    tmp_path_factory: pytest.TempPathFactory, answers: list[Any], column: str, metric: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "columns"
    folder.mkdir(exist_ok=True)
    table = pa.table({"image": [PICTURE] * len(answers), "question": ["q"] * len(answers), column: answers})
    pq.write_table(table, folder / "mine.parquet")
    benchmark = get(f"file:{folder / 'mine.parquet'}", metric)
    with contextlib.suppress(DatasetError):
        for sample in benchmark.samples():
            for answer in sample.references:
                assert benchmark.score(answer, sample.references, sample)[metric] > 0


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "Z"]), max_size=30), st.integers(2, 26))
def test_a_letter_inside_a_word_names_nothing(text: str, count: int) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]
    found = named_letter(text, letters)
    assert found == "" or found in letters
    glued = "".join(f"{letter}x" for letter in text if letter.isascii() and letter.isalpha())
    assert named_letter(glued, letters) == ""


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=200), st.sampled_from(["mine.jsonl", "mine.parquet", "mine.json"]))
def test_any_file_is_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    with contextlib.suppress(HeroRayError):
        list(get(f"file:{path}").samples())


def test_task_entries_say_metric() -> None:
    from hero_ray.core.config import build

    config = build({"tasks": [{"name": "file:mine.jsonl", "metric": "anls"}]})
    assert config.tasks[0].flavour == "anls"
    assert config == build({"tasks": [{"name": "file:mine.jsonl", "flavour": "anls"}]})
    with pytest.raises(ConfigError, match="goes with file:PATH"):
        build({"tasks": [{"name": "pope", "metric": "anls"}]})
    with pytest.raises(ConfigError, match="give one"):
        build({"tasks": [{"name": "file:mine.jsonl", "metric": "anls", "flavour": "letter"}]})


@pytest.mark.slow
def test_the_command_line_finds_all_of_it_in_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def planned(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["sweep", "--dry-run", "--methods", "full", "--db", "sqlite:///:memory:", "--tasks", *arguments])
        heard = capsys.readouterr()
        assert "Traceback" not in heard.err
        return int(ended.value.code or 0), heard.out + heard.err

    home = tmp_path / "in"
    home.mkdir()
    (tmp_path / "b.png").write_bytes(PICTURE)
    assert planned(written(home, {"answer": "B"}), "--metric", "letter")[0] == 0
    code, said = planned(written(home, {"answer": "kitchen"}), "--metric", "letter")
    assert (code, "row 1, column answer: 'kitchen' can never score under letter" in said) == (2, True)
    for row, says, remedy in (
        ({"image": "none.png"}, "row 1, column image: picture file 'none.png' cannot be read", "--keep-broken"),
        ({"image": "../b.png"}, "lies outside the data's folder", "--allow-outside"),
        ({"question": "What \ud83d color?"}, "", ""),
    ):
        file = written(home, {"answer": "x"} | row)
        code, said = planned(file)
        assert (code, says in said) == (2 if says else 0, True), said
        if remedy:
            assert planned(file, remedy)[0] == 0
    code, said = planned("synth-exist", "--metric", "anls")
    assert (code, "--metric goes with a file:PATH in tasks" in said) == (2, True)


def test_an_edited_picture_is_other_data(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(picture(2)["bytes"])
    rows = [{"answer": "x"}, {"image": "b.png", "answer": "y"}]
    named = written(tmp_path, *rows)
    before = get(named).fingerprint()
    assert get(named).fingerprint() == before
    (tmp_path / "b.png").write_bytes(picture(3)["bytes"])
    edited = get(named).fingerprint()
    assert edited != before
    (tmp_path / "b.png").unlink()  # the rows say so when they are read
    assert get(named).fingerprint() not in (before, edited)
    pq.write_table(pa.table({"image": ["a.png"], "question": ["?"], "answer": ["x"]}), tmp_path / "p.parquet")
    paths = get(f"file:{tmp_path / 'p.parquet'}").fingerprint()
    (tmp_path / "a.png").write_bytes(picture(4)["bytes"])
    assert get(f"file:{tmp_path / 'p.parquet'}").fingerprint() != paths


def test_pictures_inside_a_file_leave_its_hash(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [PICTURE], "question": ["?"], "answer": ["x"]}), tmp_path / "in.parquet")
    inside = get(f"file:{tmp_path / 'in.parquet'}")
    assert inside.fingerprint() == inside.table.fingerprint()
    encoded = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    written_out = get(written(tmp_path, {"image": encoded, "answer": "x"}))
    assert written_out.fingerprint() == written_out.table.fingerprint()
