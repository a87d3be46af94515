"""FitPrune: a number of tokens to drop in every block, by attention within the picture and from the text (2409.10197).

A visual token's score in a block is the product of the attention it gets there from the visual tokens and from the text
behind the picture, each the sum over queries of the maximum over heads. After each block the schedule's number of
lowest scores is dropped; positions stay. Follows ywh187/FitPrune @d28e418 (`modeling_llama.py`): the code drops between
attention and MLP of a block, which no other token can tell from dropping behind it.

The schedules are those the code ships for LLaVA-1.5-7B at 10 to 90 % fewer FLOPs, as shares of its 576 tokens, between
which shares are interpolated; other depths take them by depth fraction. `exact`: R is the mean share over blocks.
`released`: 1 - R is the code's reduction of FLOPs. `schedule`: shares alive in every block, the first 1, whatever R, as
the code's own search finds them on a calibration set (`hero-ray calibrate fitprune`).
Differs: without `schedule` what the search found on LLaVA-1.5-7B is used on every model. Newlines compete like patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.errors import ParameterError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import LayerPruner, LayerState, Method
from hero_ray.methods.kit import dropping

_CHUNK = 128  # query rows at a time: [H, 128, S] instead of [H, S, S]
_TOKENS = 576
_DROPPED = {
    0: (),
    10: (0, 0, 1, 2, 1, 0, 1, 4, 5, 5, 11, 4, 2, 2, 0, 0, 1, 1, 2, 4, 2, 10, 1, 1, 1, 2, 1, 1, 0, 1),
    20: (0, 0, 3, 3, 1, 1, 4, 16, 14, 15, 24, 4, 2, 3, 2, 0, 6, 0, 5, 13, 4, 19, 2, 1, 1, 1, 1, 1, 2, 1),
    30: (0, 0, 7, 6, 4, 5, 16, 40, 24, 21, 24, 4, 2, 3, 4, 0, 16, 0, 11, 26, 6, 32, 3, 1, 0, 1, 2, 2, 4),
    40: (0, 1, 21, 13, 14, 11, 41, 53, 29, 15, 14, 5, 1, 4, 5, 1, 26, 1, 13, 28, 6, 27, 2, 1, 0, 0, 1, 1, 2),
    50: (3, 7, 49, 24, 29, 17, 59, 41, 26, 8, 10, 6, 2, 5, 7, 2, 30, 3, 13, 27, 5, 23, 2, 1, 0, 0, 1, 1, 2),
    55: (6, 17, 69, 31, 34, 19, 59, 30, 23, 6, 8, 7, 2, 5, 8, 2, 29, 4, 12, 25, 4, 19, 2, 1, 0, 0, 1, 0, 1),
    60: (14, 33, 89, 36, 36, 20, 55, 21, 18, 4, 7, 5, 2, 5, 7, 4, 26, 5, 11, 24, 4, 18, 2, 1, 0, 0, 1, 0, 1),
    70: (48, 79, 118, 41, 33, 17, 36, 9, 9, 2, 3, 2, 1, 3, 4, 8, 18, 7, 8, 20, 4, 13, 2, 1, 0, 0, 1, 0, 1),
    80: (128, 127, 118, 35, 26, 8, 13, 3, 2, 1, 0, 0, 0, 2, 1, 8, 7, 8, 5, 11, 2, 6, 1, 1, 0, 0, 0, 1),
    90: (262, 153, 80, 19, 13, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 1, 2, 0, 1, 0, 0, 0, 0, 0, 1),
    100: (_TOKENS,),
}
"""Per cent of FLOPs saved -> tokens of 576 dropped in each of 32 blocks; blocks not named drop none. The last is ours:
all of them, in the first block, where the published ones end."""


@dataclass(frozen=True)
class FitPrune(Method):
    """Drops in every block by a calibrated schedule."""

    schedule: tuple[float, ...] | None = None

    name = "fitprune"
    stage = "in-llm"
    text_aware = True
    reads = "all attention among visual tokens, and from the text behind them, in every block that drops"
    paper = "FitPrune, arXiv 2409.10197"
    variants = ("exact", "released")
    positions = "keep"

    @property
    def fixed_budget(self) -> bool:
        return self.schedule is None

    def check(self) -> None:
        alive = self.schedule
        falling = alive is None or (
            len(alive) > 1
            and alive[0] == 1.0
            and all(0.0 <= share <= 1.0 for share in alive)
            and sorted(alive, reverse=True) == list(alive)
        )
        self.require(falling, "schedule", "one falling share in [0, 1] per block, the first 1, or none")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, "cut after many blocks inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return dropping.StagedPruner(
            self.name,
            lambda depth: self.stages(budget.ratio, depth),
            lambda state: dropping.checked(state, attention_product(state), self.name),
        )

    def stages(self, ratio: float, num_layers: int) -> Mapping[int, float]:
        """Share kept after each block that drops, for a model of `num_layers` blocks.

        Raises:
            ParameterError: the schedule is for another depth.
        """
        if self.schedule is not None and len(self.schedule) != num_layers:
            raise ParameterError(
                f"fitprune: schedule has {len(self.schedule)} shares, the LLM {num_layers} blocks; give one per block"
            )
        alive = self.schedule or _alive(self._level(ratio, num_layers), num_layers)
        return {block: alive[block] for block in range(1, num_layers) if alive[block] < alive[block - 1]}

    def _level(self, ratio: float, num_layers: int) -> float:
        """Per cent of FLOPs saved whose schedule is meant."""
        if self.variant == "released":
            return 100.0 * (1.0 - ratio)
        return -dropping.bisect(lambda level: sum(_alive(-level, num_layers)) / num_layers, ratio, -100.0, 0.0)


def _alive(level: float, num_layers: int) -> Sequence[float]:
    """Shares alive on entering every block at `level` per cent of FLOPs saved: the published lists, interpolated."""
    low = max(known for known in _DROPPED if known <= level + 1e-9)
    high = min((known for known in _DROPPED if known > low), default=low)
    weight = (level - low) / (high - low) if high > low else 0.0
    curves = [_curve(_DROPPED[known], num_layers) for known in (low, high)]
    return [(1.0 - weight) * first + weight * second for first, second in zip(*curves, strict=True)]


def _curve(dropped: Sequence[int], num_layers: int) -> list[float]:
    padded = [*dropped, *[0] * (dropping.REFERENCE_DEPTH - len(dropped))]
    shares = [1.0 - gone / _TOKENS for gone in accumulate([0, *padded[:-1]])]
    step = (len(shares) - 1) / max(1, num_layers - 1)
    curve = []
    for block in range(num_layers):
        left = min(len(shares) - 2, int(block * step + 1e-9))
        curve.append(shares[left] + (block * step - left) * (shares[left + 1] - shares[left]))
    return curve


def attention_product(state: LayerState) -> Tensor:
    """Attention a key gets from the picture times that from the text behind it: [B, S]."""
    by_picture, by_text = received_of(state)
    return by_picture * by_text


def received_of(state: LayerState) -> list[Tensor]:
    """`received` from the picture and from the text behind it: [B, S] each."""
    asking = (state.visual, state.after_image)
    # Which positions ask, in any row: one look for both.
    used = [mask.nonzero()[:, 0] for mask in on_host([torch.stack([mask.any(0) for mask in asking])])[0]]
    return [received(state, *one) for one in zip(asking, used, strict=True)]


def received(state: LayerState, asking: Tensor, used: Tensor) -> Tensor:
    """Sum over queries of the attention a key gets from them, maximum over heads: fp32 [B, S].

    Args:
        asking: bool [B, S]; used: int64, on the CPU, the positions where any row asks.
    """
    rows, length = asking.shape
    total = torch.zeros(rows, length, dtype=torch.float32, device=asking.device)
    for queries in used.to(asking.device).split(_CHUNK):
        seen = state.attention_rows(queries.expand(rows, -1)).amax(1)
        total += torch.where(asking[:, queries, None], seen, torch.zeros_like(seen)).sum(1)
    return total
