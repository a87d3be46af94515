"""FitPrune's search for a schedule (arXiv 2409.10197): how many tokens every block can do without.

For a share alpha, a token may go behind a block if it is among the least attended ones that together hold alpha of what
the picture received there unpruned, both from the picture and from the text; block after block, on what is left. The
least alpha that saves the FLOPs asked for is sought by bisection, and the schedule is the mean share alive. Follows
ywh187/FitPrune @d28e418 (`statistical_analysis.py`). Differs: the code prints the last alpha it tried, whether it saves
enough or not, and whole tokens of 576; here it is the last that does, and shares of each picture's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hero_ray.methods.base import LayerPruner, LayerState, Survivors
from hero_ray.methods.fitprune import received_of
from hero_ray.models.base import LanguageShape

STEP = 0.01
"""Width of the bracket around alpha at which the code stops."""
Prefill = Callable[[LayerPruner], None]
"""Sends one prompt through the model with a pruner."""


@dataclass(frozen=True)
class Fitted:
    """What one alpha comes to.

    Attributes:
        schedule: share of visual tokens alive on entering every block, mean over prompts.
        saved: share of the FLOPs of visual tokens that this saves.
        reached: whether that is as much as was asked for.
    """

    alpha: float
    schedule: tuple[float, ...]
    saved: float
    reached: bool


class Received(LayerPruner):
    """Notes what the picture receives in every block from picture and text, dropping nothing: `sums`, `entered`."""

    def __init__(self) -> None:
        self.sums: list[list[float]] = []
        self.entered = 0

    def after(self, state: LayerState) -> None:
        self.entered = int(state.num_visual[0])
        self.sums.append([float(part.sum()) for part in per_token(state)])


class Dispensable(LayerPruner):
    """Drops what `alpha` can do without behind every block but the last; `alive` on entering every block."""

    def __init__(self, whole: Received, alpha: float) -> None:
        self._whole, self._alpha = whole, alpha
        self._keep: torch.Tensor | None = None
        self.alive: list[int] = [whole.entered]

    def after(self, state: LayerState) -> None:
        if state.layer == state.num_layers:
            return
        needed = [(1.0 - self._alpha) * known for known in self._whole.sums[state.layer - 1]]
        by_picture, by_text = (least(part, enough) for part, enough in zip(per_token(state), needed, strict=True))
        self._keep = ~(by_picture & by_text)

    def before(self, state: LayerState) -> Survivors | None:
        if self._keep is None:
            return None
        stays, self._keep = self._keep, None
        self.alive.append(int(stays.sum()))
        keep = state.valid.clone()
        keep[0, state.visual[0]] = stays.to(keep.device)
        return Survivors(keep)


def per_token(state: LayerState) -> list[torch.Tensor]:
    """Attention that visual tokens of the only row get, strongest head, mean over visual and text queries: [M] each."""
    places = state.visual[0].nonzero()[:, 0].cpu()
    return [
        part[0].cpu().double()[places] / max(1, int(asking.sum()))
        for part, asking in zip(received_of(state), (state.visual, state.after_image), strict=True)
    ]


def least(scores: torch.Tensor, enough: float) -> torch.Tensor:
    """The most of the lowest of scores [n] that can go while the rest still sums to `enough`: bool [n]."""
    order = scores.argsort(stable=True)
    left = scores.sum() - scores[order].cumsum(0)  # behind dropping 1, 2, .. of them
    count = min(int((left >= enough).sum()), len(scores) - 1)
    return torch.zeros(len(scores), dtype=torch.bool).index_fill_(0, order[:count], True)


def search(
    prompts: Sequence[Prefill], shape: LanguageShape, reduction: float, progress: Callable[[Fitted], None]
) -> Fitted | None:
    """The least alpha whose schedule saves `reduction` of the FLOPs, by bisection; None where none does."""
    whole = []
    for send in prompts:
        whole.append(Received())
        send(whole[-1])
    low, high, found = 0.0, 1.0, None
    while high - low > STEP + 1e-6:
        tried = fit(prompts, whole, shape, reduction, (low + high) / 2)
        progress(tried)
        if tried.reached:
            high, found = tried.alpha, tried
        else:
            low = tried.alpha
    return found


def fit(
    prompts: Sequence[Prefill], whole: Sequence[Received], shape: LanguageShape, reduction: float, alpha: float
) -> Fitted:
    """One alpha: dropping stops before the first block at which enough is saved without more."""
    counts = []
    for send, known in zip(prompts, whole, strict=True):
        dropping = Dispensable(known, alpha)
        send(dropping)
        counts.append(dropping.alive)
    budget = (1.0 - reduction) * sum(flops([one.entered] * shape.num_layers, shape) for one in whole)
    spent, stop = 0.0, shape.num_layers - 1
    for stop in range(shape.num_layers):  # what later blocks drop changes nothing before them
        spent = sum(flops(_stopped(alive, stop), shape) for alive in counts)
        if spent <= budget:
            break
    curves = [[count / alive[0] for count in _stopped(alive, stop)] for alive in counts]
    schedule = tuple(sum(shares) / len(curves) for shares in zip(*curves, strict=True))
    return Fitted(alpha, schedule, 1.0 - spent * (1.0 - reduction) / budget, spent <= budget)


def _stopped(alive: Sequence[int], stop: int) -> list[int]:
    """Tokens on entering every block where block `stop`, from 0, and those behind it drop nothing."""
    return [alive[min(block, stop)] for block in range(len(alive))]


def flops(alive: Sequence[int], shape: LanguageShape) -> float:
    """Multiply-adds of visual tokens alone, as the code counts them.

    A block's projections of query, key and value and its attention see what enters it, its output projection and MLP
    what lives on.
    """
    total, width = 0.0, shape.hidden
    for block, count in enumerate(alive):
        left = alive[min(block + 1, len(alive) - 1)]
        total += 3.0 * count * width**2 + 2.0 * count**2 * width
        total += left * width**2 + 3.0 * left * width * shape.intermediate
    return total
