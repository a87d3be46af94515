"""FLOPs and cache bytes from sizes and token counts alone.

Letters follow HERO (arXiv 2509.13067, Eq. 7): n tokens, d width, m MLP width, T blocks; d_q and d_kv are the widths of
all query and all key heads. One multiply-add is two FLOPs. Norms, rotary embeddings, activations and softmax are left
out, as in the papers and in torch's counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hero_ray.core.encoded import Needs
from hero_ray.models.base import LanguageShape, ModelInfo, VisionShape

ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
CLIP_TEXT_POSITIONS = 77


@dataclass(frozen=True)
class TextTowerShape:
    """Sizes of a CLIP text tower; the default is the one beside CLIP ViT-L/14."""

    num_layers: int = 12
    hidden: int = 768
    intermediate: int = 3072
    projection: int = 768


def paper_flops(language: LanguageShape, per_layer: Sequence[int]) -> float:
    """HERO Eq. 7: T * (8 n d^2 + 4 n^2 d + 6 n d m); full attention, no grouped queries, no head."""
    d, m = language.hidden, language.intermediate
    return float(sum(8 * n * d * d + 4 * n * n * d + 6 * n * d * m for n in per_layer))


def prefill_flops(
    language: LanguageShape, per_layer: Sequence[int], *, causal: bool = True, head: bool = True
) -> float:
    """One prompt pass with n tokens in each block (ragged blocks welcome).

    `causal=False` counts the full n x n square, as operator counters do; `head` adds one row of the output head.
    """
    total = sum(_block_flops(language, n, causal=causal) for n in per_layer)
    return float(total + (2 * language.hidden * language.vocab if head else 0))


def _block_flops(language: LanguageShape, n: int, *, causal: bool) -> float:
    d, d_q, d_kv = language.hidden, _query_width(language), _key_width(language)
    projections = 4 * n * d * d_q + 4 * n * d * d_kv
    pairs = n * (n + 1) / 2 if causal else n * n
    return projections + 4 * d_q * pairs + 6 * n * d * language.intermediate


def decode_flops(language: LanguageShape, per_layer: Sequence[int], new_tokens: int) -> float:
    """Every step after the first token; step t attends to the prompt and the t tokens before it."""
    steps = max(0, new_tokens - 1)
    d, d_q, d_kv = language.hidden, _query_width(language), _key_width(language)
    linear = len(per_layer) * (4 * d * d_q + 4 * d * d_kv + 6 * d * language.intermediate)
    linear += 2 * d * language.vocab
    keys = sum(steps * n + steps * (steps + 1) / 2 for n in per_layer)
    return float(steps * linear + 4 * d_q * keys)


def at_view(vision: VisionShape, view: int | tuple[int, int]) -> VisionShape:
    """The tower as it sees a view of `view` visual tokens: smaller looks (`downsample`) cost less.

    Where the projector folds patches, it reads several for each visual token. What windows cost depends on (rows,
    columns) of the view.
    """
    count = view if isinstance(view, int) else view[0] * view[1]
    side = vision.side if isinstance(view, int) or vision.side == (0, 0) else view
    return replace(vision, tokens=count * (vision.projector[0] // vision.hidden) + vision.cls, side=side)


def encoder_flops(vision: VisionShape, views: int, layers: int | None = None) -> float:
    """Patch embedding, `layers` blocks (default: those that run) and the projector, for `views` views."""
    n, d, m = vision.tokens, vision.hidden, vision.intermediate
    blocks = vision.layers_run if layers is None else layers
    whole = sum(block <= blocks for block in vision.whole) if vision.whole else blocks
    pairs = whole * n * n + ((blocks - whole) * _pairs_in_windows(vision) if whole < blocks else 0)
    tower = blocks * (8 * n * d * d + 2 * vision.mlp * n * d * m) + 4 * d * pairs
    embedding = 2 * vision.patches * 3 * vision.frames * vision.patch**2 * d
    tokens = vision.patches * d // vision.projector[0]
    projector = sum(2 * tokens * a * b for a, b in zip(vision.projector, vision.projector[1:], strict=False))
    projector *= vision.projectors
    return float(views * (tower + embedding + projector))


def _pairs_in_windows(vision: VisionShape) -> int:
    """Pairs of patches that see each other in a block of windows: a product of sums along the two edges of the grid."""
    folded = (vision.projector[0] // vision.hidden) ** 2
    sums = [edge // vision.window * vision.window**2 + (edge % vision.window) ** 2 for edge in vision.side]
    return folded * sums[0] * sums[1]


def scoring_flops(
    info: ModelInfo,
    needs: Needs,
    views: int,
    prompt_tokens: int = 0,
    query_tokens: int = 1,
    text_tower: TextTowerShape | None = None,
    clip_tokens: int = CLIP_TEXT_POSITIONS,
) -> float:
    """What capturing `needs` adds to an unpruned encode: the part of a method's cost its ranking does not show.

    Args:
        prompt_tokens: length of the unpruned prompt (for rows of LLM blocks).
        query_tokens: instruction tokens whose rows are read.
        text_tower: sizes of the CLIP text tower; None takes CLIP ViT-L's.
        clip_tokens: length of the question as CLIP reads it.
    """
    vision = info.vision
    row = 2 * vision.hidden * vision.tokens * views
    total = float(row * len({vision.nearest(layer) for layer in needs.tower_layers}))
    # A row for every token: what they receive, and what stands in for the CLS row of a tower without one.
    everyone = needs.received | (frozenset() if vision.cls else needs.cls_attention)
    total += float(row * vision.tokens * len({vision.nearest(layer) for layer in everyone}))
    if needs.clip:
        tower = text_tower or TextTowerShape()
        total += text_tower_flops(tower, clip_tokens)
        read = views if needs.clip_score else 0
        read += views * vision.patches * needs.clip_tokens
        total += read * 2 * (vision.hidden * tower.projection + tower.projection)
        if needs.clip_words:  # every patch and every token of the question projected, compared by the method itself
            total += views * vision.patches * 2 * vision.hidden * tower.projection
            total += (clip_tokens - 1) * 2 * tower.hidden * tower.projection
    deepest = _deepest_block(vision, needs)
    if deepest > vision.layers_run:
        total += encoder_flops(vision, views, deepest - 1) - encoder_flops(vision, views) + views * _cls_block(vision)
    return total + _llm_rows_flops(info.language, needs.llm_attention, prompt_tokens, query_tokens)


def _cls_block(vision: VisionShape) -> float:
    """The last block for its CLS row: keys and values of every token, the rest for one."""
    n, d, m = vision.tokens, vision.hidden, vision.intermediate
    return float(4 * n * d * d + 4 * d * d + 4 * n * d + 4 * d * m)


def _deepest_block(vision: VisionShape, needs: Needs) -> int:
    """Blocks the tower must run to give what is needed; features alone leave the last ones out."""
    if needs.cls_embedding - {"feature_layer"} or needs.clip_score:
        return vision.num_layers
    return max([vision.layers_run, *needs.tower_layers])


def _llm_rows_flops(language: LanguageShape, blocks: frozenset[int], tokens: int, queries: int) -> float:
    """Blocks 1 .. b-1 in full, then keys of every token and rows of the queries in block b."""
    if not blocks:
        return 0.0
    d, d_q, d_kv = language.hidden, _query_width(language), _key_width(language)
    whole = (max(blocks) - 1) * _block_flops(language, tokens, causal=True)
    rows = 2 * queries * d * d_q + 2 * queries * tokens * d_q
    return float(whole + len(blocks) * rows + 2 * tokens * d * d_kv)


def text_tower_flops(tower: TextTowerShape, tokens: int = CLIP_TEXT_POSITIONS) -> float:
    """One text through a CLIP text tower and its projection."""
    d, m = tower.hidden, tower.intermediate
    block = 8 * tokens * d * d + 4 * tokens * tokens * d + 4 * tokens * d * m
    return float(tower.num_layers * block + 2 * d * tower.projection)


def weight_bytes(language: LanguageShape, element_bytes: int) -> int:
    """Weights every forward pass reads: all blocks and the output head."""
    d = language.hidden
    block = 2 * d * _query_width(language) + 2 * d * _key_width(language) + 3 * d * language.intermediate
    return (language.num_layers * block + d * language.vocab) * element_bytes


def kv_bytes(language: LanguageShape, per_layer: Sequence[int], element_bytes: int) -> int:
    """Keys and values of the prompt, with the model's own key-value heads."""
    return 2 * sum(per_layer) * _key_width(language) * element_bytes


def kv_bytes_paper(language: LanguageShape, per_layer: Sequence[int], element_bytes: int) -> int:
    """Keys and values as the papers count them: one key-value head per query head."""
    return 2 * sum(per_layer) * _query_width(language) * element_bytes


def _query_width(language: LanguageShape) -> int:
    return language.num_heads * language.head_dim


def _key_width(language: LanguageShape) -> int:
    return language.num_kv_heads * language.head_dim
