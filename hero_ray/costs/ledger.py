"""The token ledger: what visual tokens cost on a model, from its configuration alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hero_ray.core.errors import InputError
from hero_ray.costs import costs
from hero_ray.models.base import LanguageShape, ModelInfo, VisionShape
from hero_ray.models.shapes import ModelShape, shape

TERA = 1e12


class _HasInfo(Protocol):
    info: ModelInfo


Model = str | ModelInfo | ModelShape | _HasInfo
Tokens = int | Sequence[int]


@dataclass(frozen=True)
class AnswerCost:
    """What one answer costs, in FLOPs and bytes.

    Attributes:
        encoder: vision tower and projector.
        scoring: what the method adds before the LLM (CLIP text, LLM scoring pass, CLS rows).
        prefill: prompt pass with grouped queries, causal attention, ragged blocks and one row of the head.
        decode: every new token after the first.
        paper: HERO Eq. 7 over visual and text tokens.
        kv_bytes: cache of the prompt with the model's own key-value heads.
        kv_bytes_paper: the same as the papers count it, one key-value head per query head.
    """

    encoder: float
    scoring: float
    prefill: float
    decode: float
    paper: float
    kv_bytes: int
    kv_bytes_paper: int

    @property
    def total_flops(self) -> float:
        """Everything an answer takes: encoder, scoring, prefill and decode."""
        return self.encoder + self.scoring + self.prefill + self.decode


def ledger(
    model: Model,
    tokens: Sequence[Tokens],
    text_tokens: int = 0,
    *,
    views: int | None = None,
    new_tokens: int = 1,
    dtype: str | None = None,
) -> list[dict[str, Any]]:
    """One record per entry of `tokens`: FLOPs and key-value bytes, no weights needed.

    Args:
        model: a name, a local folder, a `ModelInfo` or a loaded model.
        tokens: visual tokens that enter the LLM; an entry may list them per block, first block first.
        text_tokens: text tokens of the prompt, alive in every block.
        views: pictures through the vision tower (tiles and thumbnail); without it `tflops_encoder` is None.
        new_tokens: length of the answer, for `tflops_decode`.
        dtype: of the cache; default the model's own.

    Returns:
        Dicts with `tflops_paper` (HERO Eq. 7), `tflops_model` (grouped queries, causal, head, ragged blocks),
        `tflops_encoder`, `tflops_decode`, `kv_bytes`, `kv_bytes_paper` (one key-value head per query head) and the
        token counts behind them.

    Raises:
        InputError: a negative count, a list that does not fit the model's blocks, or an unknown dtype.
    """
    name, language, vision, own_dtype = _sizes(model)
    dtype = dtype or own_dtype
    if dtype not in costs.ELEMENT_BYTES:
        raise InputError(f"dtype {dtype!r} is unknown; expected one of {', '.join(costs.ELEMENT_BYTES)}")
    if text_tokens < 0:
        raise InputError(f"text_tokens is {text_tokens}; a prompt cannot have fewer than 0 text tokens")
    element = costs.ELEMENT_BYTES[dtype]
    encoder = None if views is None else costs.encoder_flops(vision, views) / TERA
    rows = []
    for entry in tokens:
        visual = _per_layer(entry, language.num_layers, name)
        total = [count + text_tokens for count in visual]
        rows.append(
            {
                "model": name,
                "tokens": max(visual),
                "text_tokens": text_tokens,
                "equivalent_tokens": sum(visual) / len(visual),
                "tflops_paper": costs.paper_flops(language, total) / TERA,
                "tflops_model": costs.prefill_flops(language, total) / TERA,
                "tflops_encoder": encoder,
                "tflops_decode": costs.decode_flops(language, total, new_tokens) / TERA,
                "kv_bytes": costs.kv_bytes(language, total, element),
                "kv_bytes_paper": costs.kv_bytes_paper(language, total, element),
                "dtype": dtype,
            }
        )
    return rows


def _sizes(model: Model) -> tuple[str, LanguageShape, VisionShape, str]:
    if isinstance(model, str):
        known: ModelInfo | ModelShape = shape(model)
    elif isinstance(model, (ModelInfo, ModelShape)):
        known = model
    else:
        known = model.info
    return known.name, known.language, known.vision, known.dtype


def _per_layer(entry: Tokens, num_layers: int, name: str) -> list[int]:
    counts = [entry] * num_layers if isinstance(entry, int) else list(entry)
    if len(counts) != num_layers:
        raise InputError(f"tokens lists {len(counts)} blocks, but {name} has {num_layers}; give one count per block")
    if min(counts) < 0:
        raise InputError(f"tokens {entry} holds a negative count; give the visual tokens alive in each block")
    return counts


def answer_cost(
    info: ModelInfo,
    visual_per_layer: Sequence[int],
    text_tokens: int,
    new_tokens: int,
    views: int,
    scoring: float = 0.0,
    tokens_per_view: int | tuple[int, int] | None = None,
) -> AnswerCost:
    """Cost of one answer from its token counts.

    Args:
        info: sizes and dtype of the model.
        visual_per_layer: visual tokens alive in each LLM block.
        text_tokens: text tokens of the prompt.
        new_tokens: tokens generated, the first included.
        views: tiles and thumbnail encoded.
        scoring: FLOPs the method adds before the LLM, from `scoring_flops`.
        tokens_per_view: visual tokens of one view as it was encoded, or its (rows, columns), on which the cost of
            windows depends; those of the model's own views if None.
    """
    vision = info.vision if tokens_per_view is None else costs.at_view(info.vision, tokens_per_view)
    per_layer = [visual + text_tokens for visual in visual_per_layer]
    element = costs.ELEMENT_BYTES[info.dtype]
    return AnswerCost(
        encoder=costs.encoder_flops(vision, views),
        scoring=scoring,
        prefill=costs.prefill_flops(info.language, per_layer),
        decode=costs.decode_flops(info.language, per_layer, new_tokens),
        paper=costs.paper_flops(info.language, per_layer),
        kv_bytes=costs.kv_bytes(info.language, per_layer, element),
        kv_bytes_paper=costs.kv_bytes_paper(info.language, per_layer, element),
    )
