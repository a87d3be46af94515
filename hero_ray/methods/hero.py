"""HERO: tile budgets from image and text relevance, complementary tokens from CLS layers (arXiv 2509.13067 v2).

A tile's importance joins two softmaxes over tiles, its CLS similarity to the thumbnail and its CLIP score with the
question: s = alpha s_v + (1 - alpha) s_t. The thumbnail keeps N_G = floor(R N) tokens, tile i floor((N' - N_G) s_i).
Tiles rank tokens by CLS attention in blocks 6-10 (objects), the thumbnail in block 22 (global artifacts), head mean.

Variants: `paper` as printed, remainder lost (and no view gets more than its real tokens); `exact` the same with the
budget hit; `released` after Lxxx-0327/HERO @41cc334: a third term for the unpadded share of a tile (weight .2), a
second softmax over the attention weights, local budget R times the tiles' tokens, and a newline for every mosaic row.
The paper and the code count R on the whole grid, padding included: that is budget base `grid`. The default base,
`real`, counts real tokens alone, so that at 640x480 and R = .2 `released` lets 506 tokens in where the code does 622.
`layer_base=0` reads both lists as indices from 0: the code indexes with whatever its caller passes, no caller is
published, and the paper's numbers passed as they are would be blocks 7-11 and 23. Pairs of our own: `merge=true`
averages every token that is dropped into the kept one of its view most like it, as VScan does; `then=fastv` lets 32/17
R in and drops half of that after LLM block 2, a mean of R over 32 blocks (from R = 17/32 on everything enters and FastV
drops less): compare by `equivalent_tokens`.
Differs: `released` unpads as the models do, where the code drops the odd row or column (one picture in sixteen). In
half precision the code's second softmax leaves few distinct scores (of 576, 32 in fp16 and 7 in bf16 on peaked
attention), so that most of its choice there is the tie order of its top-k; scores are fp32 here. The thumbnail's layer
serves a view without tiles. Temperatures are unknown (1 here). Without a text tower the text term is dropped and the
selection says `hero-v`; `text_term=llm-embed` uses the question's mean LLM embedding, `llm-attn` the attention that the
question pays a tile in LLM block 2 (PTP's c, summed), which needs two blocks on the full prompt. On InternVL2 `clip`
scores the crops with CLIP itself (`hero+clip-aux`) once the model is loaded with `clip_vision=openai`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.layout import NewlinePolicy
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import once
from hero_ray.methods.base import LATER, LayerPruner, Method
from hero_ray.methods.fastv import FastV
from hero_ray.methods.kit.allocation import allocate, floor
from hero_ray.methods.kit.dropping import REFERENCE_DEPTH
from hero_ray.methods.kit.merging import with_merged
from hero_ray.methods.kit.scores import (
    LEAST_TEMPERATURE,
    caps,
    captured,
    cls_attention,
    cosine_to_thumbnail,
    finite,
    keep_top,
    leading,
    ranks,
)

_LLM_BLOCK = 2
_THEN_SHARE = 0.5
"""What FastV keeps after its block by default in its paper."""


class _Paper:
    """The equations as printed: every share is floored and what is left over is lost."""

    density_weight: ClassVar[float] = 0.0
    newline_policy: ClassVar[NewlinePolicy | None] = None
    note: ClassVar[str] = "shares are floored, the remainder is lost"

    def budgets(self, budget: Budget, tokens: int, share: list[float], limits: list[int]) -> list[int]:
        """N_G and N_L_i (Eq. 4), thumbnail first, for views of `tokens` each of which `limits` are real."""
        thumbnail = self.thumbnail(budget, tokens, limits)
        return [thumbnail, *allocate(self.local(budget, tokens, thumbnail), share, limits[1:], "floor")]

    def thumbnail(self, budget: Budget, tokens: int, limits: list[int]) -> int:
        """N_G = floor(R N)."""
        return min(floor(budget.ratio * tokens), budget.total, limits[0])

    def local(self, budget: Budget, tokens: int, thumbnail: int) -> int:
        """N' - N_G, what the tiles share."""
        return budget.total - thumbnail

    def attention(self, encoded: Encoded, layers: tuple[int, ...]) -> Tensor:
        """CLS attention of some blocks, the mean over heads and blocks: [V, N]."""
        return cls_attention(encoded, layers, Hero.name)


