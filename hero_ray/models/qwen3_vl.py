"""Qwen3-VL, dense: a tower without windows, some of whose blocks reach the language model by themselves (DeepStack)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from hero_ray.core.encoded import Encoded, Selection
from hero_ray.core.layout import NewlinePolicy
from hero_ray.models.base import PlacedTokens
from hero_ray.models.family import Parts
from hero_ray.models.native import TowerGrid
from hero_ray.models.qwen_vl import FOLD, QwenVLAdapter


class Qwen3VLAdapter(QwenVLAdapter):
    """`Qwen/Qwen3-VL-*-Instruct`, dense sizes, one picture a question.

    What some blocks of the tower say is projected by mergers of their own and added to the picture's tokens behind the
    first blocks of the language model. It lives and is dropped with the token it belongs to: an edited token keeps that
    of its place, a token that no patch stands for has none.
    """

    family = "qwen3-vl"

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._deep_layers = tuple(index + 1 for index in parts.model.config.vision_config.deepstack_visual_indexes)

    def _embedded_patches(self, pixels: Tensor, grid: TowerGrid) -> Tensor:
        """Patches with their positions: the tower's square table, interpolated between its corners to the grid."""
        tower = self._core.visual
        hidden = super()._embedded_patches(pixels, grid)
        count, places = tower.num_grid_per_side, grid.places.to(pixels.device)
        (rows, high), (columns, wide) = (_corners(places[:, axis], grid.side[axis] * FOLD, count) for axis in (0, 1))
        table = tower.pos_embed((rows[:, :, None] * count + columns[:, None]).flatten(1))
        positions = (table * (high[:, :, None] * wide[:, None]).flatten(1)[..., None]).sum(1)
        return hidden + positions.to(hidden.dtype)

    def _post_norm(self, states: Tensor) -> Tensor:
        return self._core.visual.merger.norm(states)  # type: ignore[no-any-return]

    def _projected(self, tokens: Tensor) -> Tensor:
        merger = self._core.visual.merger
        return merger.linear_fc2(merger.act_fn(merger.linear_fc1(tokens)))  # type: ignore[no-any-return]

    def _deep(self, outputs: Mapping[int, Tensor]) -> Tensor | None:
        mergers = zip(self._core.visual.deepstack_merger_list, self._deep_layers, strict=True)
        found = [
            merger(outputs[layer].flatten(0, 1)).unflatten(0, (len(outputs[layer]), -1)) for merger, layer in mergers
        ]
        return torch.stack(found, 2) if found else None

    @torch.no_grad()
    def assemble(self, encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> PlacedTokens:
        """As Qwen2.5-VL's, with what belongs behind the first blocks."""
        placed = super().assemble(encoded, selection, policy)
        if encoded.deep is None:
            return placed
        sequence = selection.sequence(encoded.layout, policy).to(encoded.deep.device)
        deep = encoded.deep.flatten(0, 1)[sequence.clamp(min=0)]
        return replace(placed, deep=deep.masked_fill((sequence < 0)[:, None, None], 0.0))


def _corners(index: Tensor, size: int, count: int) -> tuple[Tensor, Tensor]:
    """The two entries, of an axis of `count`, that places `index` of `size` lie between, and their weights: [n, 2]."""
    last = torch.full_like(index, max(1, size - 1))  # as long as `index`: a device divides by a lone number otherwise
    place = index.float() * (count - 1) / last
    low = place.floor()
    step = torch.arange(2, device=index.device)
    weights = (1 - (place[:, None] - low[:, None] - step).abs()).clamp(min=0)
    return (low.long()[:, None] + step).clamp(max=count - 1), weights
