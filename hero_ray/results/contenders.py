"""Naming cells of a run, and reading their scores once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np

from hero_ray import stats
from hero_ray.core.budgets import BudgetEntry, parse_budget
from hero_ray.core.config import MethodEntry, parse_method
from hero_ray.core.errors import ClaimError, InputError, NotComparableError, PluginError, UnknownNameError
from hero_ray.results.axes import Axis
from hero_ray.results.marks import Mark, marks
from hero_ray.results.names import budget_of, name_all, settings
from hero_ray.store import CellRow, Store, answers
from hero_ray.store.score_arrays import Asked

T = TypeVar("T")
FILE = "file:"


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
            and all(cell.params.get(key) == value for key, value in wanted.items())
            and (seed is None or cell.seed == seed)
            and (self.budget is None or cell.own_count or budget_of(cell) == self.budget.label)
        )


def parse_contender(text: str) -> Contender:
    """Read `hero@20%`, `full`, `fastv:layer=2@50%`.

    Raises:
        ClaimError: nothing before the @. BudgetError: not a budget behind it.
    """
    method, at, budget = text.strip().partition("@")
    if not method or (at and not budget):
        raise ClaimError(f"{text!r} is no contender; write METHOD@BUDGET, for example hero@20%, or full")
    if "," in budget:
        raise ClaimError(
            f"{text!r} names {budget.count(',') + 1} contenders and one is compared at a time; write METHOD@BUDGET, "
            "for example hero@20%. `frontier` and `report` show all of a run beside each other"
        )
    return Contender(text.strip(), parse_method(method), parse_budget(budget) if at else None)


@dataclass(frozen=True)
class Scores:
    """A contender's scores on one benchmark, sample by sample."""

    ids: np.ndarray
    images: np.ndarray
    values: np.ndarray


