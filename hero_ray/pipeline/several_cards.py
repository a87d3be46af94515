"""A model whose language model vLLM holds: how its memory is split, on one card or over the several of a replica."""

from __future__ import annotations

from hero_ray.core.engine_args import OF_FREE, EngineArgs
from hero_ray.core.engines import AUTO, OURS, engine_of
from hero_ray.core.errors import ConfigError
from hero_ray.core.plan import ModelFact
from hero_ray.costs.cards import GpuCard
from hero_ray.costs.costs import ELEMENT_BYTES
from hero_ray.costs.sharing import card_shares, positions_that_fit
from hero_ray.pipeline.cell_costs import NEW_TOKENS, TEXT_TOKENS, CellForecast
from hero_ray.pipeline.facts import Plan


def engine_args(plan: Plan) -> EngineArgs:
    """How the plan's engine runs."""
    return EngineArgs.asked(engine_of(plan.config.model_args), plan.config.model_args.get("engine_args"))


def is_shared_out(plan: Plan, model: ModelFact) -> bool:
    """Whether a replica of a model takes several cards."""
    return model.engine != OURS and engine_args(plan).devices > 1


def split(plan: Plan, model: ModelFact, found: CellForecast) -> str:
    """Memory between the tower and vLLM's language model, and over a replica's cards, as one line."""
    args = engine_args(plan)
    shares = card_shares(found.language, found.vision, args, ELEMENT_BYTES[model.dtype], model.engine)
    over = (
        f"{args.devices} cards (tensor {args.tensor_parallel_size} x pipeline {args.pipeline_parallel_size})"
        if args.devices > 1
        else "one card"
    )
    also = ", and our own blocks, which engine=auto needs beside them," if model.engine == AUTO else ""
    line = (
        f"{model.name} on {over}: {gib(shares.tower)} of tower, embeddings and head{also} here and "
        f"{gib(shares.first)} of language model in vLLM"
    )
    return line + (f" on the first, {gib(shares.other)} of it on each other" if args.devices > 1 else "")


def answers_at_once(plan: Plan, model: ModelFact, found: CellForecast, card: GpuCard, usable: float) -> int:
    """Answers to the longest prompt whose cache fits a replica's cards together.

    Raises:
        ConfigError: not even one.
    """
    args = engine_args(plan)
    shares = card_shares(found.language, found.vision, args, ELEMENT_BYTES[model.dtype], model.engine)
    longest = max(found.visual.values()) + TEXT_TOKENS + NEW_TOKENS
    rows = positions_that_fit(shares, args, usable, OF_FREE) // longest
    if rows < 1:
        raise ConfigError(
            f"{model.name} does not fit {args.devices} x {card.name}: {split(plan, model, found)}, {gib(shares.work)} "
            f"of work and {gib(longest * shares.position)} of cache for one answer; {gib(usable)} of a card can be "
            f"used and vLLM is given {OF_FREE:.0%} of what the tower leaves. Raise tensor_parallel_size and "
            f"gpus_per_replica{', or use engine=vllm, which keeps no blocks of ours' if model.engine == AUTO else ''}"
        )
    return rows


def gib(value: float) -> str:
    """Bytes as GiB."""
    return f"{value / 2**30:.1f} GiB"
