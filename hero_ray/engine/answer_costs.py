"""FLOPs of the answers of one model: every part is worked out once for all answers of equal sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from hero_ray.core.types import Sample, TokenCount
from hero_ray.costs import costs
from hero_ray.costs.scoring import method_scoring
from hero_ray.engine.cut import Cut
from hero_ray.models.base import Adapter, Prompt

COSTS_KEPT = 10_000
"""Of each part; then all are forgotten."""
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class AnswerCosts:
    """What answers cost, as if each were asked alone.

    Args:
        adapter: the model that answers.
    """

    adapter: Adapter
    _before: dict[Any, float] = field(default_factory=dict, repr=False)
    _inside: dict[Any, tuple[float, float]] = field(default_factory=dict, repr=False)

    def of(self, cut: Cut, prompt: Prompt, sample: Sample, tokens: TokenCount, new_tokens: int) -> tuple[float, float]:
        """FLOPs of an answer of `new_tokens` tokens, and those of them before the LLM: encode and scoring."""
        before = self._before_llm(cut, prompt, sample.question)
        key = tokens.visual_per_layer, tokens.n_text, new_tokens
        inside = self._inside.get(key)
        if inside is None:
            language, per_layer = self.adapter.info.language, [n + tokens.n_text for n in tokens.visual_per_layer]
            prefill, decode = (
                costs.prefill_flops(language, per_layer),
                costs.decode_flops(language, per_layer, new_tokens),
            )
            inside = _kept(self._inside, key, (prefill, decode))
        return before + inside[0] + inside[1], before

    def _before_llm(self, cut: Cut, prompt: Prompt, question: str) -> float:
        """What the tower costs, and what a method's scores do, which hangs on the question only where it is read."""
        layout, needs = cut.encoded.layout, cut.needs
        views, side = layout.num_views, layout.side
        key = views, side, needs, (layout.sequence.shape[0], prompt, question) if needs.question else None
        found = self._before.get(key)
        if found is None:
            scoring = method_scoring(self.adapter, needs, layout, prompt, question)
            tower = costs.encoder_flops(costs.at_view(self.adapter.info.vision, side), views)
            found = _kept(self._before, key, tower + scoring)
        return found


def _kept(known: dict[Any, Kept], key: Any, part: Kept) -> Kept:
    if len(known) >= COSTS_KEPT:
        known.clear()
    known[key] = part
    return part
