"""Scores to masks: the few tensor steps that every method shares.

Shape letters: V views, N visual tokens per view, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar

from hero_ray.core.encoded import Encoded
from hero_ray.core.errors import NonFiniteScoreError, SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import ensure, once

Key = TypeVar("Key", int, str)
LEAST_TEMPERATURE = 1e-6
"""Of a softmax over scores about 1: already the largest score's alone; far below, the quotients overflow."""


def finite(scores: Tensor, method: str, what: str) -> Tensor:
    """`scores` themselves, in fp32 or better.

    Raises:
        NonFiniteScoreError: NaN or infinity among them; a mask made from those would be silent nonsense. Where looks at
            the device are shared (`hero_ray.core.looks`), at the end of the method and not here.
    """
    wide = scores if scores.dtype == torch.float64 else scores.float()
    # A sum is finite only if every term is: one pass without a mask in the usual case.
    ensure(wide.sum().isfinite(), partial(_refuse, scores, method, what))
    return wide


def _refuse(scores: Tensor, method: str, what: str) -> None:
    bad = int((~torch.isfinite(scores)).sum())
    if bad:  # else finite terms whose sum overflowed
        raise NonFiniteScoreError(
            f"{method}: {bad} of {scores.numel()} values of {what} are NaN or infinite; expected finite scores. "
            "Check the model's dtype (float16 overflows) or its weights."
        )


def unchecked(source: Mapping[Key, Tensor], key: Key, method: str, what: str) -> Tensor:
    """One captured tensor as it is.

    Raises:
        SelectionError: the encoder did not capture it.
    """
    if key not in source:
        raise SelectionError(
            f"{method} reads {what} {key!r}, but the encoder captured {sorted(source) or 'none'}; "
            "pass the method's needs(vision) to encode"
        )
    return source[key]


def captured(source: Mapping[Key, Tensor], key: Key, method: str, what: str) -> Tensor:
    """One captured tensor, checked to be finite.

    Raises:
        SelectionError: the encoder did not capture it.
        NonFiniteScoreError: it holds NaN or infinity.
    """
    return finite(unchecked(source, key, method, what), method, f"{what} {key!r}")


def cls_attention(encoded: Encoded, layers: Sequence[int], method: str) -> Tensor:
    """Mean over heads, then over `layers` (1-based), of the CLS row: [V, N]."""

    def mean() -> Tensor:
        rows = [captured(encoded.cls_attention, layer, method, "CLS attention of layer").mean(1) for layer in layers]
        return torch.stack(rows).mean(0)

    return once((method, id(encoded.cls_attention), tuple(layers)), mean)


def descending(scores: Tensor, count: int) -> Tensor:
    """The `count` best positions, best first, ties to the lower index."""
    return scores.argsort(descending=True, stable=True)[:count]


def ranked(scores: Tensor, valid: Tensor) -> Tensor:
    """Positions of every row best first, ties to the lower index, what is not valid last: int64 [V, N]."""
    return scores.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)


def keep_top(scores: Tensor, counts: Sequence[int] | Tensor, valid: Tensor) -> Tensor:
    """Mask of the `counts[v]` best valid tokens of every view, ties to the lower index: bool [V, N]."""
    return leading(ranks(scores, valid), counts, valid)


def ranks(scores: Tensor, valid: Tensor) -> Tensor:
    """How many tokens of its view stand before each, in the order of `ranked`: int64 [V, N]."""
    order = ranked(scores, valid.to(scores.device))
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def leading(ranks: Tensor, counts: Sequence[int] | Tensor, valid: Tensor) -> Tensor:
    """Mask of the valid tokens before which fewer than `counts[v]` of their view stand: bool [V, N]."""
    return (ranks < torch.as_tensor(counts, device=ranks.device)[:, None]) & valid.to(ranks.device)


def cosine_to_thumbnail(embeddings: Tensor) -> Tensor:
    """Cosine of every tile's embedding with the thumbnail's (row 0): [V, width] -> [V - 1]."""
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    return unit[1:] @ unit[0]


def tally(groups: Tensor, count: int) -> Tensor:
    """Members of every group 0..count-1: int64 [count]; unlike `bincount` it reads nothing from the device."""
    return torch.zeros(count, dtype=torch.long, device=groups.device).index_add_(0, groups, torch.ones_like(groups))


def caps(valid: Tensor) -> list[int]:
    """Real tokens of every view."""
    return [int(count) for count in valid.sum(1).tolist()]
