"""One language model shared out over several cards, as vLLM does it: heads by tensor, blocks by pipeline parallelism.

The vision tower, its projector and our copy of embeddings and head stay on the first card, beside that card's share.
Letters as in `memory`: d width, m MLP width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hero_ray.core.engine_args import EngineArgs
from hero_ray.core.engines import AUTO
from hero_ray.core.errors import ConfigError
from hero_ray.costs.memory import model_weights, prefill_work
from hero_ray.models.base import LanguageShape, VisionShape

STEP_TOKENS = 8192
"""Tokens of one step of vLLM's on a GPU where `max_num_batched_tokens` is not given, assumed."""


def check_shares(name: str, language: LanguageShape, args: EngineArgs) -> None:
    """Refuse a language model that does not divide over the cards it is asked to be shared out over.

    Raises:
        ConfigError: naming the size that does not divide, and numbers that do.
    """
    tensor, pipeline = args.tensor_parallel_size, args.pipeline_parallel_size
    if not _divides(language, tensor):
        fitting = [str(n) for n in range(1, language.num_heads + 1) if _divides(language, n)]
        raise ConfigError(
            f"tensor_parallel_size {tensor} does not divide {name}'s language model ({language.num_heads} heads over "
            f"{language.num_kv_heads} of keys and values, MLP width {language.intermediate}); "
            f"these do: {', '.join(fitting)}"
        )
    if pipeline > language.num_layers:
        raise ConfigError(
            f"pipeline_parallel_size {pipeline} is more than the {language.num_layers} blocks of {name}'s language "
            "model; every stage needs one"
        )


def _divides(language: LanguageShape, tensor: int) -> bool:
    """Heads and MLP are cut evenly; heads of keys and values too, or each is repeated on the same number of cards."""
    shared = language.num_kv_heads % tensor == 0 or tensor % language.num_kv_heads == 0
    return language.num_heads % tensor == 0 and language.intermediate % tensor == 0 and shared


@dataclass(frozen=True)
class CardShares:
    """Bytes on the cards of one replica.

    Attributes:
        tower: what hero_ray holds on the first card: tower, projector, embeddings, head, and under `auto` our blocks.
        first, other: vLLM's weights on the first card, and on the fullest of the others (0 where there is none).
        work: of one step on a card. position: keys and values of one position, on the card that holds most blocks.
    """

    tower: int
    first: int
    other: int
    work: int
    position: int


def card_shares(
    language: LanguageShape, vision: VisionShape, args: EngineArgs, element: int, engine: str
) -> CardShares:
    """How a replica's memory is split between tower and language model, and over its cards."""
    tensor, pipeline = args.tensor_parallel_size, args.pipeline_parallel_size
    kv_heads = max(1, language.num_kv_heads // tensor)
    d, d_q = language.hidden, language.num_heads * language.head_dim // tensor
    block = 2 * d * d_q + 2 * d * kv_heads * language.head_dim + 3 * d * language.intermediate // tensor + 2 * d
    blocks = _stages(language.num_layers, pipeline)
    table = d * language.vocab // tensor  # embeddings on the first stage, norm and head on the last
    stages = [count * block + table * ((place == 0) + (place == pipeline - 1)) for place, count in enumerate(blocks)]
    stages[-1] += d
    others = ([stages[0]] if tensor > 1 else []) + stages[1:]
    cut = replace(
        language,
        intermediate=language.intermediate // tensor,
        num_heads=language.num_heads // tensor,
        num_kv_heads=kv_heads,
    )
    held = language if engine == AUTO else replace(language, num_layers=0)
    return CardShares(
        tower=model_weights(held, vision, element),
        first=stages[0] * element,
        other=max(others, default=0) * element,
        work=prefill_work(cut, 1, args.max_num_batched_tokens or STEP_TOKENS, element),
        position=2 * max(blocks) * kv_heads * language.head_dim * element,
    )


def _stages(layers: int, pipeline: int) -> list[int]:
    """Blocks of every stage; those that are left over go to the later stages, the last one excepted."""
    left = layers % pipeline
    return [layers // pipeline + (pipeline - 1 - left <= place < pipeline - 1) for place in range(pipeline)]


def positions_that_fit(shares: CardShares, args: EngineArgs, memory: float, share: float) -> int:
    """Positions of key-value cache that every card has room for; negative where weights and work alone do not fit.

    Args:
        memory: usable bytes of a card.
        share: of what the tower leaves of the first card, what vLLM is given; of the others it takes as many bytes.
    """
    room = share * (memory - shares.tower) - max(shares.first, shares.other) - shares.work
    if args.kv_cache_gib is not None:
        room = min(room, args.kv_cache_gib * 2**30)
    return math.floor(room / shares.position)
