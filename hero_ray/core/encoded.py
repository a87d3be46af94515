"""The record a vision encoder leaves behind (`Encoded`) and what a method returns (`Selection`).

Shape letters: V views, N visual tokens per view, H heads, D width of the LLM, C width of the projector's input, P width
of CLIP's shared space, Q tokens of a question.
The thumbnail is always view 0 here, whatever order the family feeds its LLM; a single view is its own thumbnail.
Layers are counted from 1: layer l is the l-th block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hero_ray.core.errors import BudgetError
from hero_ray.core.layout import Layout, NewlinePolicy
from hero_ray.core.lazy import Tensor

BudgetBase = Literal["real", "grid"]
Space = Literal["llm", "projector_input"]


@dataclass(frozen=True)
class VisionInfo:
    """What a method may know of the vision tower.

    Attributes:
        num_layers: transformer blocks in the tower.
        feature_layer: block whose output is projected (LLaVA: num_layers - 1; InternVL2: num_layers).
        patches_per_token: ViT patches behind one visual token (InternVL2's pixel shuffle: 4).
        tower: "clip", "internvit", "siglip" or "qwen".
    """

    num_layers: int
    feature_layer: int
    patches_per_token: int = 1
    tower: str = "clip"

    @property
    def has_cls(self) -> bool:
        """Whether the tower has a CLS token; where it has none, the mean over its patches stands in (`Encoded`)."""
        return self.tower not in ("siglip", "qwen")

    def scaled(self, layers: tuple[int, ...], reference: int = 24) -> tuple[int, ...]:
        """Map layers given for a `reference`-deep tower to this depth, without repeats."""
        mapped = (
            min(self.num_layers, max(1, math.floor(layer * self.num_layers / reference + 0.5))) for layer in layers
        )
        return tuple(dict.fromkeys(mapped))


@dataclass(frozen=True)
class ImagePlan:
    """One way a family can look at a picture.

    Attributes:
        grid: (rows, columns) of tiles beside the thumbnail, or (0, 0) for the thumbnail alone.
        side: visual tokens along one edge of a view; below the tower's own it interpolates position embeddings.
        num_tokens: real patch tokens this look gives.
        shape: (rows, columns) of tokens of a single view that need not be square; None where views are squares.
    """

    grid: tuple[int, int]
    side: int
    num_tokens: int
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class Question:
    """What a text-aware method may read of the question. Fields nobody asked for are None.

    Attributes:
        text: the question, without system prompt, role tags, image token and format suffix.
        clip_score: [V] cosine of each view's CLIP image embedding with the question's text embedding.
        clip_tokens: [V, N] cosine of each projected patch token with the question's text embedding.
        llm_attention: LLM block -> [H, Q, V, N], post-softmax rows of the Q instruction tokens on the unpruned prompt.
        llm_embedding: [D] mean input embedding of the question's tokens.
        llm_words: [Q, D] input embeddings of the question's tokens.
        clip_words: [Q, P] every token of the question, begin and end among them, in CLIP's shared space.
        clip_patches: [V, N, P] the projector's inputs there, by the projection alone (no norm before it).
        prompt_embedding: [D] the same of the whole prompt's, template and system prompt included, the picture and
            the special tokens around it left out.
    """

    text: str
    clip_score: Tensor | None = None
    clip_tokens: Tensor | None = None
    llm_attention: Mapping[int, Tensor] = field(default_factory=dict)
    llm_embedding: Tensor | None = None
    prompt_embedding: Tensor | None = None
    llm_words: Tensor | None = None
    clip_words: Tensor | None = None
    clip_patches: Tensor | None = None


@dataclass(frozen=True)
class Encoded:
    """One image after the vision tower and projector; everything a before-LLM method may look at.

    A tower without a CLS token (SigLIP, Qwen-VL's) has the mean over patches in its place: `cls_attention` is what a
    patch gets from all patches on average, `cls_query`, the first of `keys`, `cls_logits` and `cls_embedding` are made
    from the mean query, key and state, and nothing is `received` from CLS.

    Attributes:
        image_id: stable id of the picture (seeds the random baseline).
        layout, vision: geometry and tower facts.
        features: [V, N, D] projected tokens, as they would enter the LLM.
        projector_input: [V, N, C] the same tokens before the projector, if asked for.
        cls_attention: layer -> [V, H, N] post-softmax CLS row, CLS-to-CLS share removed but not renormalised;
            mean over the 2x2 patches of a token on InternVL2.
        cls_logits: layer -> [V, H, N] the same row before the softmax, scaled by head_dim ** -0.5.
        cls_query: layer -> [V, H, head_dim], before the scale head_dim ** -0.5.
        keys: layer -> [V, H, 1 + N, head_dim], CLS first.
        cls_embedding: source -> [V, width]; sources `last_pre_ln`, `post_ln`, `projected`, `feature_layer`.
        question: set by the adapter for text-aware methods.
        received: layer -> [V, 3, N] attention a token gets, head mean: from CLS, from all other patches together, and
            from itself; mean over the 2x2 patches of a token on InternVL2.
        deep: [V, N, L, D] what the model adds to the tokens' hidden states behind its first L blocks (DeepStack).
    """

    image_id: str
    layout: Layout
    vision: VisionInfo
    features: Tensor
    projector_input: Tensor | None = None
    cls_attention: Mapping[int, Tensor] = field(default_factory=dict)
    cls_logits: Mapping[int, Tensor] = field(default_factory=dict)
    cls_query: Mapping[int, Tensor] = field(default_factory=dict)
    keys: Mapping[int, Tensor] = field(default_factory=dict)
    cls_embedding: Mapping[str, Tensor] = field(default_factory=dict)
    question: Question | None = None
    received: Mapping[int, Tensor] = field(default_factory=dict)
    deep: Tensor | None = None

    def asked(self, question: Question) -> Encoded:
        """The same image with a question attached."""
        return replace(self, question=question)


@dataclass(frozen=True)
class Needs:
    """What a method reads, so that an adapter captures that and no more. Layers are 1-based.

    `keys` brings the layer's `cls_query` too.
    """

    cls_attention: frozenset[int] = frozenset()
    cls_logits: frozenset[int] = frozenset()
    keys: frozenset[int] = frozenset()
    cls_embedding: frozenset[str] = frozenset()
    projector_input: bool = False
    clip_score: bool = False
    clip_tokens: bool = False
    llm_attention: frozenset[int] = frozenset()
    llm_embedding: bool = False
    received: frozenset[int] = frozenset()
    prompt_embedding: bool = False
    clip_words: bool = False
    llm_words: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            *(getattr(self, name) | getattr(other, name) for name in self.__dataclass_fields__),
        )

    @property
    def tower_layers(self) -> frozenset[int]:
        """Tower blocks whose queries and keys are read."""
        return self.cls_attention | self.cls_logits | self.keys | self.received

    @property
    def cls(self) -> bool:
        """Whether the tower's CLS token is looked at."""
        return bool(self.cls_attention or self.cls_logits or self.keys or self.cls_embedding)

    @property
    def question(self) -> bool:
        """Whether the selection depends on the question."""
        return bool(self.clip or self.llm_attention or self.llm_embedding or self.llm_words or self.prompt_embedding)

    @property
    def clip(self) -> bool:
        """Whether CLIP's text side is read."""
        return self.clip_score or self.clip_tokens or self.clip_words


@dataclass(frozen=True)
class Budget:
    """Patch tokens a method may keep for one image.

    Attributes:
        total: the number of patch tokens allowed, floor(ratio * base_tokens).
        ratio: the retention ratio R in (0, 1].
        base: `real` (patches of the unpruned prompt) or `grid` ((K + 1) * N, the HERO and HiRED papers' count).
        base_tokens: what R is a share of.
    """

    total: int
    ratio: float
    base: BudgetBase
    base_tokens: int

    @classmethod
    def of(
        cls, layout: Layout, ratio: float | None = None, tokens: int | None = None, base: BudgetBase = "real"
    ) -> Budget:
        """Budget of one image from a ratio or from a fixed token count.

        Raises:
            BudgetError: neither or both given, or out of range.
        """
        if (ratio is None) == (tokens is None):
            raise BudgetError("give either a retention ratio or a token count, not both and not neither")
        base_tokens = layout.num_patches if base == "real" else layout.num_views * layout.tokens_per_view
        if ratio is None:
            assert tokens is not None
            if tokens < 1:
                raise BudgetError(f"token budget {tokens} is not positive; give at least 1 token")
            ratio = min(1.0, tokens / base_tokens)
            return cls(min(tokens, base_tokens), ratio, base, base_tokens)
        if not 0.0 < ratio <= 1.0:
            raise BudgetError(f"retention ratio {ratio} is outside (0, 1]; it is the share of tokens kept")
        # 1e-9: 0.7 * 10 must not lose a token to binary rounding (2340 * (1 - .9) is 233.99999999999997).
        return cls(max(1, math.floor(ratio * base_tokens + 1e-9)), ratio, base, base_tokens)

    @property
    def is_full(self) -> bool:
        """R = 1: pruning must be bypassed, since floors would drop tokens."""
        return self.ratio >= 1.0


@dataclass(frozen=True)
class Selection:
    """What survives, in one form for masks, reorderings, merged and edited tokens alike.

    Attributes:
        keep: bool [V, N], patch tokens kept.
        order: explicit sequence int64 [n_visual_llm] where the method does not follow the layout: `>= 0` flat token,
            NEWLINE, or `-2 - e` for row e of `extra`. None: layout order under the newline policy.
        edited: [V, N, width] features that replace the encoder's (only kept positions are read).
        extra: [E, width] tokens that no single patch stands for (merged, pooled, CLS).
        extra_at: int64 [E], the flat token whose place each of them takes on models whose tokens have places (M-RoPE);
            None: that of the token before it.
        space: whether `edited` and `extra` live before or after the projector.
        newline_policy: the method's own policy, where its definition demands one.
        scores: [V, N] per-token scores, for explanation only.
        view_budgets: planned tokens per view, thumbnail first.
        note: why the kept count differs from the budget, if it does.
        deferred: bool [len(order)] where `order` lets more enter the LLM than `keep`: what is to live on once the
            method's pruner has dropped the rest.
        marked: bool [len(order)]: tokens that the method's own pruner treats otherwise than the rest.
        details: figures that the method chose for this picture by itself, by parameter name (`alpha`, `ratio`).
    """

    keep: Tensor
    order: Tensor | None = None
    edited: Tensor | None = None
    extra: Tensor | None = None
    extra_at: Tensor | None = None
    space: Space = "llm"
    newline_policy: NewlinePolicy | None = None
    scores: Tensor | None = None
    view_budgets: tuple[int, ...] | None = None
    note: str = ""
    deferred: Tensor | None = None
    marked: Tensor | None = None
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_selected(self) -> int:
        return int(self.keep.sum())

    def sequence(self, layout: Layout, policy: NewlinePolicy = "unpadded_rows") -> Tensor:
        """Entries in LLM order: the explicit order if there is one, else the layout's."""
        if self.order is not None:
            return self.order
        return layout.order(self.keep, self.newline_policy or policy)


def keep_all(layout: Layout) -> Selection:
    """The unpruned selection: every real patch, the stock order."""
    return Selection(keep=layout.valid.clone())
