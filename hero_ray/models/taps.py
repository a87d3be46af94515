"""What methods read inside a vision tower, captured by hooks on the query and key projections of chosen blocks.

One query row per head is all that is kept, in fp32, so the tower may run any attention kernel: no eager attention, no
full matrices. What patches give each other is summed up a view at a time, where a method asks for it, or where the
tower has no CLS token and the mean over its patches stands in. Shape letters: V views, H heads, N patches, C width of
the tower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from hero_ray.core.encoded import Needs
from hero_ray.core.errors import ParameterError

_ROWS = 1024


@dataclass(frozen=True)
class TapPoint:
    """Where a block's queries and keys appear: modules whose outputs are `[V, 1 + N, C]`, CLS (if any) first.

    Attributes:
        split: makes both of the output of `query`, where one module gives them together; `key` is not looked at then.
    """

    query: nn.Module
    key: nn.Module
    num_heads: int
    split: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None


@dataclass
class ClsTaps:
    """Captures CLS rows and keys while the tower runs inside the `with` block.

    Attributes:
        attention: layer -> [V, H, N] post-softmax CLS row; the CLS key takes part in the softmax, then is cut off.
        logits: layer -> [V, H, N] the same before the softmax.
        query: layer -> [V, H, head_dim].
        keys: layer -> [V, H, 1 + N, head_dim].
        received: layer -> [V, 3, N], see `received`.
        has_cls: else the mean query and key play CLS, and the CLS row is the mean of the patches' rows.
    """

    points: Mapping[int, TapPoint]
    needs: Needs
    has_cls: bool = True
    attention: dict[int, Tensor] = field(default_factory=dict)
    logits: dict[int, Tensor] = field(default_factory=dict)
    query: dict[int, Tensor] = field(default_factory=dict)
    keys: dict[int, Tensor] = field(default_factory=dict)
    received: dict[int, Tensor] = field(default_factory=dict)
    _handles: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        unknown = sorted(self.needs.tower_layers - set(self.points))
        if unknown:
            raise ParameterError(f"layer(s) {unknown} were asked of a vision tower with layers 1 to {len(self.points)}")

    def __enter__(self) -> ClsTaps:
        for layer in sorted(self.needs.tower_layers):
            self._tap(layer, self.points[layer])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _tap(self, layer: int, point: TapPoint) -> None:
        seen: dict[str, Tensor] = {}
        if (split := point.split) is not None:
            hook = point.query.register_forward_hook(lambda _m, _i, both: self._record(layer, point, *split(both)))
            self._handles.append(hook)
            return

        def take(name: str, output: Tensor) -> None:
            # A copy: a view would keep the queries of every patch alive as long as the row.
            only_cls = name == "query" and layer not in self.needs.received and self.has_cls
            seen[name] = output[:, :1].clone() if only_cls else output
            if len(seen) == 2:
                self._record(layer, point, seen.pop("query"), seen.pop("key"))

        self._handles.append(point.query.register_forward_hook(lambda _m, _i, output: take("query", output)))
        self._handles.append(point.key.register_forward_hook(lambda _m, _i, output: take("key", output)))

    def _record(self, layer: int, point: TapPoint, query: Tensor, key: Tensor) -> None:
        keys = key.float().unflatten(-1, (point.num_heads, -1)).transpose(1, 2)  # [V, H, 1 + N, head_dim]
        if not self.has_cls:
            self._record_mean(layer, query.float().unflatten(-1, (point.num_heads, -1)).transpose(1, 2), keys)
            return
        heads = query[:, 0].float().unflatten(-1, (point.num_heads, -1))  # [V, H, head_dim]
        logits = (keys @ heads[..., None])[..., 0] * heads.shape[-1] ** -0.5
        self.query[layer] = heads
        if layer in self.needs.cls_attention:
            self.attention[layer] = logits.softmax(-1)[..., 1:]
        if layer in self.needs.cls_logits:
            self.logits[layer] = logits[..., 1:]
        if layer in self.needs.keys:
            self.keys[layer] = keys
        if layer in self.needs.received:
            if query.shape[1] != key.shape[1]:
                raise ParameterError(
                    f"block {layer} runs for its CLS token alone here; ask an earlier one for `received`"
                )
            self.received[layer] = received(query.float().unflatten(-1, (point.num_heads, -1)).transpose(1, 2), keys)

    def _record_mean(self, layer: int, queries: Tensor, keys: Tensor) -> None:
        """What `_record` keeps, of a tower without CLS: queries and keys [V, H, N, head_dim]."""
        self.query[layer] = mean = queries.mean(2)
        if layer in self.needs.cls_logits:
            self.logits[layer] = (keys @ mean[..., None])[..., 0] * mean.shape[-1] ** -0.5
        if layer in self.needs.keys:
            self.keys[layer] = torch.cat([keys.mean(2, keepdim=True), keys], 2)
        if layer in self.needs.cls_attention | self.needs.received:
            total, own = passed_on(queries, keys)
            if layer in self.needs.cls_attention:
                self.attention[layer] = total / keys.shape[2]
            if layer in self.needs.received:
                given, kept = total.mean(1), own.mean(1)
                self.received[layer] = torch.stack([torch.zeros_like(given), given - kept, kept], 1)


def passed_on(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Attention every patch gets from all patches together, and from itself: [V, H, N] each.

    Args:
        queries, keys: [V, H, N, head_dim].
    """
    total, own = [], []
    for query, key in zip(queries, keys, strict=True):
        # Views of native resolution may have tens of thousands of patches: their rows are summed up in parts.
        parts = query.split(_ROWS, 1) if query.shape[1] > 2 * _ROWS else (query,)
        given, kept, start = key.new_zeros(()), [], 0
        for part in parts:
            weights = (part @ key.mT).mul_(part.shape[-1] ** -0.5).softmax(-1)
            given = weights.sum(1) if len(parts) == 1 else given + weights.sum(1)
            kept.append(weights.diagonal(start, dim1=1, dim2=2))
            start += part.shape[1]
        total.append(given)
        own.append(torch.cat(kept, 1))
    return torch.stack(total), torch.stack(own)


