"""Reading a multiple-choice answer: which option letter does a free text name?

Five readers, because the harnesses differ: the weighted extractor current lmms-eval shares between MMStar, RealWorldQA
and static MMBench; the option matchers of its MMBench and its HR-Bench; the patterns of its V* bench; and VLMEvalKit's
matcher.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PHRASES = (
    "the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is", "best answer is",
    "the correct option is", "correct option is", "the best option is", "best option is", "the choice is", "choice is",
    "the correct choice is", "correct choice is", "i choose", "i select", "i pick", "my answer is", "my choice is",
    "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは",
)  # fmt: skip
EDGES = (",", ".", "!", "?", ";", ":", "'", '"')

_START, _END, _PHRASE, _PARENTHESES, _PERIOD, _COLON, _RIGHT, _SPACE = 10, 9, 7, 6, 5, 4, 3, 2
_FORMS = (("({})", _PARENTHESES), ("{}.", _PERIOD), ("{}:", _COLON), ("{})", _RIGHT), ("{} ", _SPACE))


def gold_and_options(references: Any) -> tuple[str, list[str]]:
    """The gold letter and the option texts of {answer, options}; a bare letter has no texts."""
    if isinstance(references, str):
        return references, []
    return str(references["answer"]), list(references["options"])


def extract_letter(text: str, letters: Sequence[str]) -> str:
    """The option letter a text most likely means, or "" for none; case matters.

    Candidates weigh by their form: start of the text 10, its end 9, after "the answer is" 7, `(X)` 6, `X.` 5, `X:` 4,
    `X)` 3, `X ` 2, anywhere 0. The highest wins, later positions win ties; "A dog" therefore reads as A.
    """
    if not text:
        return ""
    bare = text.strip()
    for edge in EDGES:
        bare = bare.strip(edge)
    padded = f" {bare} "
    found = [*_formed(padded, letters), *_announced(padded, letters), *_outer(bare.strip(), letters)]
    if not found:
        found = [(0, padded.rfind(letter), letter) for letter in letters if letter in padded]
    return max(found, key=lambda item: item[:2])[2] if found else ""


def _formed(padded: str, letters: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    for letter in letters:
        for form, weight in _FORMS:
            at = padded.rfind(form.format(letter))
            if at >= 0:
                yield weight, at, letter


def _announced(padded: str, letters: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    low = padded.lower()
    for phrase in PHRASES:
        at = low.find(phrase)
        if at < 0:
            continue
        after = at + len(phrase)
        for letter in letters:
            where = padded.find(letter, after)
            if where >= 0:
                yield _PHRASE, where, letter


def _outer(bare: str, letters: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    for letter in letters:
        if bare.startswith(letter) and not bare[len(letter) : len(letter) + 1].isalpha():
            yield _START, 0, letter
        if bare.endswith(letter) and not bare[: -len(letter)][-1:].isalpha():
            yield _END, len(bare) - 1, letter


_FAILED = "Failed to obtain answer via API"
_DECORATIONS = ("{}.", "{},", "{}:", "{})", "{}).", "({})", "({}).", ":{}", ":{},", ":{}.", ":{})", ":{}).")


def match_option(text: str, options: Mapping[str, Any]) -> str | None:
    """lmms-eval's MMBench matcher: the letter, or None when undecided.

    Options whose text is the string `nan` take part, as upstream: `banana` matches a missing option. The letters of a
    text that says that its API failed do not count.
    """
    if _FAILED in text:
        return _by_text(text, options)
    tokens = text.split()
    letters = "ABCDE"
    bare = [letter for letter in letters if letter in tokens]
    # "A" among more than three tokens is taken for an article.
    if len(bare) == 1 and not ("A" in tokens and len(tokens) > 3):
        return bare[0]
    for decoration in _DECORATIONS:
        hits = [letter for letter in letters if decoration.format(letter) in tokens]
        if len(hits) == 1:
            return hits[0]
    return _by_text(text, options)


def _by_text(text: str, options: Mapping[str, Any]) -> str | None:
    low = text.lower()
    hits = [letter for letter, option in options.items() if option is not None and str(option).lower() in low]
    return hits[0] if len(hits) == 1 else None


_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_KIT_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_KIT_ANSWER_IS = re.compile(r"answer\s+is\s+\**([A-D])", re.IGNORECASE)  # no bracket, no word's end, no E, as upstream


def match_option_vlmevalkit(text: str, options: Mapping[str, Any]) -> str | None:
    """VLMEvalKit's matcher (e8e78f05): the letter, `Z` for a refusal, or None when undecided.

    The options' texts are looked for where the letters decide nothing and the answer is not much longer than they are.
    """
    options = {letter: str(option) for letter, option in options.items() if option is not None}
    letter = _kit_letter(text, options)
    short = len(text.lower()) <= 2 * sum(map(len, options.values()))
    return letter or (_by_text(text, options) if short else None)


def match_option_hrbench(text: str, options: Mapping[str, Any]) -> str | None:
    """lmms-eval's HR-Bench matcher: the letter, `Z` for a refusal, or None when undecided.

    It is an older VLMEvalKit's: the only option letter counts wherever it stands, an article "A" too, and the options'
    texts are looked for in answers of any length.
    """
    options = {letter: str(option) for letter, option in options.items()}
    if _FAILED in text:
        return _by_text(text, options)
    if any(refusal in text for refusal in _REFUSALS):
        return "Z"
    tokens = text.translate(_KIT_BLANKS).split()
    hits = [letter for letter in options if letter in tokens]
    if len(hits) == 1:
        return hits[0]
    return "Z" if not hits and "Z" in tokens else _by_text(text, options)


_VSTAR_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^([A-D])",
        r"(?:ANSWER|CHOICE|OPTION)(?:\s+IS)?[\s:]+([A-D])",
        r"\(([A-D])\)",
        r"([A-D])\s*(?:\.|\)|\])",
        r"(?:^|\s)([A-D])(?:\s|$)",
    )
)


def extract_letter_vstar(text: str) -> str | None:
    """lmms-eval's V* bench reader: the letter of the first pattern that fits, in upper case; None for none.

    Whatever begins with one of the letters is that letter: "Dark blue" is D, "a dog" A. Where no pattern fits, a letter
    that occurs once, be it inside a word, is taken.
    """
    bare = text.strip().upper()
    for pattern in _VSTAR_PATTERNS:
        if found := pattern.search(bare):
            return found[1]
    letters = [letter for letter in bare if letter in "ABCD"]
    return letters[0] if len(letters) == 1 else None


def _kit_letter(text: str, options: Mapping[str, str]) -> str | None:
    """By letters alone: the only one, if near the end, else what is announced first, be it `**B**` or "Because"."""
    if _FAILED in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return "Z"
    tokens = text.translate(_KIT_BLANKS).split()
    hits = [letter for letter in options if letter in tokens]
    if len(hits) == 1 and tokens.index(hits[0]) > len(tokens) - 5:
        return hits[0]
    if not hits and "Z" in tokens:
        return "Z"
    announced = _KIT_ANSWER_IS.search(text)
    return announced[1].upper() if announced is not None and announced[1].upper() in options else None
