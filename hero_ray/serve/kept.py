"""What a replica keeps of the pictures it was asked about last, for the next turn of their conversations.

The tokens that a pruning left of a picture, and behind them the keys and values of the last prompt: a later turn with
the same picture neither encodes nor cuts it, and runs only what is new. Nothing is kept that was not asked for by the
same bytes under the same pruning.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hero_ray.engine.cut import Cut
from hero_ray.models.base import embeddings
from hero_ray.models.kept import KeptPrompt

Key = tuple[Any, ...]


@dataclass(frozen=True)
class KeptCut:
    """One picture under one pruning, and the prompt that was run over it last."""

    cut: Cut
    prompt: KeptPrompt

    @property
    def nbytes(self) -> int:
        """Bytes held, of tokens, keys and values."""
        return embeddings(self.cut.visual).nbytes + self.prompt.nbytes


class KeptCuts:
    """The last pictures, up to so many bytes.

    Args:
        most_bytes: 0 keeps nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held: OrderedDict[Key, KeptCut] = OrderedDict()

    @property
    def on(self) -> bool:
        """Whether anything is kept: whether one request may profit from another's."""
        return self._most > 0

    def of(self, key: Key, make: Callable[[], Cut]) -> KeptCut:
        """What is kept under a key, else what `make` gives."""
        self.settle()
        if key not in self._held:
            made = KeptCut(_without_encoding(make()), KeptPrompt(self._most))
            if not self.on:
                return made
            self._held[key] = made
        self._held.move_to_end(key)
        return self._held[key]

    def settle(self) -> None:
        """Let go of the oldest pictures until the rest is within the limit; prompts have grown since they came."""
        total = sum(held.nbytes for held in self._held.values())
        while total > self._most:
            _, gone = self._held.popitem(last=False)
            total -= gone.nbytes


def _without_encoding(cut: Cut) -> Cut:
    """The same cut without what the tower and the method left behind, which outweigh it: of the picture its layout is
    asked, of the choice what lives on."""
    bare = replace(
        cut.encoded, features=cut.encoded.features.new_empty(0), projector_input=None, cls_attention={}, cls_logits={},
        cls_query={}, keys={}, cls_embedding={}, question=None, received={}, deep=None,
    )  # fmt: skip
    return replace(cut, encoded=bare, selection=replace(cut.selection, edited=None, extra=None, scores=None))


def digest(picture: bytes) -> str:
    """Names a picture by its bytes."""
    return hashlib.sha256(picture).hexdigest()
