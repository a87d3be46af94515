"""Requests to left-padded tensors, and which requests may share the cache of their prefix and picture.

Shape letters: B rows, S positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hero_ray.models.base import PlacedTokens, Request, Visual, embeddings

Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PromptBatch:
    """Left-padded prompts, embedded.

    Attributes:
        embeds: [B, S, D].
        valid, visual, instruction, after_image: bool [B, S].
        lengths: real tokens per row.
        num_visual: visual tokens per row.
        positions: int64 [B, S, 3] (time, row, column), where visual tokens have places of their own; else None, and
            positions count tokens. next_position: int64 [B, 1] of the token behind each row, given with them.
        deep: [B, S, L, D], added to the hidden states behind each of the first L blocks, or None.
    """

    embeds: Tensor
    valid: Tensor
    visual: Tensor
    instruction: Tensor
    after_image: Tensor
    lengths: tuple[int, ...]
    num_visual: tuple[int, ...]
    positions: Tensor | None = None
    next_position: Tensor | None = None
    deep: Tensor | None = None

    @property
    def padded(self) -> bool:
        return min(self.lengths) < self.embeds.shape[1]


@dataclass(frozen=True)
class _Row:
    prefix: tuple[int, ...]
    visual: Visual | None
    suffix: tuple[int, ...]
    instruction: tuple[int, int]

    @property
    def length(self) -> int:
        return len(self.prefix) + self.num_visual + len(self.suffix)

    @property
    def num_visual(self) -> int:
        return 0 if self.visual is None else self.visual.shape[0]


def whole_prompts(requests: Sequence[Request], embed: Embed) -> PromptBatch:
    """Prefix, picture and suffix of every request."""
    rows = [_Row(r.prompt.prefix, r.visual, r.prompt.suffix, r.prompt.instruction) for r in requests]
    return _build(rows, embed)


def shared_parts(requests: Sequence[Request], embed: Embed) -> PromptBatch:
    """Prefix and picture of every request, without its question."""
    return _build([_Row(r.prompt.prefix, r.visual, (), (0, 0)) for r in requests], embed)


def own_parts(requests: Sequence[Request], embed: Embed) -> PromptBatch:
    """The text behind the picture of every request."""
    return _build([_Row((), None, r.prompt.suffix, r.prompt.instruction) for r in requests], embed)


def share_groups(requests: Sequence[Request]) -> list[list[int]]:
    """Indices of requests with the same prefix and the very same `visual` object, in order of first appearance."""
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault((id(request.visual), request.prompt.prefix), []).append(index)
    return list(groups.values())


def length_of(request: Request) -> int:
    """Prompt tokens of a request, visual ones included."""
    return request.prompt.num_text + request.visual.shape[0]


def _build(rows: list[_Row], embed: Embed) -> PromptBatch:
    lengths = tuple(row.length for row in rows)
    count, width = len(rows), max(lengths)
    # All rows at once: to write slices row by row, of tensors or arrays, costs several times as much.
    sizes = [(len(row.prefix), row.num_visual, *row.instruction) for row in rows]
    before, visuals, first, last = np.array(sizes, dtype=np.int64).T[:, :, None]
    places, start = np.arange(width), width - np.array(lengths)[:, None]
    picture = start + before
    text = picture + visuals
    kinds = np.empty((4, count, width), dtype=bool)  # valid, visual, instruction, after_image
    kinds[0], kinds[3] = places >= start, places >= text
    kinds[1] = (places >= picture) & (places < text)
    kinds[2] = (places >= text + first) & (places < text + last)
    ids = np.zeros((count, width), dtype=np.int64)
    ids[kinds[0] & ~kinds[1]] = [token for row in rows for part in (row.prefix, row.suffix) for token in part]
    pictures = [row.visual for row in rows if row.visual is not None]
    device = pictures[0].device if pictures else None
    embeds = embed(torch.from_numpy(ids).to(device))
    for index, row in enumerate(rows):
        if row.visual is not None:
            end = width - len(row.suffix)
            embeds[index, end - row.num_visual : end] = embeddings(row.visual)
    valid, visual, instruction, after_image = torch.from_numpy(kinds).to(embeds.device)
    return PromptBatch(
        embeds,
        valid,
        visual,
        instruction,
        after_image,
        lengths,
        tuple(row.num_visual for row in rows),
        *_placed(rows, width, embeds),
    )


def _placed(rows: list[_Row], width: int, embeds: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """`positions`, `next_position` and `deep` of a batch; None where no picture has places.

    The text behind a picture goes on where the whole picture would have ended, so that no question moves with what was
    dropped.
    """
    if not any(isinstance(row.visual, PlacedTokens) for row in rows):
        return None, None, None
    positions = np.zeros((len(rows), width, 3), dtype=np.int64)
    ends = np.zeros((len(rows), 1), dtype=np.int64)
    depth = max(_depth(row) for row in rows)
    deep = embeds.new_zeros(*embeds.shape[:2], depth, embeds.shape[-1]) if depth else None
    for index, row in enumerate(rows):
        start, before = width - row.length, len(row.prefix)
        picture, text, span = start + before, width - len(row.suffix), row.num_visual
        positions[index, start:picture] = np.arange(before)[:, None]
        if isinstance(row.visual, PlacedTokens):
            positions[index, picture:text], span = before + row.visual.places.numpy(), row.visual.span
            if deep is not None and row.visual.deep is not None:
                deep[index, picture:text] = row.visual.deep
        elif span:
            positions[index, picture:text] = before + np.arange(span)[:, None]
        ends[index] = before + span + len(row.suffix)
        positions[index, text:] = before + span + np.arange(len(row.suffix))[:, None]
    return torch.from_numpy(positions).to(embeds.device), torch.from_numpy(ends).to(embeds.device), deep


def _depth(row: _Row) -> int:
    deep = row.visual.deep if isinstance(row.visual, PlacedTokens) else None
    return 0 if deep is None else deep.shape[1]
