"""What every method that drops inside the LLM must keep, on boundaries between blocks drawn at random.

`check_pruner` takes pictures as `conformance.random_encoded` draws them and lets a method's pruner act on a batch of
them, block by block; a broken promise raises `SelectionError` with what was seen. Nothing here needs a model.

Shape letters: B rows, S positions, H heads, R queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import LayerPruner, Method, Survivors

_HEADS, _WIDTH = 2, 8
_TURNS = (1.0, 0.1)
"""Rotary angles a position turns by, one for each pair of a head's four numbers."""
_BEFORE, _BEHIND = 3, 6
"""Text tokens before and behind the picture; the second row and every other one has two more of each."""


class DrawnState:
    """One boundary, a `LayerState` whose tensors are drawn from `seed` and the block's number.

    Args:
        alive: visual tokens of every row that live at this boundary.
        num_visual: [B] those that entered.
        levels: few values per tensor, which makes ties everywhere; None draws freely.
    """

    def __init__(
        self,
        layer: int,
        num_layers: int,
        alive: list[int],
        num_visual: Tensor,
        seed: int = 0,
        levels: int | None = None,
    ) -> None:
        self.layer, self.num_layers, self.alive, self.num_visual = layer, num_layers, alive, num_visual
        self.seed, self.levels = seed, levels
        spans = [(_BEFORE + 2 * (row % 2), count, _BEHIND + 2 * (row % 2)) for row, count in enumerate(self.alive)]
        length = max(map(sum, spans))
        shape = (len(spans), length)
        self.valid, self.visual, self.after_image = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
        for row, (before, count, behind) in enumerate(spans):
            self.valid[row, length - before - count - behind :] = True
            self.visual[row, length - count - behind : length - behind] = True
            self.after_image[row, length - behind :] = True
        self.instruction = self.after_image.clone()
        self.instruction[:, -2:] = False  # the template's own
        self.positions = (self.valid.long().cumsum(1) - 1).clamp(min=0)
        self.hidden = self._normal("hidden", *shape, _WIDTH)

    def _normal(self, what: str, *shape: int) -> Tensor:
        number = self.seed * 1009 + self.layer * 31 + sum(map(ord, what))
        drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(number))
        return drawn if self.levels is None else (drawn * self.levels / 2).round() * 2 / self.levels

    def attention_rows(self, queries: Tensor) -> Tensor:
        length = self.valid.shape[1]
        logits = self._rows("attention", queries)
        seen = (torch.arange(length) <= queries[..., None]) & self.valid[:, None]
        return logits.masked_fill(~seen[:, None], -torch.inf).softmax(-1)

    def unturned_logits(self, queries: Tensor) -> Tensor:
        return self._rows("unturned", queries)

    def rope_bias(self, queries: Tensor) -> Tensor:
        apart = (self.positions.gather(1, queries)[..., None] - self.positions[:, None]).float()
        return sum((2.0 * (step * apart).cos() for step in _TURNS), torch.zeros_like(apart)) * (2 * len(_TURNS)) ** -0.5

    def _rows(self, what: str, queries: Tensor) -> Tensor:
        rows, length = self.valid.shape
        whole = self._normal(what, rows, _HEADS, length, length)
        return whole.gather(2, queries[:, None, :, None].expand(-1, _HEADS, -1, length))

    def keys(self) -> Tensor:
        return self._normal("keys", len(self.alive), _HEADS, self.valid.shape[1], _WIDTH // _HEADS)

    def values(self) -> Tensor:
        return self._normal("values", len(self.alive), _HEADS, self.valid.shape[1], _WIDTH // _HEADS)

    def rope(self) -> tuple[Tensor, Tensor]:
        angles = self.positions[..., None] * torch.tensor([*_TURNS, *_TURNS])
        return angles.cos(), angles.sin()

    def moved(self, part: Literal["attention", "mlp"]) -> tuple[Tensor, Tensor]:
        return self._normal(part + " in", *self.hidden.shape), self._normal(part + " out", *self.hidden.shape)

    def final_norm(self, hidden: Tensor) -> Tensor:
        return hidden


def check_pruner(
    method: Method, pictures: Sequence[Encoded], ratio: float, depth: int = 4, levels: int | None = None
) -> list[list[int]]:
    """Every promise of one prefill of several pictures together; visual tokens alive after each block, per picture.

    Raises:
        SelectionError: a promise is broken.
    """
    budget = Budget.of(pictures[0].layout, ratio)
    selections = [method.select(one, budget) for one in pictures]
    lengths = [len(chosen.sequence(one.layout)) for chosen, one in zip(selections, pictures, strict=True)]
    first, again = (_passed(method, budget, selections, lengths, depth, levels) for _ in range(2))
    _must(method, first == again, "a second prefill keeps as many tokens")
    return first


def _passed(
    method: Method, budget: Budget, selections: Sequence[Selection], lengths: list[int], depth: int, levels: int | None
) -> list[list[int]]:
    pruner, alive, found = method.pruner_for(budget, selections), list(lengths), []
    entered = torch.tensor(lengths)
    cuts = 0
    for layer in range(1, depth + 1):
        state = DrawnState(layer, depth, alive, entered, levels=levels)
        survivors = pruner.before(state) if pruner else None
        if survivors is not None:
            alive = _left(method, state, survivors, first=not cuts)
            state, cuts = DrawnState(layer, depth, alive, entered, levels=levels), cuts + 1
        if pruner:
            _observe(method, pruner, state)
        found.append(alive)
    return found


def _observe(method: Method, pruner: LayerPruner, state: DrawnState) -> None:
    before = state.hidden.clone()
    pruner.after(state)
    _must(method, torch.equal(before, state.hidden), "what a pruner is shown stays as it is")


def _left(method: Method, state: DrawnState, survivors: Survivors, first: bool) -> list[int]:
    """Visual tokens alive past a boundary, every row's."""
    keep, valid = survivors.keep, state.valid
    _must(method, keep.dtype == torch.bool and keep.shape == valid.shape, "survivors are bool [rows, positions]")
    _must(method, not bool((keep & ~valid).any()), "padding does not survive")
    _must(method, bool((keep | ~valid | state.visual).all()), "text survives")
    merged = torch.zeros(len(keep), dtype=torch.long)
    if survivors.recycled is not None:
        rows, count, width = survivors.recycled.shape
        _must(method, (rows, width) == (len(keep), state.hidden.shape[-1]), "recycled tokens are as wide as others")
        merged = torch.full_like(merged, count) if survivors.recycled_valid is None else survivors.recycled_valid.sum(1)
    plain = first and survivors.recycled is None
    _must(method, plain or not survivors.everywhere, "what is dropped everywhere is dropped at once")
    alive = ((keep & state.visual).sum(1) + merged).tolist()
    _must(method, all(now <= was for now, was in zip(alive, state.alive, strict=True)), "no row grows")
    return [int(count) for count in alive]


def _must(method: Method, holds: bool, promise: str) -> None:
    if not holds:
        raise SelectionError(f"{method.name} ({method.variant}) breaks a promise: {promise}")
