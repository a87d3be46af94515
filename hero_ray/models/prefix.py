"""A prefix that several rows share, read where it lies: no row gets a copy of its keys and values.

Softmax over prefix and own keys together is taken in two pieces. A piece gives its output o and the log s of its sum of
exponentials; the whole is o_own + (o_prefix - o_own) * sigmoid(s_prefix - s_own), which is exact but for rounding. All
queries behind one prefix meet it in one call and no key is hidden there, so that piece has no mask. Grouped query heads
stand beside each other in the query axis: no key is repeated.

Shape letters: B rows, H query heads, G key heads, T new positions, Q = H / G * T, S own keys, P keys of a prefix,
D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hero_ray.models.cache import KeyValueCache

ATTENTION = "hero_ray_in_place"
"""What transformers knows `attended` by, for blocks that run through their own modules."""

_for_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_for_cuda = torch.ops.aten._scaled_dot_product_flash_attention


class SharedPrefix:
    """Prefixes of a batch, and which row follows which.

    Args:
        cache: keys and values of the prefixes, left-padded; they must not be written any more.
        lengths: real tokens of every prefix.
        rows: int64 [B] on the CPU: the prefix that each row of the batch follows.
    """

    def __init__(self, cache: KeyValueCache, lengths: Sequence[int], rows: Tensor) -> None:
        counts = rows.bincount(minlength=len(lengths)).tolist()
        self._counts = [count for count in counts if count]
        self._order = self._back = None
        if bool((rows[1:] < rows[:-1]).any()):  # rows of one prefix stand together in what is asked of it
            order = rows.argsort(stable=True)
            device = cache.keys(0).device
            self._order, self._back = order.to(device), order.argsort().to(device)
        followed = [(number, length) for number, length in enumerate(lengths) if counts[number]]
        self._pieces = []
        for index in range(cache.num_layers):
            keys, values = cache.keys(index), cache.values(index)
            self._pieces.append(
                [
                    tuple(part[number : number + 1, :, part.shape[2] - length :] for part in (keys, values))
                    for number, length in followed
                ]
            )
        self._mask: tuple[Tensor, Tensor] | None = None

    def attended(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, layer: int
    ) -> Tensor:
        """Attention [B, H, T, D] of queries [B, H, T, D] over their prefix and own keys [B, G, S, D] of block `layer`.

        Args:
            mask: bool [B, 1, T, S] of own keys alone; None shows all of them.
        """
        shape, groups = query.shape, keys.shape[1]
        query = query.reshape(shape[0], groups, -1, shape[3])  # [B, G, Q, D]
        hidden = None if mask is None else self._hidden(mask, shape[1] // groups, query.dtype)
        own, own_sum = attention_and_sum(query, keys, values, hidden, scale)
        shared, shared_sum = self._over_prefixes(query, scale, layer)
        weight = (shared_sum - own_sum).sigmoid_()[..., None]
        return own.float().lerp_(shared.float(), weight).to(query.dtype).view(shape)

    def _over_prefixes(self, query: Tensor, scale: float, layer: int) -> tuple[Tensor, Tensor]:
        groups, width = query.shape[1], query.shape[3]
        outs, totals = [], []
        ordered = query if self._order is None else query[self._order]
        for part, (keys, values) in zip(ordered.split(self._counts), self._pieces[layer], strict=True):
            together = part.transpose(0, 1).reshape(1, groups, -1, width)
            out, total = attention_and_sum(together, keys, values, None, scale)
            outs.append(out.reshape(groups, len(part), -1, width).transpose(0, 1))
            totals.append(total.reshape(groups, len(part), -1).transpose(0, 1))
        out, total = (each[0] if len(each) == 1 else torch.cat(each) for each in (outs, totals))
        return (out, total) if self._back is None else (out[self._back], total[self._back])

    def _hidden(self, mask: Tensor, fold: int, dtype: torch.dtype) -> Tensor:
        """The mask as what is added to logits, [B, 1, Q, S]; made once a pass, not once a block."""
        if self._mask is None or self._mask[0] is not mask:
            wide = mask[:, :, None].expand(-1, -1, fold, -1, -1).flatten(2, 3)
            added = torch.zeros(wide.shape, dtype=dtype, device=mask.device).masked_fill_(~wide, float("-inf"))
            self._mask = mask, added
        return self._mask[1]


def attention_and_sum(
    query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention [B, G, Q, D] over keys [B, G, S, D], and the log of the sum of exponentials, fp32 [B, G, Q].

    By torch's fused kernels, which hold no square, where they tell that sum: on the CPU, and on CUDA in 16 bits without
    a mask. Elsewhere in fp32.

    Args:
        hidden: [B, 1, Q, S], added to the logits, or None.
    """
    if query.device.type in ("cpu", "meta"):
        return _for_cpu(query, keys, values, attn_mask=hidden, scale=scale)  # type: ignore[no-any-return]
    if hidden is None and _flash_can(query, keys, values):
        return _for_cuda(query, keys, values, scale=scale)[:2]  # type: ignore[no-any-return]
    return _in_fp32(query, keys, values, hidden, scale)


def _in_fp32(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    logits = (query.float() @ keys.float().transpose(-1, -2)).mul_(scale)
    if hidden is not None:
        logits += hidden
    total = logits.logsumexp(-1)
    return logits.sub_(total[..., None]).exp_() @ values.float(), total


def _flash_can(query: Tensor, keys: Tensor, values: Tensor) -> bool:
    if query.dtype == torch.float32 or query.shape[-1] % 8:
        return False
    asked = torch.backends.cuda.SDPAParams(query, keys, values, None, 0.0, False, False)
    return torch.backends.cuda.can_use_flash_attention(asked)


def attended(
    module: Any,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    prefix: SharedPrefix | None = None,
    **how: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it, [B, T, H, D]: SDPA's own, but for a pass behind a shared prefix."""
    if prefix is None:
        return sdpa_attention_forward(module, query, keys, values, mask, **how)
    return prefix.attended(query, keys, values, mask, how["scaling"], module.layer_idx).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attended)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)  # for transformers' own passes
