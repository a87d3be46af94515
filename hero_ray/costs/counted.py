"""How many tokens an answer had, read off what it cost: rows hold FLOPs, which are exact, and no count of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from hero_ray.core.errors import HeroRayError
from hero_ray.costs.costs import decode_flops, prefill_flops
from hero_ray.models.base import LanguageShape
from hero_ray.models.shapes import shape


@lru_cache(maxsize=4096)
def answer_tokens(language: LanguageShape, per_layer: tuple[int, ...], flops: float) -> int | None:
    """New tokens of an answer, the first included, as far as one number of them costs just that.

    `decode_flops` over s steps is s (a + b) + s^2 b / 2 with b of its quadratic part; solved for s and held against the
    formula itself.

    Args:
        per_layer: tokens of the prompt alive in each block. flops: of prefill and decode.

    Returns:
        1 for an answer of the end token alone, which costs as much; None where no number fits.
    """
    spent = flops - prefill_flops(language, per_layer)
    one, two = (decode_flops(language, per_layer, 1 + steps) for steps in (1, 2))
    square = (two - 2 * one) / 2
    linear = one - square
    steps = max(0, round((math.sqrt(max(0.0, linear**2 + 4 * square * spent)) - linear) / (2 * square)))
    whole = prefill_flops(language, per_layer) + decode_flops(language, per_layer, 1 + steps)
    return 1 + steps if math.isclose(whole, flops, rel_tol=1e-9) else None


@lru_cache(maxsize=64)
def _language(model: str) -> LanguageShape | None:
    try:
        return shape(model).language
    except HeroRayError:  # a model that is not here
        return None


def completion_tokens(model: str, row: Mapping[str, Any]) -> int | None:
    """Tokens of a stored answer of our own; None where its model is not here, or the row has no costs.

    Args:
        row: `flops`, `encode_flops`, `n_text` and `n_visual_llm` of the answer, and `visual_per_layer` where its tokens
            became fewer between blocks.
    """
    language = _language(model)
    known: list[Any] = [row.get(name) for name in ("flops", "encode_flops", "n_text", "n_visual_llm")]
    if language is None or None in known:
        return None
    flops, before, text, visual = known
    counts = row.get("visual_per_layer") or [visual] * language.num_layers
    if len(counts) != language.num_layers:
        return None
    return answer_tokens(language, tuple(int(count) + int(text) for count in counts), float(flops) - float(before))
