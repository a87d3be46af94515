"""FLOPs counted operator by operator, to check the formulas of `costs` against what really runs.

Torch's counter does not know the CPU's attention kernel, and its formula for the others fails on grouped queries in
torch 2.11; ours takes the query's head count and is mapped over all of them. Like torch's, it counts the whole
S_q x S_k square even when the kernel skips the upper triangle: compare with `prefill_flops(..., causal=False)`.
On the meta device a model of any size is counted in seconds and without memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_ATTENTION_OPS = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)


@dataclass(frozen=True)
class CountedFlops:
    """FLOPs of one call, in total and by operator name."""

    total: int
    by_operator: dict[str, int]


def attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int]) -> int:
    """Both matrix products of attention on shapes [B, H, S, D]: 2 B H_q S_q S_k (D_qk + D_v)."""
    batch, heads, rows, width = query
    return 2 * batch * heads * rows * key[-2] * (width + value[-1])


def _formula(query: Sequence[int], key: Sequence[int], value: Sequence[int], *args: Any, **kwargs: Any) -> int:
    return attention_flops(query, key, value)


def count_flops(call: Callable[[], Any]) -> CountedFlops:
    """FLOPs of everything `call` runs, without gradients."""
    mapping = {getattr(torch.ops.aten, name): _formula for name in _ATTENTION_OPS if hasattr(torch.ops.aten, name)}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        call()
    by_operator = counter.get_flop_counts().get("Global", {})
    return CountedFlops(counter.get_total_flops(), {str(op): int(flops) for op, flops in by_operator.items()})


def relative_difference(counted: float, analytic: float) -> float:
    """(counted - analytic) / analytic; 0 where both are 0."""
    if analytic == 0:
        return 0.0 if counted == 0 else float("inf")
    return (counted - analytic) / analytic
