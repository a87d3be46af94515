"""Many questions about one image in one sequence, each blind to the others.

A packed row is `prefix, visual tokens, question 1, question 2, ...`. The mask is block-diagonal over questions, every
question sees the shared prefix, and positions restart behind it: exactly what each question would see alone. One visual
sequence then carries dozens of training signals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Segment:
    """Token ids of one question (with everything up to the answer) and of its answer (with the end token)."""

    question: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Packed:
    """Packed questions of a batch; `length` counts question tokens, the prefix comes before.

    Attributes:
        ids: `[batch, length]`, padded with 0.
        mask: Additive attention mask `[batch, 1, prefix + length, prefix + length]`.
        positions: `[batch, prefix + length]`.
        labels: Next-token targets `[batch, length]`, -100 where nothing is learnt.
        segments: Which question a token belongs to, from 0, -1 for padding; `[batch, length]`.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    labels: Tensor
    segments: Tensor


def pack(rows: Sequence[Sequence[Segment]], prefix: int) -> Packed:
    """Pack each row's segments behind a prefix of `prefix` tokens."""
    columns: list[list[list[int]]] = [[], [], [], []]
    for row in rows:
        ids: list[int] = []
        segments: list[int] = []
        positions: list[int] = []
        labels: list[int] = []
        for number, segment in enumerate(row):
            tokens = [*segment.question, *segment.answer]
            ids += tokens
            segments += [number] * len(tokens)
            positions += range(prefix, prefix + len(tokens))
            labels += [IGNORED] * (len(segment.question) - 1) + [*segment.answer, IGNORED]
        for column, values in zip(columns, (ids, segments, positions, labels), strict=True):
            column.append(values)
    length = max(len(values) for values in columns[0])
    ids_, segments_, positions_, labels_ = (
        torch.tensor([values + [fill] * (length - len(values)) for values in column])
        for column, fill in zip(columns, (0, -1, prefix, IGNORED), strict=True)
    )
    shared = torch.arange(prefix)[None].expand(len(rows), -1)
    return Packed(ids_, _mask(segments_, prefix), torch.cat([shared, positions_], 1), labels_, segments_)


def _mask(segments: Tensor, prefix: int) -> Tensor:
    """Causal, and between question tokens only within the same question."""
    owner = torch.cat([torch.full((len(segments), prefix), -2), segments], 1)
    total = owner.shape[1]
    allowed = (owner[:, :, None] == owner[:, None, :]) | (owner[:, None, :] == -2)
    allowed &= torch.ones(total, total, dtype=torch.bool).tril()
    return torch.zeros(len(segments), 1, total, total).masked_fill_(~allowed[:, None], torch.finfo(torch.float32).min)
