"""How near a model was to another answer: the gap in logits at the place where two texts part."""

from __future__ import annotations

from typing import Any

import torch

from hero_ray.engine.cut import Cut
from hero_ray.models.base import Request

CANDIDATES = 64
"""Tokens looked at for one that goes on as the other text does."""


def margin(adapter: Any, cut: Cut, request: Request, other: str) -> float | None:
    """Logits between the model's own next token and the best one that leads to `other`, where they first part.

    Where none of the likeliest tokens leads there, the gap to the last of those: the true one is wider. None where
    the model shows no logits, or its own text never parts from `other`.
    """
    if adapter.decoder is None:
        return None
    decoder, ids = adapter.decoder, list[int]()
    pruner = cut.pruning.pruner(cut.budget, [cut.selection])
    with torch.inference_mode():
        state = decoder.prefill([request], pruner, cut.pruning.method.positions)
        logits = state.logits
        for _ in range(request.max_new_tokens):
            values, tokens = logits[0].float().topk(min(CANDIDATES, logits.shape[-1]))
            own = int(tokens[0])
            if not _leads(adapter, decoder.end, ids, own, other):
                fitting = (
                    v for v, t in zip(values, tokens, strict=True) if _leads(adapter, decoder.end, ids, int(t), other)
                )
                return float(values[0] - next(fitting, values[-1]))
            if own in decoder.end:
                return None
            ids.append(own)
            logits = decoder.decode(state, tokens[:1])
    return None


def _leads(adapter: Any, end: frozenset[int], ids: list[int], token: int, other: str) -> bool:
    """Whether `token` after `ids` may still become `other`."""
    if token in end:
        return adapter.tokenizer.decode(ids).strip() == other
    return other.startswith(adapter.tokenizer.decode([*ids, token]).strip())
