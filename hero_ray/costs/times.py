"""Seconds on a card from FLOPs and bytes: the later of two roofs, at the share that real runs are taken to reach.

A phase takes as long as its products need, or as long as reading weights and cache needs, whichever is longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.costs import costs
from hero_ray.costs.cards import GpuCard
from hero_ray.models.base import LanguageShape, VisionShape

FLOPS_SHARE = 0.35
"""Of a card's FLOP/s that encoding and prefill reach, assumed."""
BANDWIDTH_SHARE = 0.7
"""Of its bandwidth that a decode step reaches, assumed."""


@dataclass(frozen=True)
class Times:
    """What a model takes on a card; None where the card's figures do not say.

    Attributes:
        card: whose FLOP/s hold for 16-bit weights.
        element: bytes of one number.
    """

    language: LanguageShape
    vision: VisionShape
    card: GpuCard
    element: int

    def encode(self, views: int) -> float | None:
        """Seconds of the tower and projector on `views` views."""
        return self._products(costs.encoder_flops(self.vision, views))

    def prefill(self, tokens: int) -> float | None:
        """Seconds until the first token of one prompt of so many tokens, without encoding."""
        products = self._products(costs.prefill_flops(self.language, [tokens] * self.language.num_layers))
        read = self._read(costs.weight_bytes(self.language, self.element))
        return products if products is None or read is None else max(products, read)

    def step(self, tokens: int, rows: int) -> float | None:
        """Seconds of one decode step of `rows` answers behind prompts of so many tokens."""
        per_layer = [tokens] * self.language.num_layers
        cache = rows * costs.kv_bytes(self.language, per_layer, self.element)
        read = self._read(costs.weight_bytes(self.language, self.element) + cache)
        products = self._products(rows * costs.decode_flops(self.language, per_layer, 2))
        return read if read is None or products is None else max(products, read)

    def _products(self, flops: float) -> float | None:
        if self.card.flops is None or self.element > 2:
            return None
        return flops / (self.card.flops * FLOPS_SHARE)

    def _read(self, size: float) -> float | None:
        return None if self.card.bandwidth is None else size / (self.card.bandwidth * BANDWIDTH_SHARE)
