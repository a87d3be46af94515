"""Text as everything behind the door can take it, databases, tokenizers and hashes; and values as messages say them."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any


def clean_text(text: str) -> str:
    """`text` with U+FFFD for NUL and lone surrogates: PostgreSQL, UTF-8 and tokenizers take neither."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    # Not `encode("utf-8", "replace")`, which puts a question mark, a character people do write.
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxlong = 3, 60
_BRIEF.maxstring = _BRIEF.maxother = 200


def brief(value: Any) -> str:
    """`repr` for a message: YAML's aliases make a few hundred characters into a list whose whole text fills memory."""
    return _BRIEF.repr(value)


def in_bytes(value: float) -> str:
    """1536 as `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GiB"


def clean(value: Any) -> Any:
    """A JSON-able value with every text in it cleaned, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(clean, value))
    return value
