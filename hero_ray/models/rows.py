"""What the host knows of a batch that is being decoded: tokens up to its last look at the device.

A look makes the host wait for all steps that were queued. Between looks a step leaves two numbers a row on the device,
its token and its largest logit, so that the host can queue the next ones meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from hero_ray.core.looks import Looks
from hero_ray.models.base import Request, embeddings
from hero_ray.models.draws import Chances, TokenChance
from hero_ray.models.finite import check_logits

_EVERY_STEP = 4
"""Steps with a look each; answers of benchmarks are mostly that short. Then every so many steps: a look too late costs
a few steps that nobody reads, a look at every step an empty queue."""


class DecodedRows:
    """The rows of one batch, as far as they were looked at.

    Args:
        requests: one per row.
        end: token ids that end an answer. ignore_end: they are tokens like any other.
        looks: what else is to be looked at, such as scores of a prefill that dropped tokens.

    Attributes:
        ids: per row, the tokens of its answer.
        noted: how likely they were, where that was asked for.
    """

    noted: Chances | None = None

    def __init__(self, requests: Sequence[Request], end: frozenset[int], ignore_end: bool, looks: Looks) -> None:
        self.ids: list[list[int]] = [[] for _ in requests]
        self._looks = looks
        self._requests, self._end, self._ignore_end = requests, end, ignore_end
        self._ended = [False] * len(requests)
        self._finite = [True] * len(requests)
        self._steps: list[Tensor] = []
        self._peaks: list[Tensor] = []

    def add(self, logits: Tensor, tokens: Tensor) -> None:
        """Note a step: logits [B, vocab] and the tokens [B] picked from them. Reads nothing."""
        self._steps.append(tokens)
        if self.noted is not None:
            self.noted.note(logits, tokens)
        # NaN and infinity among the logits are NaN or infinity here.
        self._peaks.append(torch.linalg.vector_norm(logits, math.inf, dim=-1))

    def due(self, count: int, device: torch.device) -> bool:
        """Whether the host should look after step `count` (from 0), with more to come."""
        if self._ignore_end:
            return False
        return device.type == "cpu" or count < _EVERY_STEP or count % _EVERY_STEP == 0

    def look(self, *more: Tensor) -> list[Tensor]:
        """Take in the steps since the last look; `more` tensors come to the CPU in the same transfer."""
        tokens, peaks, *found = self._looks.fetch(torch.stack(self._steps), torch.stack(self._peaks), *more)
        for step, fine in zip(tokens.tolist(), peaks.isfinite().tolist(), strict=True):
            for row, token in enumerate(step):
                if not self.over(row):
                    self._finite[row] &= fine[row]
                    self._ended[row] = not self._ignore_end and token in self._end
                    if not self._ended[row]:
                        self.ids[row].append(token)
        self._steps.clear()
        self._peaks.clear()
        return found

    @property
    def longest(self) -> int:
        """Steps that the longest answer may take."""
        return max(request.max_new_tokens for request in self._requests)

    def over(self, row: int) -> bool:
        """Whether a row's answer is complete."""
        return self._ended[row] or len(self.ids[row]) >= self._requests[row].max_new_tokens

    def stop(self, row: int) -> None:
        """Nobody wants more of a row's answer."""
        self._ended[row] = True

    @property
    def complete(self) -> bool:
        """Whether every answer is."""
        return all(map(self.over, range(len(self.ids))))

    def check(self, dtype: torch.dtype) -> None:
        """Refuse a batch in which some answer cannot be read.

        Raises:
            NonFiniteScoreError: naming what overflowed.
        """
        check_logits(self._finite, [embeddings(request.visual) for request in self._requests], dtype)

    def check_next(self, logits: Tensor) -> None:
        """The same of the logits [B, vocab] that the next tokens are picked from, at the price of a look of their own.

        Raises:
            NonFiniteScoreError: naming what overflowed.
        """
        fine = logits.isfinite().all(-1).tolist()
        self._finite = [self.over(row) or one for row, one in enumerate(fine)]
        self.check(logits.dtype)

    def chances(self, row: int, start: int = 0) -> tuple[TokenChance, ...]:
        """How likely the tokens of a row were, from its token `start` on: token n is that of step n."""
        if self.noted is None:
            return ()
        return tuple(self.noted.of(row, step, self.ids[row][step]) for step in range(start, len(self.ids[row])))

    def finish(self, row: int) -> Literal["stop", "length"]:
        """How a row's answer ended."""
        return "stop" if self._ended[row] else "length"
