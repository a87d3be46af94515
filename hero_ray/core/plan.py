"""From a validated sweep to a deterministic list of cells and units. Pure: the facts it needs are handed in.

A cell's id is a hash of everything that may change its answers, so equal ids mean interchangeable results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from hero_ray.core.budgets import BudgetEntry
from hero_ray.core.config import MethodEntry, SweepConfig
from hero_ray.core.encoded import BudgetBase
from hero_ray.core.engines import OURS, VLLM, refuse, why_not_vllm
from hero_ray.core.errors import ConfigError
from hero_ray.core.layout import NewlinePolicy
from hero_ray.core.types import Cell, Sample

FULL = "full"
ENDPOINT = "endpoint"
"""The family of models that are asked over HTTP: whatever they prune is their own affair, so `full` alone fits them."""
NOTHING_LEFT = "the sweep has no cells left: `include` and `exclude` rule out every combination"


@dataclass(frozen=True)
class Settings:
    """What all cells of a sweep share."""

    batch_size: int = 64
    budget_base: BudgetBase = "real"
    newline_policy: NewlinePolicy = "unpadded_rows"
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class ModelFact:
    """What the plan must know of a model. `max_tokens`: patch tokens of its largest unpruned prompt; `clip`: weight
    hash of the CLIP that text-aware methods read, "" where its weights lie in the model's own folder; `engine`: who was
    asked to answer, `engine_version`: of vLLM."""

    name: str
    family: str
    revision: str
    dtype: str
    max_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)
    clip: str = ""
    engine: str = OURS
    engine_version: str = ""


@dataclass(frozen=True)
class MethodFact:
    """One resolved method. `seeded`: it has a seed parameter; `budgeted`: the ratio decides its count; `straw_man`: a
    baseline that the others are held against; `reads_clip`: CLIP's text side decides with it; `inside`: it drops tokens
    inside the language model; `reads_blocks`: it chooses by what the blocks there attend to."""

    name: str
    variant: str
    params: Mapping[str, Any]
    code_version: int | str
    seeded: bool
    budgeted: bool
    straw_man: bool = False
    reads_clip: bool = False
    inside: bool = False
    reads_blocks: bool = False


@dataclass(frozen=True)
class TaskFact:
    """One benchmark in one flavour over one dataset. `prompts`: family -> hash of its prompt texts; `code`: hash of the
    source of another package's, "" for ours."""

    name: str
    flavour: str
    fingerprint: str
    max_new_tokens: int
    prompts: Mapping[str, str] = field(default_factory=dict)
    code: str = ""


@dataclass(frozen=True)
class Unit:
    """One picture with all its questions: what is scheduled, retried and resumed."""

    id: str
    image_key: str
    samples: tuple[Sample, ...]

    @property
    def benchmarks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sample.benchmark for sample in self.samples))


