"""How far a mask moves when nothing but rounding changes: measured by `python -m perf.mask_movement`.

Kept tokens are named by their entries in a layout's sequence, so that masks before the LLM and inside it compare alike.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import LayerPruner, LayerState, Survivors

FIGURES = Path(__file__).with_name("movement.json")
"""Method -> embedded model -> what changed -> share of kept tokens that are others then."""


class Watched(LayerPruner):
    """A pruner that notes which of the visual tokens that entered live on.

    Args:
        inner: the method's own, or None where nothing is dropped inside.
        entered: per row, the sequence entries that entered the LLM.
    """

    def __init__(self, inner: LayerPruner | None, entered: list[Tensor]) -> None:
        self._inner, self.alive = inner, [entries.clone() for entries in entered]

    def watches(self, layer: int, num_layers: int) -> bool:
        return self._inner is not None and self._inner.watches(layer, num_layers)

    def before(self, state: LayerState) -> Survivors | None:
        survivors = self._inner.before(state) if self._inner else None
        if survivors is None:
            return None
        for row, entries in enumerate(self.alive):
            lived = entries[survivors.keep[row, state.visual[row]].to(entries.device)]
            if survivors.recycled is not None:  # merged tokens stand behind the kept ones and are nobody's
                count = survivors.recycled.shape[1]
                if survivors.recycled_valid is not None:
                    count = int(survivors.recycled_valid[row].sum())
                lived = torch.cat([lived, lived.new_full((count,), _NOBODY)])
            self.alive[row] = lived
        return survivors

    def after(self, state: LayerState) -> None:
        if self._inner:
            self._inner.after(state)

    def patches(self, row: int) -> set[int]:
        """Patches of one row that lived to the end."""
        return {entry for entry in self.alive[row].tolist() if entry >= 0}


_NOBODY = -1_000_000


def moved(first: Collection[int], second: Collection[int]) -> float:
    """Share of the tokens of `first` that `second` does without; 0 where `first` is empty."""
    return len(set(first) - set(second)) / len(first) if first else 0.0


@cache
def figures() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """What was measured, see `FIGURES`."""
    return json.loads(FIGURES.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