class Results:
    """The cells of one model in one run, or in several laid over each other, with their scores read once.

    Args:
        run: a run id, "latest", or several ids: of a cell in two of them the one named first counts.

    Raises:
        InputError: the run holds several models and none was named, or no cell.
        UnknownNameError: the model is not in the run.
    """

    def __init__(self, store: Store, run: str | Sequence[str], model: str | None = None) -> None:
        self.store = store
        self.runs = [store.run(one) for one in ([run] if isinstance(run, str) else run)]
        self.run = self.runs[0]
        cells = [cell for each in self.runs for cell in store.cells(each.id)]
        models = list(dict.fromkeys(cell.model for cell in cells))
        if model is None and len(models) > 1:
            raise InputError(f"run {self.run.id} holds the models {', '.join(models)}; name one with --model")
        if not models:
            raise InputError(f"run {self.run.id} has no cells")
        if model is not None and model not in models:
            raise UnknownNameError("model of this run", model, models)
        self.model = model or models[0]
        figures = {each.id: store.metrics(each.id) for each in self.runs}
        self.cells = _laid_over([cell for cell in cells if cell.model == self.model], figures)
        self.metrics = {
            cell.id: row
            for cell in self.cells
            for row in figures[cell.run_id].get(cell.id, ())
            if row.is_main and not row.category
        }
        """Cell id -> main metric over the whole benchmark."""
        self.names = {cell.id: name for cell, name in zip(self.cells, name_all(self.cells), strict=True)}
        self._memo: dict[Any, Any] = {}

    @cached_property
    def benchmarks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.benchmark for cell in self.cells))

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gives, worked out once per `key`."""
        if key not in self._memo:
            self._memo[key] = make()
        found: T = self._memo[key]
        return found

    def marks(
        self,
        benchmarks: Iterable[str] | None = None,
        metric: str | None = None,
        categories: bool = False,
        batch_size: int | None = None,
    ) -> list[Mark]:
        """Every contender on every benchmark asked for (or on every category of it), with seeds merged."""
        chosen = self.only(benchmarks)

        def make() -> list[Mark]:
            held = {(cell.run_id, cell.id) for cell in self.cells}
            rows = self.store.points([run.id for run in self.runs], metric, chosen, categories, batch_size)
            return marks([row for row in rows if (row.run_id, row.cell_id) in held], self.names)

        return self.once(("marks", chosen, metric, categories, batch_size), make)

    def unit(self, axis: Axis) -> tuple[float, str]:
        """(factor, name) of the unit that every page shows this cost of this model in, whatever it filters.

        What comes before the LLM is part of the computation and is told in its unit.
        """
        whole = "flops" if axis.name == "encode_flops" else axis.name
        return axis.unit(mark.costs[whole] for mark in self.marks())

    def only(self, names: Iterable[str] | None) -> tuple[str, ...]:
        """Benchmarks asked for, or all, by the names that cells carry; each may be named in any way of `held`.

        Raises:
            UnknownNameError: one that this run does not hold.
            InputError: a name that fits several.
        """
        return tuple(self.held(name) for name in names) if names else self.benchmarks

    def held(self, name: str) -> str:
        """The benchmark of this run that a name means: its own, an alias, or of a file its path, name or stem.

        Raises:
            UnknownNameError: none. InputError: several files.
        """
        if name in self.benchmarks:
            return name
        paths = {each: PurePath(each.removeprefix(FILE)) for each in self.benchmarks if each.startswith(FILE)}
        fitting = [each for each, path in paths.items() if name in (str(path), path.name, path.stem)]
        if len(fitting) > 1:
            raise InputError(f"{name!r} fits {', '.join(fitting)} of this run; name one of them")
        if not fitting and (primary := _alias_of(name)) in self.benchmarks:
            return primary
        if not fitting:
            raise UnknownNameError("benchmark of this run", name, self.benchmarks)
        return fitting[0]

    @cached_property
    def labels(self) -> dict[str, str]:
        """Cell id -> `hero@20%`, the key of its name."""
        return {cell: name.key for cell, name in self.names.items()}

    @cached_property
    def groups(self) -> dict[str, dict[str, list[CellRow]]]:
        """Label -> benchmark -> its cells (several seeds)."""
        found: dict[str, dict[str, list[CellRow]]] = {}
        for cell in self.cells:
            found.setdefault(self.labels[cell.id], {}).setdefault(cell.benchmark, []).append(cell)
        return found

    def first(self, label: str) -> CellRow:
        """Any cell of a label: what they share can be read off it."""
        return next(iter(self.groups[label].values()))[0]

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

    def fullest(self, benchmark: str) -> CellRow:
        """The cell of a benchmark with most answers: it tells what was asked."""
        return max((cell for cell in self.cells if cell.benchmark == benchmark), key=lambda cell: cell.n_done)

    def has(self, contender: Contender, benchmark: str) -> bool:
        """Whether a benchmark has cells that a contender means."""
        return any(cell.benchmark == benchmark and contender.fits(cell) for cell in self.cells)

    def scores(self, cells: Sequence[CellRow]) -> Scores:
        """Scores of one contender on one benchmark: the mean over its seeds on the samples all of them answered."""
        return self.once(("scores", *(cell.id for cell in cells)), lambda: self._load(cells))

    def most_questions(self, benchmark: str) -> int:
        """Most questions about one picture that a benchmark can ask."""
        return self.once(("most", benchmark), lambda: self.store.read(answers.most_questions, benchmark))

    def _load(self, cells: Sequence[CellRow]) -> Scores:
        first, *others = parts = [self._read(cell) for cell in cells]
        for other in others:
            mine, theirs = positions(first, other)
            first = Scores(first.ids[mine], first.images[mine], first.values[mine] + other.values[theirs])
        return Scores(first.ids, first.images, first.values / len(parts))

    def _read(self, cell: CellRow) -> Scores:
        """Scores of one cell; cells of a benchmark that answered the same samples share the arrays of their names."""
        ids, images, values = self.store.scores(cell.run_id, cell.id, self.once("asked", Asked))
        known = self.once(("ids", cell.benchmark), lambda: (ids, images))
        known[1].flags.writeable = False  # so that its pictures are numbered once
        same = known[0].shape == ids.shape and bool((known[0] == ids).all())
        return Scores(*known, values) if same else Scores(ids, images, values)


def _alias_of(name: str) -> str:
    """The benchmark behind an alias, "" for none."""
    from hero_ray.benchmarks import resolve

    try:
        return resolve(name)
    except (UnknownNameError, PluginError):
        return ""


def every_model(store: Store, runs: str | Sequence[str]) -> list[Results]:
    """Results of each model that some runs hold, in their planned order; empty for runs without cells."""
    named = [runs] if isinstance(runs, str) else list(runs)
    models = dict.fromkeys(cell.model for run in named for cell in store.cells(store.run(run).id))
    return [Results(store, named, model) for model in models]


def _laid_over(cells: Sequence[CellRow], figures: Mapping[str, Mapping[str, object]]) -> list[CellRow]:
    """Each cell once, also where its id changed with a code version: the first with figures, else the first."""
    chosen: dict[tuple[object, ...], CellRow] = {}
    for cell in sorted(cells, key=lambda cell: cell.id not in figures[cell.run_id]):
        chosen.setdefault((settings(cell), budget_of(cell), cell.seed, cell.benchmark), cell)
    kept = {id(cell) for cell in chosen.values()}
    return [cell for cell in cells if id(cell) in kept]


def positions(a: Scores, b: Scores) -> tuple[Any, Any]:
    """Where the samples that A and B share lie in each; cheap when both hold the same ones."""
    if a.ids is b.ids or (a.ids.shape == b.ids.shape and bool((a.ids == b.ids).all())):
        return slice(None), slice(None)
    return stats.shared(a.ids, b.ids)


def is_short(cells: Iterable[CellRow]) -> bool:
    """Whether answers that were asked for are not there; a cell stopped on purpose is not short."""
    return any(cell.status != "stopped" and cell.n_done < cell.n_expected for cell in cells)


def together(
    a: Scores, b: Scores, short: tuple[bool, bool], asked: Scores
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of A and of B with the pictures, NaN where a side that fell short has no answer.

    Args:
        short: whether A and B fell short. What a side was never asked is not missing: only shared samples count then.
        asked: of the cell that answered most; where both fell short, it knows samples that neither answered.

    Raises:
        NotComparableError: they share none.
    """
    if not any(short):
        return aligned(a, b)
    aligned(a, b)
    known = {name: image for one in (asked, b, a) for name, image in zip(one.ids, one.images, strict=True)}
    left, right = (dict(zip(one.ids, one.values, strict=True)) for one in (a, b))
    ids = [one for one in sorted(known) if (one in left or short[0]) and (one in right or short[1])]
    nan = float("nan")
    first, second = (np.array([side.get(one, nan) for one in ids]) for side in (left, right))
    return first, second, np.array([known[one] for one in ids], dtype=object)


def aligned(a: Scores, b: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of A and of B on their shared samples, and the pictures of these.

    Raises:
        NotComparableError: they share none.
    """
    mine, theirs = positions(a, b)
    first, second = a.values[mine], b.values[theirs]
    images = a.images if isinstance(mine, slice) else a.images[mine]  # itself, not a view: it may be numbered already
    if not first.size:
        raise NotComparableError("the two cells share no answered sample; compare cells over the same data")
    return first, second, images
