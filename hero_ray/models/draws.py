"""Picking the next tokens, and how likely each of them was. Shape letters: B rows, K alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_GREEDY_BELOW = 1e-6
"""Temperature below which logits over it may overflow; the draw is the largest there anyway."""


@dataclass(frozen=True)
class TokenChance:
    """How likely the model held a token of its answer, before temperature and top-p.

    Attributes:
        logprob: natural logarithm of its probability.
        likeliest: (token, logprob) of the most likely tokens at its place, the first the likeliest.
    """

    token: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()


class Chances:
    """Log-probabilities of a batch that is being decoded, one note a step.

    Args:
        most: alternatives to be noted beside each picked token.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._steps: list[tuple[list[float], list[list[float]], list[list[int]]]] = []

    def note(self, logits: Tensor, tokens: Tensor) -> None:
        """Note a step: logits [B, vocab] and the tokens [B] picked from them. Waits for the device."""
        logits = logits.float()
        whole = logits.logsumexp(-1, keepdim=True)
        picked = (logits.gather(-1, tokens[:, None]) - whole)[:, 0]
        best = logits.topk(min(self._most, logits.shape[-1]))
        self._steps.append((picked.tolist(), (best.values - whole).tolist(), best.indices.tolist()))

    def of(self, row: int, step: int, token: int) -> TokenChance:
        """What was noted of the token that row `row` got at step `step`."""
        picked, logprobs, tokens = self._steps[step]
        return TokenChance(token, picked[row], tuple(zip(tokens[row], logprobs[row], strict=True)))


class Picker:
    """Next tokens from logits [B, vocab]: the largest, or a draw per row with the row's own generator.

    Args:
        seeds: one per row. A row's draws depend on its own alone: alone and in a batch it draws alike.
        temperature: 0 is greedy. top_p: probability mass that is drawn from.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self._temperature, self._top_p = temperature, top_p
        self._generators = []
        if temperature > 0.0:
            for seed in seeds:
                generator = torch.Generator(device="cpu")
                generator.manual_seed(seed * 1_000_003)
                self._generators.append(generator)

    def __call__(self, logits: Tensor) -> Tensor:
        if not self._generators or self._temperature < _GREEDY_BELOW:
            return logits.argmax(-1)
        shares = (logits.float() / self._temperature).softmax(-1).cpu()
        if self._top_p < 1.0:
            ordered, places = shares.sort(dim=-1, descending=True)
            beyond = ordered.cumsum(-1) - ordered >= self._top_p
            beyond[:, 0] = False  # a top_p that rounds to 0 leaves the likeliest
            shares = torch.zeros_like(shares).scatter(-1, places, ordered.masked_fill(beyond, 0.0))
        drawn = [
            torch.multinomial(row, 1, generator=generator)
            for row, generator in zip(shares, self._generators, strict=True)
        ]
        return torch.cat(drawn).to(logits.device)
