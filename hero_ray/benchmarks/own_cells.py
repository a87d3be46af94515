"""Cells of one's own data, read by type: text, number, boolean, lists and the records people's exports hold.

Whatever is none of these is refused in one line that says what was found and what to write. A cell that is only turned
into text would answer for a benchmark that no model can ever get right.
"""

from __future__ import annotations

import ast
import io
import itertools
import json
import math
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from hero_ray.benchmarks.letters import ALPHABET, named_letter
from hero_ray.core.errors import DatasetError

RECORD_KEYS = ("answer", "answers", "text")
"""Where the answer is in a record: VizWiz' {answer, answer_confidence}, SQuAD's {text: [...], answer_start: [...]}."""


class CellError(DatasetError):
    """A cell that is not of a documented type; the message lacks row and column, which the caller knows."""


def is_missing(value: Any) -> bool:
    """None and NaN: what a table has where nothing was written."""
    return value is None or (isinstance(value, (float, Decimal)) and math.isnan(value))


def scalar(value: Any, truth: bool = False) -> str:
    """A text, or a number or boolean as text; whole floats as integers, since pandas makes 4.0 of 4.

    Args:
        truth: whether booleans are read, as yes and no.

    Raises:
        CellError: another type.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        if truth:
            return "yes" if value else "no"
        raise CellError(f'holds {str(value).lower()}; write the word the model shall say, or score it by "yes_no"')
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise CellError(f"holds {value}; write a number that ends")
        if value == int(value):
            return str(int(value))
        return f"{value.normalize():f}" if isinstance(value, Decimal) else repr(value)
    raise CellError(f"holds {_kind(value)}; write a text, a number, true or false")


def question(value: Any) -> str:
    """Raises `CellError` for anything but a text with something in it, and for more than one picture."""
    if not isinstance(value, str) or not value.strip():
        raise CellError(f"holds {_kind(value)}; write the question as text")
    if value.count("<image>") > 1:
        raise CellError("names several pictures (<image>); these model families take one per question")
    return value


def label(value: Any) -> str:
    """An id or a category; "" for none."""
    if is_missing(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise CellError(f"holds {_kind(value)}; write a text or a number")
    return scalar(value).strip()


def answers(value: Any, several: bool, truth: bool = False) -> list[str]:
    """Every answer of a cell, nulls and NaN left out; [] where nothing was written.

    Args:
        several: of the column `answers`, whose text may be a printed list. In `answer` a text that looks like a list of
            texts is one as well; "[5]" stays an answer.
    """
    if isinstance(value, str):
        found = printed(value)
        if found is not None and (several or _holds_answers(found, value)):
            return answers(found, several, truth)
        if several and _is_broken_list(value):
            raise CellError(f'holds the text {value[:60]!r}, no list that can be read; write ["bath", "kitchen"]')
        return [value]
    if isinstance(value, Mapping):
        return answers(_of_record(value), True, truth)
    if isinstance(value, (list, tuple)):
        return [text for one in value if not is_missing(one) for text in _element(one, truth)]
    return [] if is_missing(value) else [scalar(value, truth)]


def _holds_answers(found: Any, text: str) -> bool:
    """Whether what a text in `answer` prints is several answers or a record, and not itself what shall be answered."""
    if isinstance(found, Mapping):  # JSON may be what the model shall write; Python's form of a record never is
        return any(key in found for key in RECORD_KEYS) and not text.lstrip().startswith('{"')
    told = [one for one in found if one is not None]
    records = all(isinstance(one, Mapping) and any(key in one for key in RECORD_KEYS) for one in told)
    return bool(told) and (records or all(isinstance(one, str) for one in told))


def _element(value: Any, truth: bool) -> list[str]:
    if isinstance(value, (list, tuple)):
        raise CellError("holds a list inside a list; write one list of answers")
    if isinstance(value, Mapping):
        return answers(_of_record(value), True, truth)
    return [scalar(value, truth)]


def _of_record(record: Mapping[str, Any]) -> Any:
    named = [key for key in RECORD_KEYS if key in record]
    if len(named) != 1:
        raise CellError(
            f"holds a record with {', '.join(map(str, record)) or 'nothing'}; "
            f"expected one of {', '.join(RECORD_KEYS)} in it, or write the answer itself"
        )
    return record[named[0]]


def options(value: Any) -> tuple[list[str], list[str]]:
    """Option texts in their order, and the names they go by where the cell gives some.

    A list, a mapping ({"A": ...}, or {"label": [...], "text": [...]}), or either as JSON or Python text. Nulls behind
    the last option are left out.

    Raises:
        CellError: anything else; a gap, which would move the letters; one option alone, or more than 26.
    """
    if isinstance(value, str) and value.strip():
        found = printed(value)
        if not isinstance(found, (list, dict)):
            raise CellError(f'holds the text {value[:60]!r}; write a list of texts, as in ["bath", "kitchen"]')
        value = found
    if is_missing(value) or value == "" or (isinstance(value, str) and not value.strip()):
        return [], []
    pairs = isinstance(value, list) and value and all(isinstance(one, tuple) for one in value)  # a map of Parquet
    if isinstance(value, Mapping) or pairs:
        names, given = _of_mapping(dict(value))
    elif isinstance(value, (list, tuple)):
        names, given = [], list(value)
    else:
        raise CellError(f'holds {_kind(value)}; write a list of texts, as in ["bath", "kitchen"]')
    texts = ["" if is_missing(one) else scalar(one).strip() for one in given]
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts:
        raise CellError(f"has nothing at option {ALPHABET[min(texts.index(''), 25)]}; the letters behind it would move")
    if len(texts) == 1 or len(texts) > len(ALPHABET):
        raise CellError(f"holds {len(texts)} option{'s' * (len(texts) > 1)}; from 2 to 26 can be lettered")
    return _unlettered(texts), names[: len(texts)]


def _of_mapping(given: Mapping[Any, Any]) -> tuple[list[str], list[Any]]:
    if set(given) == {"label", "text"} and isinstance(given["text"], (list, tuple)):
        labels = list(given["label"]) if isinstance(given["label"], (list, tuple)) else []
        if len(labels) != len(given["text"]):
            raise CellError("holds labels and texts of unequal number")
        return [scalar(one).strip() for one in labels], list(given["text"])
    names = [str(key).strip() for key in given]
    ordered = sorted(zip(names, given.values(), strict=True), key=lambda pair: (len(pair[0]), pair[0]))
    if all(len(name) == 1 and name.upper() in ALPHABET for name in names):
        expected = list(ALPHABET[: len(names)])
        if [name.upper() for name, _ in ordered] != expected:
            raise CellError(f"has the letters {', '.join(name for name, _ in ordered)}; expected {', '.join(expected)}")
    elif not all(name.isdigit() for name in names):
        ordered = sorted(ordered, key=lambda pair: pair[0])
    return [name for name, _ in ordered], [text for _, text in ordered]


def _unlettered(texts: list[str]) -> list[str]:
    """Options that carry their own letter already (`A. bath`) without it; the prompt puts it there."""
    heads = [(f"{letter}. ", f"{letter}) ", f"({letter}) ", f"{letter}: ") for letter in ALPHABET]
    if all(text.startswith(head) and text[2:].strip() for text, head in zip(texts, heads, strict=False)):
        return [text.partition(" ")[2].strip() for text in texts]
    return texts


def gold_letter(answer: str, texts: Sequence[str], names: Sequence[str]) -> str:
    """The letter of the option an answer means: as its letter, its name, or its text.

    Raises:
        CellError: none of them, or two different ones.
    """
    own = ALPHABET[: len(texts)]
    plain = answer.strip()
    hits = {own[place] for place, text in enumerate(texts) if text.casefold() == plain.casefold()}
    hits |= {own[place] for place, name in enumerate(names) if name.casefold() == plain.casefold()}
    if not names or len(plain) > 1 or plain.upper() not in {name.upper() for name in names}:
        letter = named_letter(plain, own) if len(plain.strip(".:()[] ")) == 1 else ""
        hits |= {letter} - {""}
    if len(hits) == 1:
        return hits.pop()
    if hits:
        raise CellError(f"holds {answer!r}, which means option {' or '.join(sorted(hits))}; write the letter")
    raise CellError(
        f"holds {answer[:60]!r}, which is neither a letter from A to {own[-1]} nor the text of one option; write the "
        f"letter{_counted(plain, own)}"
    )


def _counted(plain: str, own: str) -> str:
    """What an index would mean, said instead of guessed."""
    if not plain.isdecimal() or len(plain) > 2:
        return ""
    at = int(plain)
    ways = [f"{own[at - first]} if it counts from {first}" for first in (0, 1) if 0 <= at - first < len(own)]
    return f" ({', '.join(ways)})" if ways else ""


def printed(text: str) -> Any:
    """The list or mapping that a text is the JSON or Python form of; None for any other text.

    Python forms are what `str` and `repr` leave, so also `['a', nan]`, numpy's `[np.str_('a')]` and `array(['a'])`.

    Raises:
        CellError: a printed numpy array, whose texts Python would glue together.
    """
    bare = text.strip()
    if bare[:1] + bare[-1:] not in ("[]", "{}", "()") and not (bare.startswith("array([") and bare.endswith(")")):
        return None
    try:
        found = json.loads(bare)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a backslash in a text
                found = ast.literal_eval(_Printed().visit(ast.parse(bare, mode="eval")))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
        if _glued(bare):
            raise CellError(f'holds the text {text[:60]!r}, a list without commas; write ["bath", "kitchen"]') from None
    return list(found) if isinstance(found, (list, tuple)) else found if isinstance(found, dict) else None


class _Printed(ast.NodeTransformer):
    """Names and calls that printed values hold instead of literals, as the literals they stand for."""

    _NAMES: ClassVar[Mapping[str, Any]] = {"nan": None, "null": None, "true": True, "false": False}

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(self._NAMES[node.id]) if node.id in self._NAMES else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        numpy = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("np", "numpy")
        return self.visit(node.args[0]) if node.args and (numpy or name == "array") else node  # type: ignore[no-any-return]


def _is_broken_list(text: str) -> bool:
    bare = text.strip()
    return bare.startswith(("['", '["')) or (bare[:1] + bare[-1:] == "[]" and any(mark in bare for mark in "'\"("))


def _glued(text: str) -> bool:
    """Whether two string literals follow one another without a comma."""
    skipped = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    try:
        kinds = [one.type for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type not in skipped]
    except (tokenize.TokenError, SyntaxError):
        return False
    return any(left == right == tokenize.STRING for left, right in itertools.pairwise(kinds))


def _kind(value: Any) -> str:
    if is_missing(value):
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, Decimal)):
        return f"the number {str(value)[:40]}"
    names: dict[type, str] = {str: "an empty text", dict: "a record", list: "a list", tuple: "a list", bytes: "bytes"}
    return names.get(type(value), f"a cell of type {type(value).__name__}")
