"""Overflow is named: NaN or infinite features and logits would otherwise become token 0, an answer like any other.

float16 ends at 65,504, and some vision towers and language models go beyond. Shape letters: B rows, D width of the LLM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hero_ray.core.errors import NonFiniteScoreError


def check_logits(finite: Sequence[bool], visuals: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Refuse a batch in which some answer cannot be read.

    Args:
        finite: per row, whether all its logits are finite.
        visuals: per row the embeddings [n, D] it was asked with, to tell whether those overflowed already; may be none.

    Raises:
        NonFiniteScoreError: naming what overflowed, the dtype and the remedy.
    """
    bad = [row for row, good in enumerate(finite) if not good]
    if bad:
        spoilt = any(not bool(visuals[row].isfinite().all()) for row in bad if visuals)
        raise NonFiniteScoreError(_overflow("visual features" if spoilt else "logits", dtype))


def refuse_features(dtype: torch.dtype) -> None:
    """Refuse an encoded picture whose features hold NaN or infinity, also for methods that never look at them.

    Raises:
        NonFiniteScoreError: naming the dtype and the remedy.
    """
    raise NonFiniteScoreError(_overflow("visual features", dtype))


def _overflow(what: str, dtype: torch.dtype) -> str:
    remedy = "use bfloat16 or float32" if dtype == torch.float16 else "check the weights"
    return f"{what} in {str(dtype).removeprefix('torch.')} are NaN or infinite; {remedy}"
