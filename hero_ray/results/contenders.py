"""Naming cells of a run, and reading their scores once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hero_ray import stats
from hero_ray.core.config import BudgetEntry, MethodEntry, parse_budget, parse_method
from hero_ray.core.errors import ClaimError, InputError, NotComparableError, UnknownNameError
from hero_ray.store import CellRow, MetricRow, Store

FULL = "full"


@dataclass(frozen=True)
class Contender:
    """A method with its parameters at a budget, as a user names it; no budget fits `full` only or a single one."""

    text: str
    method: MethodEntry
    budget: BudgetEntry | None

    def fits(self, cell: CellRow) -> bool:
        wanted = dict(self.method.params)
        seed = wanted.pop("seed", None)
        return (
            cell.method == self.method.name
            and (self.method.variant is None or cell.variant == self.method.variant)
            and all(parameter(cell, key) == value for key, value in wanted.items())
            and (seed is None or cell.seed == seed)
            and (self.budget is None or fits_budget(cell, self.budget))
        )


def fits_budget(cell: CellRow, budget: BudgetEntry) -> bool:
    """Whether a cell stands at a budget; a share fits only cells that were asked for by share."""
    if budget.tokens is not None:
        return cell.tokens == budget.tokens
    return cell.tokens is None and budget.ratio is not None and abs(cell.retention_ratio - budget.ratio) < 1e-9


def parse_contender(text: str) -> Contender:
    """Read `hero@20%`, `full`, `fastv:layer=2@50%`.

    Raises:
        ClaimError: nothing before the @. BudgetError: not a budget behind it.
    """
    method, at, budget = text.strip().partition("@")
    if not method or (at and not budget):
        raise ClaimError(f"{text!r} is no contender; write METHOD@BUDGET, for example hero@20%, or full")
    return Contender(text.strip(), parse_method(method), parse_budget(budget) if at else None)


def parameter(cell: CellRow, key: str) -> Any:
    """A parameter of a cell; one that its record leaves out stood at its default."""
    if key in cell.params:
        return cell.params[key]
    from hero_ray.methods import get, names

    return getattr(get(cell.method), key, None) if cell.method in names() else None


def budget_label(cell: CellRow) -> str:
    return BudgetEntry(ratio=None if cell.tokens else cell.retention_ratio, tokens=cell.tokens).label


@dataclass(frozen=True)
class Scores:
    """A contender's scores on one benchmark, sample by sample."""

    ids: np.ndarray
    images: np.ndarray
    values: np.ndarray


class Results:
    """The cells of one run, of one model, with their scores read once.

    Raises:
        InputError: the run holds several models and none was named.
        UnknownNameError: the model is not in the run.
    """

    def __init__(self, store: Store, run_id: str, model: str | None = None) -> None:
        self.store, self.run = store, store.run(run_id)
        cells = store.cells(self.run.id)
        models = list(dict.fromkeys(cell.model for cell in cells))
        if model is None and len(models) > 1:
            raise InputError(f"run {self.run.id} holds the models {', '.join(models)}; name one with --model")
        if not models:
            raise InputError(f"run {self.run.id} has no cells")
        if model is not None and model not in models:
            raise UnknownNameError("model of this run", model, models)
        self.model = model or models[0]
        self.cells = [cell for cell in cells if cell.model == self.model]
        self._scores: dict[tuple[str, ...], Scores] = {}

    @cached_property
    def benchmarks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.benchmark for cell in self.cells))

    @cached_property
    def metrics(self) -> dict[str, MetricRow]:
        """Cell id -> main metric over the whole benchmark."""
        rows = self.store.metrics(self.run.id)
        return {cell: row for cell, found in rows.items() for row in found if row.is_main and not row.category}

    def only(self, names: Iterable[str] | None) -> tuple[str, ...]:
        """Benchmarks asked for, or all.

        Raises:
            UnknownNameError: one that this run does not hold.
        """
        chosen = tuple(names or self.benchmarks)
        for name in chosen:
            if name not in self.benchmarks:
                raise UnknownNameError("benchmark of this run", name, self.benchmarks)
        return chosen

    @cached_property
    def labels(self) -> dict[str, str]:
        """Cell id -> `hero@20%`; variants and parameters appear where the run holds several of them."""
        seen: dict[str, dict[str, set[str]]] = {}
        for cell in self.cells:
            seen.setdefault(cell.method, {"variant": set()}).update({key: set() for key in cell.params})
        for cell in self.cells:
            for key, values in seen[cell.method].items():
                values.add(repr(cell.variant if key == "variant" else cell.params.get(key)))
        varied = {
            method: sorted(key for key, found in values.items() if len(found) > 1 and key != "seed")
            for method, values in seen.items()
        }
        return {cell.id: _label(cell, varied[cell.method]) for cell in self.cells}

    @cached_property
    def groups(self) -> dict[str, dict[str, list[CellRow]]]:
        """Label -> benchmark -> its cells (several seeds)."""
        found: dict[str, dict[str, list[CellRow]]] = {}
        for cell in self.cells:
            found.setdefault(self.labels[cell.id], {}).setdefault(cell.benchmark, []).append(cell)
        return found

    def find(self, contender: Contender, benchmark: str) -> list[CellRow]:
        """The cells a contender means on a benchmark; several only if they differ in nothing but the seed.

        Raises:
            UnknownNameError: no such cell in this run. ClaimError: the name fits different cells.
        """
        found = [cell for cell in self.cells if cell.benchmark == benchmark and contender.fits(cell)]
        if not found:
            raise UnknownNameError("cell of this run", contender.text, set(self.labels.values()))
        names = sorted({self.labels[cell.id] for cell in found})
        if len(names) > 1:
            raise ClaimError(f"{contender.text!r} fits {', '.join(names)}; name one of them")
        return found

    def scores(self, cells: Sequence[CellRow]) -> Scores:
        """Scores of one contender on one benchmark: the mean over its seeds on the samples all of them answered."""
        key = tuple(cell.id for cell in cells)
        if key not in self._scores:
            self._scores[key] = self._load(cells)
        return self._scores[key]

    def _load(self, cells: Sequence[CellRow]) -> Scores:
        parts = [Scores(*self.store.scores(self.run.id, cell.id)) for cell in cells]
        first = parts[0]
        for other in parts[1:]:
            mine, theirs = positions(first, other)
            first = Scores(first.ids[mine], first.images[mine], first.values[mine] + other.values[theirs])
        return Scores(first.ids, first.images, first.values / len(parts))


def _label(cell: CellRow, keys: Sequence[str]) -> str:
    shown = [f"{key}={cell.variant if key == 'variant' else parameter(cell, key)}" for key in keys]
    name = cell.method + (":" + ",".join(shown) if shown else "")
    return name if cell.method == FULL else f"{name}@{budget_label(cell)}"


def positions(a: Scores, b: Scores) -> tuple[Any, Any]:
    """Where the samples that A and B share lie in each; cheap when both hold the same ones."""
    if a.ids.shape == b.ids.shape and bool((a.ids == b.ids).all()):
        return slice(None), slice(None)
    return stats.shared(a.ids, b.ids)


def aligned(a: Scores, b: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of A and of B on their shared samples, and the pictures of these.

    Raises:
        NotComparableError: they share none.
    """
    mine, theirs = positions(a, b)
    first, second, images = a.values[mine], b.values[theirs], a.images[mine]
    if not first.size:
        raise NotComparableError("the two cells share no answered sample; compare cells over the same data")
    return first, second, images