def received(queries: Tensor, keys: Tensor) -> Tensor:
    """Attention every patch gets, head mean, from CLS, from the other patches together, and from itself: [V, 3, N].

    Args:
        queries, keys: [V, H, 1 + N, head_dim], CLS first.
    """
    rows = []
    for query, key in zip(queries, keys, strict=True):  # one view's matrices fit a cache, all of them do not
        weights = (query @ key.mT).mul_(query.shape[-1] ** -0.5).softmax(-1).mean(0)
        own = weights.diagonal()[1:]
        rows.append(torch.stack([weights[0, 1:], weights[1:, 1:].sum(0) - own, own]))
    return torch.stack(rows)


def pool_patches(patches: Tensor, fold: int, dim: int = -1) -> Tensor:
    """Mean over the `fold` x `fold` patches behind each visual token, along the raster axis `dim`."""
    if fold == 1:
        return patches
    side = round(patches.shape[dim] ** 0.5)
    moved = patches.movedim(dim, -1)
    pooled = moved.unflatten(-1, (side // fold, fold, side // fold, fold)).mean((-3, -1)).flatten(-2)
    return pooled.movedim(-1, dim)


def normalised(vectors: Tensor) -> Tensor:
    """Unit length along the last axis, fp32."""
    return nn.functional.normalize(vectors.float(), dim=-1)


def run_blocks(hidden: Tensor, blocks: list[Any], taken: frozenset[int], *arguments: Any) -> dict[int, Tensor]:
    """Run encoder blocks up to the deepest of `taken` (1-based); outputs of the taken ones."""
    outputs: dict[int, Tensor] = {}
    for layer, block in enumerate(blocks[: max(taken)], start=1):
        result = block(hidden, *arguments)
        hidden = result[0] if isinstance(result, tuple) else result
        if layer in taken:
            outputs[layer] = hidden
    return outputs


def rows_of(tensors: Mapping[int, Tensor], rows: slice) -> dict[int, Tensor]:
    """The given rows of every captured tensor."""
    return {layer: tensor[rows] for layer, tensor in tensors.items()}
