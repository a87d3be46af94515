"""A plan on a named card: what fits, what must be split, and how long it would take, the assumptions said with it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hero_ray.core.engines import OURS
from hero_ray.core.errors import BudgetError, ConfigError
from hero_ray.core.plan import ModelFact
from hero_ray.costs.cards import GpuCard
from hero_ray.costs.costs import ELEMENT_BYTES
from hero_ray.costs.memory import largest_batch
from hero_ray.costs.times import BANDWIDTH_SHARE, FLOPS_SHARE, Times
from hero_ray.pipeline.cell_costs import NEW_TOKENS, TEXT_TOKENS, CellForecast
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.several_cards import answers_at_once, gib, is_shared_out

KEPT_FREE = 0.05
"""Of a card's memory, for the driver's context, the allocator's rounding and libraries' workspaces; assumed."""
MOST_LINES = 8


def assumptions(card: GpuCard) -> Iterator[str]:
    """What a forecast on a card takes for granted, and where the card's figures were read."""
    yield (
        f"assumed on {card.name}: {FLOPS_SHARE:.0%} of its 16-bit FLOP/s in encoding and prefill, "
        f"{BANDWIDTH_SHARE:.0%} of its bandwidth in decoding, {KEPT_FREE:.0%} of its memory kept free, the largest "
        f"picture, {TEXT_TOKENS} text tokens, {NEW_TOKENS} new ones an answer, no prefix shared; no measurement"
    )
    for figure, what in (("memory", "bytes"), ("bandwidth", "bytes/s"), ("flops", "FLOP/s")):
        value = getattr(card, figure)
        if value is None:
            why = f"no page of its maker was read for {figure}" if card.pages else f"{figure} was not given"
            yield f"{card.name}: {why}; what hangs on it is n/a without {figure}=..."
        else:
            yield f"{card.name}: {figure} {value:.4g} {what} ({card.pages.get(figure, 'as given')})"


def on_card(plan: Plan, model: ModelFact, found: CellForecast, card: GpuCard) -> list[str]:
    """Lines for one model: the batch that fits, times by visual tokens, hours of the sweep.

    Raises:
        ConfigError: not even one answer fits.
    """
    share = min(1.0, plan.config.gpus_per_replica or 1.0)
    usable, asked = int(card.memory * share * (1 - KEPT_FREE)), plan.config.batch_size
    if model.engine != OURS:
        rows = answers_at_once(plan, model, found, card, usable)
        takes = f"{model.name} on {card.name}: room for {rows} answers to the longest prompt at once"
        if is_shared_out(plan, model):
            return [f"{takes}; times over several cards are not forecast"]
        return [takes, *_timed(plan, model, found, card, min(rows, asked))]
    rows, takes = _batch(plan, model, found, card, usable)
    return [takes, *_timed(plan, model, found, card, rows)]


def _batch(plan: Plan, model: ModelFact, found: CellForecast, card: GpuCard, usable: int) -> tuple[int, str]:
    """The largest batch of our own blocks that fits, and what it takes."""
    share, asked = min(1.0, plan.config.gpus_per_replica or 1.0), plan.config.batch_size
    try:
        rows = largest_batch(usable, asked, lambda count: found.memory(count).peak)
    except BudgetError:
        raise ConfigError(
            f"{model.name} does not fit {card.name}: one answer takes {gib(found.memory(1).peak)} and {gib(usable)} "
            f"can be used{f' by each of {1 / share:g} replicas a card' if share < 1 else ''}; take a card with more "
            "memory, a smaller model or a shorter dtype"
        ) from None
    takes = f"{model.name} on {card.name}: {gib(found.memory(rows).peak)} of {gib(usable)} at a batch of {rows}"
    split = f"; the batch of {asked} that is asked for takes {gib(found.memory(asked).peak)}: --batch-size {rows}"
    return rows, takes + (split if rows < asked else ", which fits")


def _timed(plan: Plan, model: ModelFact, found: CellForecast, card: GpuCard, rows: int) -> list[str]:
    """Times by visual tokens, and hours of the whole sweep."""
    share = min(1.0, plan.config.gpus_per_replica or 1.0)
    times = Times(found.language, found.vision, card, ELEMENT_BYTES[model.dtype])
    lines = list(_by_tokens(times, found, rows))
    cards = max(1, math.ceil(int(plan.config.replicas) * share)) if plan.config.replicas != "auto" else 1
    seconds = _whole(times, plan, model, found, rows)
    if seconds is None:
        unknown = [figure for figure in ("bandwidth", "flops") if getattr(card, figure) is None]
        said = f"need its {' and '.join(unknown)}" if unknown else f"are not forecast in {model.dtype}"
        return [*lines, f"{model.name} on {card.name}: hours of the sweep {said}"]
    many = f"{cards} cards" if cards > 1 else "one card"
    return [*lines, f"{model.name} on {card.name}: about {seconds / 3600 / cards:.2g} hours on {many}"]


def _by_tokens(times: Times, found: CellForecast, rows: int) -> Iterator[str]:
    encode = times.encode(found.views)
    for visual in sorted(set(found.visual.values()), reverse=True)[:MOST_LINES]:
        tokens = visual + TEXT_TOKENS
        prefill, alone, together = times.prefill(tokens), times.step(tokens, 1), times.step(tokens, rows)
        first = None if encode is None or prefill is None else encode + prefill
        yield (
            f"  {visual} visual tokens: first token after {_ms(first)} ({_ms(encode)} of it encoding), then "
            f"{_ms(alone)} a token, {_ms(together)} a step of {rows}"
        )


def _whole(times: Times, plan: Plan, model: ModelFact, found: CellForecast, rows: int) -> float | None:
    """Seconds of all cells of a model on one card, one batch after another."""
    encode = times.encode(found.views)
    if encode is None:
        return None
    total = plan.pictures * encode
    for cell in plan.cells_of(model.name):
        tokens, answers = found.visual[cell.id] + TEXT_TOKENS, plan.expected[cell.id]
        prefill, step = times.prefill(tokens), times.step(tokens, rows)
        if prefill is None or step is None:
            return None
        total += answers * prefill + math.ceil(answers / rows) * (NEW_TOKENS - 1) * step
    return total


def _ms(seconds: float | None) -> str:
    return "n/a" if seconds is None else f"{1000 * seconds:.{0 if seconds >= 0.1 else 1}f} ms"
