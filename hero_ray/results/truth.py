"""Is a stored result true? What the words of a verification mean; pure functions over rows.

An answer asked again is `bit-equal` if every stored column is what the model says today, `equal text` if only what
rounding can move (the mask, the tokens alive) moved while the words stayed, else it `differs`. Rounding can move
nothing where the answers were made and are asked in fp32 on equal machines and packages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Verdict = Literal["bit-equal", "equal text", "differs", "not asked"]
BIT_EQUAL: Verdict = "bit-equal"
EQUAL_TEXT: Verdict = "equal text"
DIFFERS: Verdict = "differs"
NOT_ASKED: Verdict = "not asked"

PARTS: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "score": ("score", "scores"),
    "mask": ("keep_mask", "geometry"),
    "tokens": ("n_text", "budget_nominal", "n_selected", "n_visual_llm", "equivalent_tokens", "visual_per_layer"),
    "cost": ("flops", "encode_flops", "kv_bytes"),
    "failure": ("error_type",),
}
"""What an answer consists of, by the columns that hold it."""
_MOVABLE = {"mask", "tokens", "cost"}
"""What may move with the mask; a cost alone cannot, since it is worked out of the tokens."""

TOLERANCES = {"float32": 1e-3, "float16": 0.0625, "bfloat16": 0.5}
"""Gap between two next tokens, in logits, below which another kernel's rounding is let pass as the reason. A choice: at
half precision four units in the last place of a logit near 20, in fp32 what some hundreds of them make."""

CHANCES = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class AskedAgain:
    """A stored answer and what the model says today.

    Attributes:
        parts: what is unlike, by the names of `PARTS`.
        was, now: the two texts.
        margin: logits between today's token and the one the stored text would need, at the first place where they
            part; None where the texts are equal or the model shows no logits.
        rounding: whether such a margin can be rounding.
    """

    cell_id: str
    sample_id: str
    sample_key: str
    verdict: Verdict
    parts: tuple[str, ...] = ()
    was: str = ""
    now: str = ""
    margin: float | None = None
    rounding: bool = False


@dataclass(frozen=True)
class Untrue:
    """Something stored that does not follow from the rows or the dataset it is said to come from.

    Attributes:
        kind: `sample`, `score`, `mask`, `metric`, `cost` or `count`.
        cell_id: "" where it concerns all cells.
        where: sample key or metric.
    """

    kind: str
    cell_id: str
    where: str
    stored: str
    expected: str


@dataclass
class Findings:
    """What a verification found so far.

    Attributes:
        unasked: reason -> answers drawn that could not be asked again.
    """

    asked: list[AskedAgain] = field(default_factory=list)
    untrue: list[Untrue] = field(default_factory=list)
    unasked: Counter[str] = field(default_factory=Counter)

    def count(self, verdict: Verdict) -> int:
        return sum(one.verdict == verdict for one in self.asked)

    @property
    def verdict(self) -> Verdict:
        """The worst of all that was looked at."""
        if self.untrue or self.count(DIFFERS):
            return DIFFERS
        if self.count(EQUAL_TEXT):
            return EQUAL_TEXT
        return BIT_EQUAL if self.asked else NOT_ASKED


def unlike(stored: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the parts in which two rows differ; both as the view `predictions` gives them.

    Of two failures only the kind is compared; where the words differ, scores and costs follow from them and are
    left to `recount`.
    """
    if stored["error_type"] or again["error_type"]:
        return () if stored["error_type"] == again["error_type"] else ("failure",)
    parts = tuple(part for part, columns in PARTS.items() if any(not _same(stored[c], again[c]) for c in columns))
    return tuple(part for part in parts if part in ("text", "mask")) if "text" in parts else parts


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12)  # sums of FLOPs may be added in another order
    return bool(one == other)


def judge(parts: Sequence[str], may_round: bool) -> Verdict:
    """The verdict on an answer of which these parts differ."""
    if not parts:
        return BIT_EQUAL
    moved = set(parts)
    return EQUAL_TEXT if may_round and moved <= _MOVABLE and moved != {"cost"} else DIFFERS


def within_rounding(margin: float | None, dtype: str, may_round: bool) -> bool:
    """Whether other kernels could have chosen the other token."""
    return may_round and margin is not None and margin <= TOLERANCES.get(dtype, 0.0)


def mask_fault(stored: Mapping[str, Any]) -> str:
    """What is impossible about a mask, in words; "" for nothing."""
    mask, kept = stored["keep_mask"], stored["n_selected"]
    if mask is None or kept is None:
        return ""
    bits = int(np.unpackbits(np.frombuffer(mask, dtype=np.uint8)).sum())
    return "" if bits == kept else f"{bits} tokens in the mask"


def chance(pictures: int, drawn: int, altered: int) -> float:
    """Probability that a draw without replacement holds at least one of `altered` pictures (hypergeometric):
    1 - C(pictures - altered, drawn) / C(pictures, drawn)."""
    altered = min(altered, pictures)
    if drawn + altered > pictures:
        return 1.0 if altered else 0.0
    missed = sum(math.log1p(-altered / (pictures - i)) for i in range(drawn))
    return -math.expm1(missed)


def chances(pictures: int, drawn: int) -> dict[int, float]:
    """The chance of finding at least one, by how many pictures hold an answer that is not true."""
    return {altered: chance(pictures, drawn, altered) for altered in CHANCES if altered <= pictures}


def needed(pictures: int, drawn: int, power: float = 0.95) -> int | None:
    """Fewest altered pictures that a draw finds with probability `power`; None if not even all."""
    return next((k for k in range(1, pictures + 1) if chance(pictures, drawn, k) >= power), None)


def summary(found: Findings) -> Iterator[str]:
    """What a verification says, a line each."""
    counts = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in (BIT_EQUAL, EQUAL_TEXT, DIFFERS))
    yield f"{len(found.asked)} answers asked again: {counts}"
    excused = sum(one.rounding for one in found.asked)
    if excused:
        yield f"{excused} of those that differ lie within rounding of other kernels (see the margins)"
    kinds = Counter(one.kind for one in found.untrue)
    said = ", ".join(f"{n} of kind {kind}" for kind, n in sorted(kinds.items()))
    yield f"recounted without the model: {said or 'every score, mask, figure and mean cost follows from its rows'}"
    for reason, n in found.unasked.items():
        yield f"{n} answers could not be asked again: {reason}"
