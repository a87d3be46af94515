"""One budget of a sweep: a share of the visual tokens, or a number of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from hero_ray.core.errors import BudgetError
from hero_ray.core.strict import Strict
from hero_ray.core.text import brief

_BUDGET_FORMS = "write 0.2, 20%, drop=0.8 (share removed) or 576tok"


class BudgetEntry(Strict):
    """One budget: a retention ratio in (0, 1], or an absolute number of patch tokens."""

    ratio: float | None = None
    tokens: int | None = None

    @model_validator(mode="after")
    def _one_in_range(self) -> BudgetEntry:
        if (self.ratio is None) == (self.tokens is None):
            raise BudgetError("a budget has either `ratio` or `tokens`")
        if self.ratio is not None:
            _check_ratio(self.ratio, self.ratio)
        elif self.tokens is not None and self.tokens < 1:
            raise BudgetError(f"token budget {self.tokens} is not positive; give at least 1tok")
        return self

    @property
    def label(self) -> str:
        """`20%` or `576tok`."""
        return label_of(self.ratio, self.tokens)


def label_of(ratio: float | None, tokens: int | None) -> str:
    """`20%` or `576tok`, also for a stored budget that nobody would admit today."""
    return f"{tokens}tok" if ratio is None else f"{100 * ratio:g}%"


def parse_budget(value: Any) -> BudgetEntry:
    """Read `0.2`, `"20%"`, `"drop=0.8"` (share removed) or `"576tok"`.

    Raises:
        BudgetError: not one of these forms, or out of range.
    """
    if isinstance(value, BudgetEntry):
        return value
    if isinstance(value, Mapping):
        return BudgetEntry(**value)
    if not isinstance(value, str | int | float):
        raise BudgetError(f"budget {brief(value)} is not a number or text; {_BUDGET_FORMS}")
    text = str(value).strip().lower()
    if match := re.fullmatch(r"(\d+)\s*tok(?:ens)?", text):
        tokens = int(match[1])
        if tokens < 1:
            raise BudgetError(f"token budget {value!r} is not positive; give at least 1tok")
        return BudgetEntry(tokens=tokens)
    try:
        if text.startswith("drop="):
            ratio = round(1.0 - float(text[5:]), 12)
        elif text.endswith("%"):
            ratio = round(float(text[:-1]) / 100, 12)
        else:
            ratio = float(text)
    except ValueError:
        raise BudgetError(f"budget {brief(value)} is not a number; {_BUDGET_FORMS}") from None
    _check_ratio(ratio, value)
    return BudgetEntry(ratio=ratio)


def _check_ratio(ratio: float, written: Any) -> None:
    if not 0.0 < ratio <= 1.0:
        raise BudgetError(
            f"retention ratio {brief(written)} is outside (0, 1]; it is the share of visual tokens "
            f"kept{_other_forms(ratio)}"
        )


def _other_forms(number: float) -> str:
    """What a number above one may have meant."""
    if not 1 < number < math.inf:
        return ""
    share = f"{number:g}% for {number:g} percent, or " if number <= 100 else ""
    return f". Write {share}{max(1, round(number))}tok for a number of tokens"
