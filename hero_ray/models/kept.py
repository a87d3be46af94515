"""Keys and values of a prompt, kept for the next turn of its conversation, which begins with the same tokens.

A later turn runs what is new alone: the answer and the next question behind the picture. Exact but for the rounding of
a prompt that is run in two parts. Shape letters: B rows, S positions, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hero_ray.models.base import Prompt, Request
from hero_ray.models.cache import KeyValueCache
from hero_ray.models.decoding import DecodeState, Span


@dataclass
class KeptPrompt:
    """The last prompt that was run over one picture's tokens, one row of a batch.

    Attributes:
        most_bytes: longer prompts are not kept.
        prompt: None until one was run.
        layers: keys and values [1, H, S, head_dim] of every block. next_position: [1, 1], of the token behind.
    """

    most_bytes: int
    prompt: Prompt | None = None
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    next_position: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(tensor.nbytes for pair in self.layers for tensor in pair)

    def common(self, prompt: Prompt) -> int:
        """Tokens behind the picture that need not be run again; -1 where nothing of `prompt` was kept.

        The last token is always run: its logits begin the answer.
        """
        if self.prompt is None or self.prompt.prefix != prompt.prefix:
            return -1
        pairs = zip(self.prompt.suffix, prompt.suffix, strict=False)
        alike = next((place for place, (ours, new) in enumerate(pairs) if ours != new), len(self.prompt.suffix))
        return min(alike, len(prompt.suffix) - 1)

    def keep(self, request: Request, state: DecodeState, row: int) -> None:
        """Copy a row of a batch whose prompts have just been run, all tokens through all blocks."""
        (span,) = state.spans
        alive = span.valid[row, : span.length].nonzero()[:, 0]
        size = alive.numel() * sum(state.cache.bytes_per_position(index) for index in range(len(state.span_of)))
        if size > self.most_bytes:
            return
        pairs = ((state.cache.keys(index), state.cache.values(index)) for index in range(len(state.span_of)))
        self.layers = [(keys[row : row + 1, :, alive], values[row : row + 1, :, alive]) for keys, values in pairs]
        self.prompt, self.next_position = request.prompt, span.next_position[row : row + 1].clone()


def resumable(requests: Sequence[Request]) -> bool:
    """Whether every request goes on behind a prompt that was kept."""
    return all(request.kept is not None and request.kept.common(request.prompt) >= 0 for request in requests)


def resumed(requests: Sequence[Request]) -> tuple[DecodeState, list[Request]]:
    """What was kept of every request's prompt, left-padded to one batch, and the requests with what is left to run."""
    slots = [request.kept for request in requests]
    commons = [slot.common(request.prompt) for slot, request in zip(slots, requests, strict=True)]
    sizes = [
        len(request.prompt.prefix) + request.visual.shape[0] + common
        for request, common in zip(requests, commons, strict=True)
    ]
    width, layers = max(sizes), len(slots[0].layers)
    cache = KeyValueCache(layers)
    for index in range(layers):
        pairs = []
        for number in (0, 1):
            like = slots[0].layers[index][number]
            stacked = like.new_zeros(len(slots), like.shape[1], width, like.shape[3])
            for row, (slot, size) in enumerate(zip(slots, sizes, strict=True)):
                stacked[row, :, width - size :] = slot.layers[index][number][0, :, :size]
            pairs.append(stacked)
        cache.update(*pairs, index)
    device = slots[0].layers[0][0].device
    taken = torch.tensor(sizes, device=device)
    valid = torch.arange(width, device=device)[None] >= width - taken[:, None]
    unused = [len(slot.prompt.suffix) - common for slot, common in zip(slots, commons, strict=True)]
    behind = torch.cat([slot.next_position for slot in slots]) - torch.tensor(unused, device=device)[:, None]
    visual = torch.tensor([request.visual.shape[0] for request in requests], device=device)
    span = Span(valid, width, min(sizes) < width, behind, taken, visual)
    rest = [
        replace(request, prompt=Prompt((), request.prompt.suffix[common:], (0, 0)))
        for request, common in zip(requests, commons, strict=True)
    ]
    return DecodeState(valid.new_empty(0), cache, [span], [0] * layers), rest
