"""What a sweep will cost before it runs: encodes, FLOPs, time, memory, and what its size can tell apart.

Everything is an upper estimate from configurations: prompts are taken at the model's largest picture. Time comes from
the results database where it holds finished runs of the same model. Without weights or data at hand it is that of an
assumed machine, and otherwise not guessed.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from hero_ray.benchmarks import sizes
from hero_ray.core.engines import OURS
from hero_ray.core.errors import BudgetError, StoreError
from hero_ray.core.plan import ENDPOINT, FULL, ModelFact
from hero_ray.core.text import in_bytes
from hero_ray.costs.cards import GpuCard
from hero_ray.costs.memory import largest_batch
from hero_ray.costs.times import FLOPS_SHARE
from hero_ray.pipeline.cell_costs import GPU_TFLOPS, GPUS, CellForecast, forecast
from hero_ray.pipeline.facts import Plan, sample_prompts
from hero_ray.pipeline.on_card import assumptions, on_card
from hero_ray.pipeline.several_cards import is_shared_out, split
from hero_ray.results import needs
from hero_ray.results.names import name_all
from hero_ray.stats import detectable
from hero_ray.store import open_store

DISCORDANT = 0.2
"""Share of samples on which two methods disagree, assumed for the detectable difference; typical for 20 % budgets."""


def describe_plan(plan: Plan, url: str, missing: str = "", card: GpuCard | None = None) -> str:
    """Cells, pictures, questions, encodes saved and the forecast, as text; nothing is written anywhere.

    Args:
        missing: why weights or data are not at hand, for a plan made without them.
        card: what to forecast memory and time for, instead of this machine.

    Raises:
        ConfigError: a model of which not one answer fits the card.
    """
    answers = sum(plan.expected.values())
    encodes = len(plan.models) * plan.pictures
    where = f"planned from configurations alone, since {missing}" if missing else f"results in {url}"
    lines = [f"sweep {plan.config.name}: {where}" if missing else f"sweep {plan.config.name} ({plan.hash}), {where}"]
    for model in plan.models:
        cells = plan.cells_of(model.name)
        methods = ", ".join(dict.fromkeys(cell.method for cell in cells))
        lines.append(f"{model.name} ({model.family}, {model.dtype}): {len(cells)} cells; methods {methods}")
    for name, count in plan.asked.items():
        clusters = len({sample.image_key for sample in plan.samples if sample.benchmark == name})
        lines.append(
            f"{name}: {count} questions on {clusters or sizes.pictures(name, count)} pictures; a paired difference of "
            f"{smallest_difference(count):.1f} points is detectable (80% power, 5% level, "
            f"{DISCORDANT:.0%} of answers changed)"
        )
    lines.append(
        f"{len(plan.cells)} cells, {plan.pictures} pictures, {sum(plan.asked.values())} questions, {answers} answers; "
        f"{encodes} encodes instead of {answers} ({answers - encodes} saved)"
    )
    for name, text in sample_prompts(plan).items():
        lines.append(f"{name} is asked: {json.dumps(text, ensure_ascii=False)}")
    for name, commit in plan.commits.items():
        lines.append(f"reads {name.replace(':', ' ', 1)} at commit {commit}")
    rates = {} if missing else answer_rates(plan.models, url)
    for model in plan.models:
        if model.family != ENDPOINT:  # what a server spends is its own affair
            lines += _model_lines(plan, model, rates.get(model.name), card)
    if card is not None:
        lines += assumptions(card)
    return "\n".join([*lines, *_beyond(plan), *plan.cautions])


def counts(plan: Plan) -> dict[str, Any]:
    """The same for scripts."""
    answers, encodes = sum(plan.expected.values()), len(plan.models) * plan.pictures
    return {
        "sweep": plan.config.name,
        "models": [model.name for model in plan.models],
        "cells": len(plan.cells),
        "pictures": plan.pictures,
        "questions": sum(plan.asked.values()),
        "answers": answers,
        "encodes": encodes,
        "encodes_saved": answers - encodes,
    }


def _beyond(plan: Plan) -> Iterator[str]:
    """Budgets that no picture reaches."""
    for model in plan.models:
        asked = {cell.tokens for cell in plan.cells_of(model.name) if cell.tokens and cell.tokens > model.max_tokens}
        if asked:
            yield (
                f"Caution: {', '.join(f'{tokens}tok' for tokens in sorted(asked))} is more than the {model.max_tokens} "
                f"patch tokens of {model.name}'s largest picture: nothing is pruned there"
            )


def describe_needs(plan: Plan, url: str, margin: float, power: float) -> list[str]:
    """A line for each model and benchmark: pictures that "loses less than `margin` points" needs, as text."""
    try:
        store = open_store(url, read_only=True)
    except StoreError:
        store = None
    lines = []
    for name in plan.benchmarks:
        sizes = Counter(sample.image_key for sample in plan.samples if sample.benchmark == name)
        for model in plan.models:
            known = needs.earlier_changes(store, model.name, name, margin / 100) if store else None
            own = [cell for cell in plan.cells_of(model.name) if cell.benchmark == name and cell.method != FULL]
            cells = len({called.key for called in name_all(own)})  # seeds of one setting are one
            lines.append(needs.describe(f"{name} ({model.name})", list(sizes.values()), margin, power, known, cells))
    return lines


def smallest_difference(questions: int) -> float:
    """Points of accuracy that a paired comparison on so many questions detects, were they independent."""
    return 100 * detectable(math.sqrt(DISCORDANT / max(1, questions)))


def answer_rates(models: Sequence[ModelFact], url: str) -> dict[str, float]:
    """Answers per second of each model in the latest finished runs of this database; empty without a database."""
    try:
        store = open_store(url, read_only=True)
    except StoreError:
        return {}
    wanted = {model.name for model in models}
    rates: dict[str, float] = {}
    for run in store.runs(limit=20):
        if run.status != "complete" or run.started_at is None or run.finished_at is None:
            continue
        present = {cell.model for cell in store.cells(run.id)}
        seconds = (run.finished_at - run.started_at).total_seconds()
        answered, _ = store.totals(run.id)
        if len(present) == 1 and present <= wanted and seconds > 0:
            rates.setdefault(present.pop(), answered / seconds)
    return rates


def _model_lines(plan: Plan, model: ModelFact, rate: float | None, card: GpuCard | None) -> list[str]:
    found = forecast(plan, model)
    answers = sum(plan.expected[cell.id] for cell in plan.cells_of(model.name))
    memory = found.memory(plan.config.batch_size)
    line = (
        f"{model.name}: about {_flops(found.petaflops)}; weights {in_bytes(memory.weights)}, "
        f"cache {in_bytes(memory.cache)} and work {in_bytes(max(memory.prefill, memory.encode))} "
        f"for a batch of {plan.config.batch_size}"
    )
    device = _device_bytes() if card is None and not is_shared_out(plan, model) else None
    if device is not None and memory.peak > device:
        line += f" (WARNING: over the {in_bytes(device)} of this device; {_remedy(found, plan, device)})"
    if rate:
        line += f"; {answers / rate:.0f} s at the {rate:.0f} answers/s of earlier runs here"
    elif card is None and not plan.hash:
        line += (
            f"; {found.hours:.2g} hours on {GPUS} GPUs of {GPU_TFLOPS:g} TFLOP/s at {FLOPS_SHARE:.0%}, an assumption "
            "and no measurement"
        )
    elif card is None:
        line += "; no finished run of this model here to forecast the time from"
    lines = [line] if model.engine == OURS else [line, split(plan, model, found)]
    return lines if card is None else [*lines, *on_card(plan, model, found, card)]


def _remedy(found: CellForecast, plan: Plan, device: int) -> str:
    try:
        fitting = largest_batch(device, plan.config.batch_size, lambda rows: found.memory(rows).peak)
    except BudgetError:
        return "not even one answer fits"
    return f"--batch-size {fitting} fits"


def _flops(peta: float) -> str:
    return f"{peta:.3g} PFLOP" if peta >= 1 else f"{1000 * peta:.3g} TFLOP"


def _device_bytes() -> int | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)
