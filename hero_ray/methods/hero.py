"""HERO: tile budgets from image and text relevance, complementary tokens from CLS layers (arXiv 2509.13067 v2).

A tile's importance joins two softmaxes over tiles, its CLS similarity to the thumbnail and its CLIP score with the
question: s = alpha s_v + (1 - alpha) s_t. The thumbnail keeps N_G = floor(R N) tokens, tile i floor((N' - N_G) s_i).
Tiles rank tokens by CLS attention in blocks 6-10 (objects), the thumbnail in block 22 (global artifacts), head mean.

Variants: `paper` as printed, remainder lost; `exact` the same with caps and the budget hit; `released` after
Lxxx-0327/HERO @41cc334: a third term for the unpadded share of a tile (weight .2), a second softmax over the attention
weights, local budget floor(R K N), and a newline for every mosaic row.
Differs: the thumbnail's layer serves a view without tiles. Temperatures are unknown (1 here). Without a text tower the
text term is dropped and the selection says `hero-v`; `text_term=llm-embed` uses the question's mean LLM embedding,
`llm-attn` the attention that the question pays a tile in LLM block 2 (PTP's c, summed), which needs two blocks on the
full prompt. On InternVL2 `clip` scores the crops with CLIP itself (`hero+clip-aux`) once the model is loaded with
`clip_vision=openai`.
Ours, no part of the paper: `alpha=auto` (per question, from the agreement of both scores) and `ratio=auto` (per
picture, at a mean budget); see `adaptive`. What they chose stands in `Selection.details`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.methods.kit.adaptive import AdaptiveRatio, trusted_alpha
from hero_ray.methods.kit.allocation import allocate, floor
from hero_ray.methods.kit.scores import caps, captured, cls_attention, cosine_to_thumbnail, finite, keep_top

_RELEASED_DENSITY_WEIGHT = 0.2
_LLM_BLOCK = 2


@dataclass(frozen=True)
class Hero(AdaptiveRatio):
    """Tile budgets from similarity and text, tokens from early and late CLS attention."""

    alpha: float | Literal["auto"] = 0.5
    tile_layers: tuple[int, ...] = (6, 7, 8, 9, 10)
    thumbnail_layers: tuple[int, ...] = (22,)
    layer_base: Literal[1, 0] = 1
    cls_source: Literal["last_pre_ln", "post_ln", "projected"] = "last_pre_ln"
    text_term: Literal["clip", "none", "llm-embed", "llm-attn"] = "clip"
    temperature_cls: float = 1.0
    temperature_clip: float = 1.0
    density_weight: float | None = None
    single_view: Literal["thumbnail", "half"] = "thumbnail"

    name = "hero"
    paper = "HERO, arXiv 2509.13067"
    text_aware = True
    variants = ("exact", "paper", "released")

    def check(self) -> None:
        super().check()
        self.require(self.alpha == "auto" or 0.0 <= self.alpha <= 1.0, "alpha", "a share in [0, 1], or auto")
        for field in ("temperature_cls", "temperature_clip"):
            self.require(getattr(self, field) > 0.0, field, "a positive temperature")
        weight = self.density_weight
        self.require(weight is None or 0.0 <= weight <= 1.0, "density_weight", "a share in [0, 1], or none")
        low, high = self.layer_base, 23 + self.layer_base
        for field in ("tile_layers", "thumbnail_layers"):
            layers = getattr(self, field)
            good = bool(layers) and all(low <= layer <= high for layer in layers)
            self.require(good, field, f"blocks {low} to {high} of a 24-deep tower (layer_base {self.layer_base})")

    def needs(self, vision: VisionInfo) -> Needs:
        tiles, thumbnail = self._layers(vision)
        with_text = self.alpha != 1.0
        return Needs(
            cls_attention=frozenset(tiles + thumbnail),
            cls_embedding=frozenset({self.cls_source}),
            clip_score=with_text and self.text_term == "clip",
            llm_embedding=with_text and self.text_term == "llm-embed",
            llm_attention=frozenset({_LLM_BLOCK} if with_text and self.text_term == "llm-attn" else ()),
        )

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        if budget.is_full:
            return keep_all(encoded.layout)
        budget, details, mean_note = self.own_budget(encoded, budget)
        if budget.is_full:
            return replace(keep_all(encoded.layout), note=mean_note, details=details)
        if not encoded.layout.num_tiles:
            return replace(self._select_single_view(encoded, budget), note=mean_note, details=details)
        importance, alpha, note = self._tile_importance(encoded)
        if self.alpha == "auto" and alpha is not None:
            details["alpha"] = alpha
        counts = self._view_budgets(encoded, budget, importance)
        scores = self._token_scores(encoded)
        floored = "" if self.variant == "exact" else "shares are floored, the remainder is lost"
        return Selection(
            keep_top(scores, counts, encoded.layout.valid),
            newline_policy="all_rows" if self.variant == "released" else None,
            scores=scores,
            view_budgets=tuple(counts),
            note="; ".join(filter(None, (note, floored, mean_note))),
            details=details,
        )

    def late_attention(self, encoded: Encoded) -> Tensor:
        return cls_attention(encoded, self._layers(encoded.vision)[1], self.name)

    def _tile_importance(self, encoded: Encoded) -> tuple[list[float], float | None, str]:
        """s of every tile (Eq. 4), the alpha that joined both terms, and what stands in for the text term if anything.

        There is no alpha where there is no text term.
        """
        embeddings = captured(encoded.cls_embedding, self.cls_source, self.name, "CLS embedding")
        visual = torch.softmax(cosine_to_thumbnail(embeddings).double() / self.temperature_cls, 0)
        text, note = self._text_cosines(encoded)
        fused, alpha = visual, None
        if text is not None:
            textual = torch.softmax(text.double() / self.temperature_clip, 0)
            alpha = trusted_alpha(visual, textual) if self.alpha == "auto" else self.alpha
            fused = alpha * visual + (1.0 - alpha) * textual
        weight = self.density_weight
        if weight is None:
            weight = _RELEASED_DENSITY_WEIGHT if self.variant == "released" else 0.0
        if weight:
            real = encoded.layout.valid[1:].to(fused.device).double().mean(1)
            fused = weight * real / real.sum().clamp(min=1e-9) + (1.0 - weight) * fused
        return fused.tolist(), alpha, note

    def _text_cosines(self, encoded: Encoded) -> tuple[Tensor | None, str]:
        """Cosine of every tile with the question (or what stands in), [K], or None where nothing can tell."""
        if self.alpha == 1.0 or self.text_term == "none":
            return None, "" if self.alpha == 1.0 else "hero-v: text term dropped on request"
        question = encoded.question
        if self.text_term == "clip":
            if question is None or question.clip_score is None:
                return None, "hero-v: no CLIP text tower, text term dropped"
            return finite(question.clip_score, self.name, "the CLIP score")[1:], ""
        if self.text_term == "llm-attn":
            source = question.llm_attention if question else {}
            rows = captured(source, _LLM_BLOCK, self.name, "LLM attention of block")  # [H, Q, V, N]
            looks = rows.mean(0).amax(0).masked_fill(~encoded.layout.valid.to(rows.device), 0.0).sum(1)
            return looks[1:].to(encoded.features.device), "hero+llm-attn: LLM attention for the CLIP score"
        if question is None or question.llm_embedding is None:
            return None, "hero-v: no question embedding, text term dropped"
        weights = encoded.layout.valid[1:].to(encoded.features.device)[..., None]
        tiles = (encoded.features[1:] * weights).float().sum(1)  # the mean's divisor does not change a cosine
        words = finite(question.llm_embedding, self.name, "the question embedding")
        cosines = torch.nn.functional.cosine_similarity(tiles, words[None], dim=-1)
        return finite(cosines, self.name, "tile features"), "hero+llm-embed: question embedding for the CLIP score"

    def _view_budgets(self, encoded: Encoded, budget: Budget, importance: list[float]) -> list[int]:
        """N_G and N_L_i (Eq. 5), thumbnail first."""
        tokens, limits = encoded.layout.tokens_per_view, caps(encoded.layout.valid)
        thumbnail = min(floor(budget.ratio * tokens), budget.total, limits[0])
        if self.variant == "exact":
            tiles = allocate(budget.total - thumbnail, importance, limits[1:])
            return [min(budget.total - sum(tiles), limits[0]), *tiles]
        local = budget.total - thumbnail
        if self.variant == "released":
            local = floor(budget.ratio * (budget.base_tokens - tokens))
        return [thumbnail, *allocate(local, importance, limits[1:], "floor")]

    def _token_scores(self, encoded: Encoded) -> Tensor:
        tiles, thumbnail = self._layers(encoded.vision)
        low, high = self._attention(encoded, tiles), self._attention(encoded, thumbnail)
        return torch.cat([high[:1], low[1:]])

    def _attention(self, encoded: Encoded, layers: tuple[int, ...]) -> Tensor:
        if self.variant != "released":
            return cls_attention(encoded, layers, self.name)
        what = "CLS attention of layer"
        rows = [captured(encoded.cls_attention, layer, self.name, what) for layer in layers]
        return torch.stack([row.softmax(-1).mean(1) for row in rows]).mean(0)  # the release's second softmax

    def _select_single_view(self, encoded: Encoded, budget: Budget) -> Selection:
        """No tiles to share between: the view plays the thumbnail, or half of it each part."""
        tiles, thumbnail = self._layers(encoded.vision)
        valid, scores = encoded.layout.valid, self._attention(encoded, thumbnail)
        count = min(budget.total, caps(valid)[0])
        if self.single_view == "thumbnail":
            return Selection(keep_top(scores, [count], valid), scores=scores, view_budgets=(count,))
        keep = keep_top(scores, [count - count // 2], valid)
        keep |= keep_top(self._attention(encoded, tiles), [count // 2], valid.to(keep.device) & ~keep)
        return Selection(keep, scores=scores, view_budgets=(count,))

    def _layers(self, vision: VisionInfo) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Blocks of this tower, 1-based, for tiles and for the thumbnail."""
        shift = 1 - self.layer_base
        tiles = tuple(layer + shift for layer in self.tile_layers)
        thumbnail = tuple(layer + shift for layer in self.thumbnail_layers)
        return vision.scaled(tiles), vision.scaled(thumbnail)
