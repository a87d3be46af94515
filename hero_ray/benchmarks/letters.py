"""Which option letter does an answer name? Our own reader, for data of one's own; the harnesses' are in `choices`.

A letter counts where it stands alone: `B`, `(b)`, `B. kitchen`, `The answer is J`. Inside a word it is none ("Don't
know" names no D), and neither is the article in "A dog" or the pronoun in "I see".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_INSIDE = "A-Za-z0-9_'\u2019\u00c0-\u024f"
"""What makes a neighbouring letter part of a word; Chinese, Japanese and Korean signs do not: `答案是B`."""
_ALONE = rf"(?<![{_INSIDE}])(?<![A-Za-z]\.)(?<![A-Za-z]-)([A-Z])(?![{_INSIDE}])(?!\.[A-Za-z])(?!-[A-Za-z])"
_CLOSED = r"(?=\s*(?:[.,;:!?)\]\"'\n]|$))"

_SINGLE = re.compile(_ALONE)
_ANNOUNCED = re.compile(
    r"\b(?:answer|choose|pick|select|go with)\b(?:\s+(?:is|would be|should be|must be)\b)?\s*[:=]?\s*"
    rf"(?:(?:option|choice|letter)\b\s*[:=]?\s*)?[(\[\"']*(?-i:([A-Z])(?![{_INSIDE}])|([a-z]){_CLOSED})",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"\b(?:option|choice|letter)\b(?:\s+is\b)?\s*[:=]?\s*[(\[\"']*(?-i:([A-Z])(?![{_INSIDE}])|([a-z]){_CLOSED})",
    re.IGNORECASE,
)
_LEADING = re.compile(r"[(\[]?([A-Za-z])[)\].:](?=\s|$)|([B-HJ-Z])(?:,|\s)")
_ONE = r"[(\[]?[A-Za-z][)\]]?"
_SEVERAL = re.compile(rf"{_ONE}(?:\s*(?:,|/|&|\bor\b|\band\b)+\s*{_ONE})+[.!?]?", re.IGNORECASE)
_TAIL_SEVERAL = re.compile(r"[A-Z][)\]]?\s*(?:,|/|&|\bor\b|\band\b)\s*[(\[]?[A-Z][)\]]?$")
_ARTICLE = re.compile(r"\s+(?!(?:or|and|nor|is|because|since|as|but|seems|looks)\b)[A-Za-z]")


def named_letter(text: str, letters: Sequence[str] = ALPHABET) -> str:
    """The one letter among `letters` that a text names, upper case; "" for none, for several, and for prose."""
    bare = text.replace("*", "").replace("`", "").strip()
    core = bare.strip(" \t\n.,;:!?()[]{}\"'<>-\u2013")
    if len(core) == 1:
        return core.upper() if core.upper() in letters else ""
    if _SEVERAL.fullmatch(bare):
        return ""
    for pattern in (_ANNOUNCED, _NAMED):
        said = [(upper or lower).upper() for upper, lower in pattern.findall(bare)]
        if said := [letter for letter in said if letter in letters]:
            return said[-1] if pattern is _ANNOUNCED or len(set(said)) == 1 else ""
    if (first := _LEADING.match(bare)) and (letter := (first[1] or first[2]).upper()) in letters:
        return letter
    return _standing_alone(bare.rstrip(" \t\n.,;:!?\"'"), letters)


def _standing_alone(bare: str, letters: Sequence[str]) -> str:
    found = [
        match for match in _SINGLE.finditer(bare)
        if match[1] in letters and not (match[1] in "AI" and _ARTICLE.match(bare, match.end()))
    ]  # fmt: skip
    if len({match[1] for match in found}) == 1:
        return found[0][1]
    last = found[-1] if found else None
    closing = last is not None and not bare[last.end() :].strip(")]")
    return last[1] if last and closing and not _TAIL_SEVERAL.search(bare) else ""