def digest(content: Any, length: int = 16) -> str:
    """Hash of JSON-able content; key order does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def cells(
    config: SweepConfig,
    models: Sequence[ModelFact],
    methods: Sequence[tuple[MethodEntry, MethodFact]],
    tasks: Sequence[TaskFact],
) -> list[Cell]:
    """Every cell of a sweep, models outermost, in the order the file names things.

    `full` and methods whose count is their own give one cell per model and benchmark, whatever the budgets; seeded
    methods one per seed. A cell that two entries ask for appears once.

    Raises:
        ConfigError: include and exclude leave nothing, or vLLM was asked for cells that it cannot answer.
    """
    found: dict[str, Cell] = {}
    barred: dict[str, str] = {}
    for model in models:
        for task in tasks:
            for entry, fact in methods:
                if model.family == ENDPOINT and fact.name != FULL:
                    continue
                for budget in _budgets(config, entry, fact):
                    for seed in _seeds(config, entry, fact):
                        cell = _cell(config, model, task, fact, budget, seed)
                        if _wanted(_values(cell), config):
                            found.setdefault(cell.id, cell)
                            barred[cell.id] = _barred(model, fact, budget) if model.engine == VLLM else ""
    if not found:
        raise ConfigError(NOTHING_LEFT)
    refuse((cell, barred[cell.id]) for cell in found.values())
    return list(found.values())


def _barred(model: ModelFact, fact: MethodFact, budget: BudgetEntry) -> str:
    return why_not_vllm(fact.inside, fact.reads_blocks, budget.ratio, model.engine)


def _values(cell: Cell) -> dict[str, Any]:
    return {"model": cell.model, "method": cell.method, "task": cell.benchmark, "budget": cell.retention_ratio}


def _budgets(config: SweepConfig, entry: MethodEntry, fact: MethodFact) -> Iterable[BudgetEntry]:
    if fact.name == FULL:
        return (BudgetEntry(ratio=1.0),)
    budgets = entry.budgets or config.budgets
    if fact.budgeted:
        return budgets
    # The count is the method's own at every ratio below 1; the first that was asked names the one cell.
    return [next((budget for budget in budgets if budget.ratio != 1.0), budgets[0])]


def _seeds(config: SweepConfig, entry: MethodEntry, fact: MethodFact) -> Iterable[int]:
    if not fact.seeded or "seed" in entry.params:
        return (int(entry.params.get("seed", 0)),)
    return entry.seeds or range(config.seed, config.seed + config.random_seeds)


def _cell(
    config: SweepConfig, model: ModelFact, task: TaskFact, fact: MethodFact, budget: BudgetEntry, seed: int
) -> Cell:
    params = dict(fact.params)
    if fact.seeded:
        params["seed"] = seed
    ratio = budget.ratio if budget.ratio is not None else min(1.0, (budget.tokens or 0) / model.max_tokens)
    on_vllm = model.engine != OURS and not _barred(model, fact, budget)
    spec = {
        "model": {
            "name": model.name,
            "family": model.family,
            "revision": model.revision,
            "dtype": model.dtype,
            "options": dict(model.options),
            **({"clip": model.clip} if fact.reads_clip and model.clip else {}),
            **({"engine": {"name": VLLM, "version": model.engine_version}} if on_vllm else {}),
        },
        "method": {"name": fact.name, "variant": fact.variant, "params": params, "code": fact.code_version},
        "budget": {"ratio": budget.ratio, "tokens": budget.tokens, "base": config.budget_base},
        "newline_policy": config.newline_policy,
        "benchmark": {"name": task.name, "flavour": task.flavour, "data": task.fingerprint}
        | ({"code": task.code} if task.code else {}),
        "generation": {
            "max_new_tokens": config.max_new_tokens or task.max_new_tokens,
            "prompt": task.prompts.get(model.family, ""),
            "decoding": "greedy",
        },
    }
    return Cell(
        id=digest(spec),
        model=model.name,
        method=fact.name,
        variant=fact.variant,
        params=params,
        retention_ratio=ratio,
        benchmark=task.name,
        flavour=task.flavour,
        tokens=budget.tokens,
        seed=seed,
        spec=spec,
        straw_man=fact.straw_man,
        own_count=fact.name != FULL and not fact.budgeted,
    )


def check_rules(config: SweepConfig, tasks: Sequence[str]) -> None:
    """Refuse what `cells` would refuse, as far as names and ratios alone tell: no model or data is looked at.

    Raises:
        ConfigError: an unknown key in include or exclude, or they leave nothing.
    """
    left = False
    for model, task, entry in product(config.models, tasks, config.all_methods):
        budgets = (BudgetEntry(ratio=1.0),) if entry.name == FULL else entry.budgets or config.budgets
        for budget in budgets:
            values = {"model": model, "method": entry.name, "task": task, "budget": budget.ratio}
            left |= budget.ratio is None or _wanted(values, config)  # a count is a share of what the model has
    if not left:
        raise ConfigError(NOTHING_LEFT)


def _wanted(values: Mapping[str, Any], config: SweepConfig) -> bool:
    def matches(rule: Mapping[str, Any]) -> bool:
        unknown = rule.keys() - values.keys()
        if unknown:
            raise ConfigError(f"include/exclude key {sorted(unknown)[0]!r} is unknown; use {', '.join(values)}")
        return all(values[key] in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in rule.items())

    if config.include and not any(matches(rule) for rule in config.include):
        return False
    return not any(matches(rule) for rule in config.exclude)


def units(samples: Iterable[Sample]) -> list[Unit]:
    """Group samples by picture, across benchmarks; units with most questions first, then by id.

    Longest first keeps the last worker from starting a long unit when the others are done.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image_key, []).append(sample)
    made = [
        Unit(id=digest([key, sorted({sample.benchmark for sample in group})]), image_key=key, samples=tuple(group))
        for key, group in groups.items()
    ]
    return sorted(made, key=lambda unit: (-len(unit.samples), unit.id))


def split_unit(unit: Unit, max_samples: int) -> list[Unit]:
    """Cut a picture with very many questions into units of at most `max_samples`, in question order."""
    if len(unit.samples) <= max_samples:
        return [unit]
    parts = range(0, len(unit.samples), max_samples)
    return [
        replace(unit, id=f"{unit.id}-{number}", samples=unit.samples[start : start + max_samples])
        for number, start in enumerate(parts)
    ]


def sweep_hash(config: SweepConfig, planned: Sequence[Cell], sample_sets: Mapping[str, str]) -> str:
    """What makes two executions the same sweep: cells, samples and the profile settings; never where it runs."""
    profile = config.profile.model_dump() if config.profile.enabled else None
    return digest(
        {
            "cells": sorted(cell.id for cell in planned),
            "samples": dict(sample_sets),
            "profile": profile,
            "race": config.margin if config.until == "decided" else None,
        }
    )


SPEC_NAMES = {
    ("model", "revision"): "weights of {model}",
    ("model", "dtype"): "dtype of {model}",
    ("model", "options"): "options of {model}",
    ("model", "engine"): "engine of {model}",
    ("method", "code"): "code version of {method}",
    ("method", "params"): "parameters of {method}",
    ("benchmark", "data"): "dataset {benchmark}",
    ("benchmark", "code"): "the code of {benchmark}",
    ("generation", "prompt"): "prompts of {benchmark}",
    ("generation", "max_new_tokens"): "answer length of {benchmark}",
}
"""Where a cell's content (`Cell.spec`) says what, in words."""


def spec_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(what, before, after) for everything named in `SPEC_NAMES` that differs between the contents of two cells."""
    names = {part: dict(after.get(part) or {}).get("name", "?") for part in ("model", "method", "benchmark")}
    for (part, key), text in SPEC_NAMES.items():
        old, new = (dict(side.get(part) or {}).get(key) for side in (before, after))
        if old != new:
            if key == "code" and isinstance(new, str):  # another package's, whose source is hashed
                text = f"the code of {{{part}}}"
            yield text.format(**names), str(old), str(new)