class _Exact(_Paper):
    """The budget is hit: no tile gets more than its real tokens, and what full tiles leave goes to the thumbnail."""

    note = ""

    def budgets(self, budget: Budget, tokens: int, share: list[float], limits: list[int]) -> list[int]:
        local = self.local(budget, tokens, self.thumbnail(budget, tokens, limits))
        tiles = allocate(local, share, limits[1:])
        return [min(budget.total - sum(tiles), limits[0]), *tiles]


class _Released(_Paper):
    """What the authors' code does where it leaves their text."""

    density_weight = 0.2
    newline_policy = "all_rows"

    def local(self, budget: Budget, tokens: int, thumbnail: int) -> int:
        return floor(budget.ratio * (budget.base_tokens - tokens))  # a share of all tiles' tokens, not of what is left

    def attention(self, encoded: Encoded, layers: tuple[int, ...]) -> Tensor:
        rows = [captured(encoded.cls_attention, layer, Hero.name, "CLS attention of layer") for layer in layers]
        # Attention weights go through a softmax once more before heads are averaged, which evens heads out.
        return torch.stack([row.softmax(-1).mean(1) for row in rows]).mean(0)


_FORMS = {"exact": _Exact(), "paper": _Paper(), "released": _Released()}


@dataclass(frozen=True)
class Hero(Method):
    """Tile budgets from similarity and text, tokens from early and late CLS attention."""

    alpha: float = 0.5
    tile_layers: tuple[int, ...] = (6, 7, 8, 9, 10)
    thumbnail_layers: tuple[int, ...] = (22,)
    layer_base: Literal[1, 0] = 1
    cls_source: Literal["last_pre_ln", "post_ln", "projected"] = "last_pre_ln"
    text_term: Literal["clip", "none", "llm-embed", "llm-attn"] = "clip"
    temperature_cls: float = 1.0
    temperature_clip: float = 1.0
    density_weight: float | None = None
    single_view: Literal["thumbnail", "half"] = "thumbnail"
    merge: bool = field(default=False, metadata=LATER)
    then: Literal["none", "fastv"] = field(default="none", metadata=LATER)

    name = "hero"
    paper = "HERO, arXiv 2509.13067"
    text_aware = True
    variants = tuple(_FORMS)
    positions = "keep"  # inside the LLM only, that is with `then`

    def check(self) -> None:
        self.require(0.0 <= self.alpha <= 1.0, "alpha", "a share in [0, 1]")
        for name in ("temperature_cls", "temperature_clip"):
            self.require(getattr(self, name) >= LEAST_TEMPERATURE, name, f"a temperature of {LEAST_TEMPERATURE} on")
        weight = self.density_weight
        self.require(weight is None or 0.0 <= weight <= 1.0, "density_weight", "a share in [0, 1], or none")
        low, high = self.layer_base, 23 + self.layer_base
        for name in ("tile_layers", "thumbnail_layers"):
            layers = getattr(self, name)
            good = bool(layers) and all(low <= layer <= high for layer in layers)
            self.require(good, name, f"blocks {low} to {high} of a 24-deep tower (layer_base {self.layer_base})")

        if self.then != "none":
            object.__setattr__(self, "stage", "in-llm")

    def needs(self, vision: VisionInfo) -> Needs:
        tiles, thumbnail = self._layers(vision)
        term = self.text_term if self.alpha != 1.0 else "none"
        return Needs(
            cls_attention=frozenset(tiles + thumbnail),
            cls_embedding=frozenset({self.cls_source}),
            clip_score=term == "clip",
            llm_embedding=term == "llm-embed",
            llm_attention=frozenset({_LLM_BLOCK} if term == "llm-attn" else ()),
        )

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        if budget.is_full:
            return keep_all(encoded.layout)
        if self.then != "none":
            entering, _ = self.shares(budget.ratio)
            total = max(1, floor(entering * budget.base_tokens))
            budget = replace(budget, ratio=entering, total=min(total, encoded.layout.num_patches))
        selection = keep_all(encoded.layout) if budget.is_full else self._choose(encoded, budget)
        return with_merged(selection, encoded, self.name) if self.merge else selection

    def shares(self, ratio: float) -> tuple[float, float]:
        """With `then`: what enters, of the picture, and what FastV keeps of it; mean `ratio` over 32 blocks."""
        seen, blocks = FastV().after_block, REFERENCE_DEPTH
        entering = ratio * blocks / (seen + _THEN_SHARE * (blocks - seen))
        return (entering, _THEN_SHARE) if entering < 1.0 else (1.0, (ratio * blocks - seen) / (blocks - seen))

    def pruner(self, budget: Budget) -> LayerPruner | None:
        if self.then == "none" or budget.is_full:
            return None
        return FastV().pruner(replace(budget, ratio=self.shares(budget.ratio)[1]))

    def _choose(self, encoded: Encoded, budget: Budget) -> Selection:
        layout, form = encoded.layout, _FORMS[self.variant]
        if not layout.num_tiles:
            return self._select_single_view(encoded, budget)
        # Budgets and, where they rank, questions change nothing of these.
        share, note = once((self, id(encoded.question)), lambda: self._tile_importance(encoded))
        scores, places = once((self, id(encoded.cls_attention)), lambda: self._ranked(encoded))
        counts = form.budgets(budget, layout.tokens_per_view, share, caps(layout.valid))
        return Selection(
            leading(places, counts, layout.valid),
            newline_policy=form.newline_policy,
            scores=scores,
            view_budgets=tuple(counts),
            note="; ".join(filter(None, (note, form.note))),
        )

    def _ranked(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Scores of all tokens, [V, N], and how many of its view stand before each."""
        early, late = (_FORMS[self.variant].attention(encoded, layers) for layers in self._layers(encoded.vision))
        scores = torch.cat([late[:1], early[1:]])  # global artifacts rank the thumbnail, objects the tiles
        return scores, ranks(scores, encoded.layout.valid)

    def _tile_importance(self, encoded: Encoded) -> tuple[list[float], str]:
        """s of every tile (Eq. 3), K values, and what stands in for the text term if anything."""
        embeddings = captured(encoded.cls_embedding, self.cls_source, self.name, "CLS embedding")
        fused = torch.softmax(cosine_to_thumbnail(embeddings).double() / self.temperature_cls, 0)
        text, note = self._text_cosines(encoded)
        if text is not None:
            textual = torch.softmax(text.double() / self.temperature_clip, 0)
            fused = self.alpha * fused + (1.0 - self.alpha) * textual
        weight = _FORMS[self.variant].density_weight if self.density_weight is None else self.density_weight
        if weight:
            real = encoded.layout.valid[1:].to(fused.device).double().mean(1)
            fused = weight * real / real.sum().clamp(min=1e-9) + (1.0 - weight) * fused
        return fused.tolist(), note

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

    def _select_single_view(self, encoded: Encoded, budget: Budget) -> Selection:
        """No tiles to share between: the view plays the thumbnail, or half of it each part."""
        form, valid = _FORMS[self.variant], encoded.layout.valid
        tiles, thumbnail = self._layers(encoded.vision)
        scores, count = form.attention(encoded, thumbnail), min(budget.total, caps(valid)[0])
        if self.single_view == "thumbnail":
            return Selection(keep_top(scores, [count], valid), scores=scores, view_budgets=(count,))
        keep = keep_top(scores, [count - count // 2], valid)
        keep |= keep_top(form.attention(encoded, tiles), [count // 2], valid.to(keep.device) & ~keep)
        return Selection(keep, scores=scores, view_budgets=(count,))

    def _layers(self, vision: VisionInfo) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Blocks of this tower, 1-based, for tiles and for the thumbnail."""
        shift = 1 - self.layer_base
        tiles = tuple(layer + shift for layer in self.tile_layers)
        thumbnail = tuple(layer + shift for layer in self.thumbnail_layers)
        return vision.scaled(tiles), vision.scaled(thumbnail)
