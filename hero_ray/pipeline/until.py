"""Until decided: a cell gets no more answers once it is known what it is worth.

A cell stops when it is surely within the margin of the baseline, surely worse than that, or surely beaten by another of
its benchmark with the same or a smaller budget. All three are bets that hold whenever one looks
(`hero_ray.stats.anytime`), on pictures in an order that has nothing to do with what is in them. Decisions are a pure
function of the answers in that order: it does not matter when one looks, on how many replicas pictures came in, or how
often the sweep was interrupted. The error level is shared over the cells of a benchmark (baseline) and over the rivals
of a cell (beaten), as `advise` and the frontier share it.

Failed answers count against either claim: wrong for it where it says that the cell is good, right where it says bad.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.plan import Unit
from hero_ray.core.types import Cell
from hero_ray.pipeline.facts import Plan
from hero_ray.results.close import is_mean
from hero_ray.results.early import held_against, place
from hero_ray.results.names import budget_of
from hero_ray.stats import first_decision, log_wealth
from hero_ray.stats.evidence import Floats
from hero_ray.store import Store
from hero_ray.store.records import Stopped

LEVEL = 0.05
FIRST_LOOK = 8
GROWTH = 0.04
"""Between two looks the pictures grow by this share: looking costs time, and nothing else hangs on it."""


def in_order(units: Iterable[Unit]) -> list[Unit]:
    """Units by the place of their pictures, the same for every execution."""
    return sorted(units, key=lambda unit: (place(unit.image_key), unit.id))


@dataclass
class Table:
    """Answers of the cells of one benchmark, picture by picture in order.

    Attributes:
        base: for each cell the number of the one it is held against; its own for a baseline.
        sizes: questions of each picture: [T].
        worst, best: sum of scores of each picture with failed answers as wrong and as right, NaN where answers are
            missing: [cells, T].
    """

    cells: Sequence[Cell]
    base: Sequence[int]
    pictures: Mapping[str, int]
    sizes: Floats
    worst: Floats
    best: Floats

    @classmethod
    def empty(cls, cells: Sequence[Cell], baseline: str, questions: Mapping[str, int]) -> Table:
        """Args: questions: picture -> how many this benchmark asks about it."""
        pictures = sorted(questions, key=place)
        nothing = np.full((len(cells), len(pictures)), np.nan)
        sizes = np.array([float(questions[picture]) for picture in pictures])
        numbers = {picture: number for number, picture in enumerate(pictures)}
        return cls(cells, held_against(cells, baseline), numbers, sizes, nothing, nothing.copy())

    def put(self, cell: int, picture: str, score: float, answered: int, failed: int) -> None:
        """Take a picture's answers in, if they are all there."""
        at = self.pictures[picture]
        if answered + failed == self.sizes[at]:
            self.worst[cell, at], self.best[cell, at] = score, score + failed

    def ends(self, stops: Mapping[int, int]) -> list[int]:
        """How many pictures from the first on each cell has answered, its stop at most."""
        known = ~np.isnan(self.worst)
        ends = np.where(known.all(axis=1), known.shape[1], known.argmin(axis=1))
        return [min(int(end), stops.get(cell, int(end))) for cell, end in enumerate(ends)]


def decide(table: Table, margin: float, stops: Mapping[int, int]) -> dict[int, Stopped]:
    """Cell number -> its decision, for the cells decided by now; `stops` are decisions of before.

    Args:
        margin: in score units.
        stops: cell number -> pictures after which it was decided.
    """
    ends = table.ends(stops)
    others = sum(number != base for number, base in enumerate(table.base))
    events: list[tuple[int, int, int, int, Stopped]] = []
    for number, base in enumerate(table.base):
        if number == base or number in stops:
            continue
        events += _against_baseline(table, number, base, min(ends[number], ends[base]), margin, others)
        events += _against_rivals(table, number, ends)
    found: dict[int, Stopped] = {}
    until = dict(stops)
    for at, _, number, rival, stopped in sorted(events, key=lambda event: event[:4]):
        if number not in until and until.get(rival, at) >= at:
            until[number], found[number] = at, stopped
    for base in set(table.base):
        compared = [number for number, other in enumerate(table.base) if other == base and number != base]
        if compared and base not in until and all(number in until for number in compared):
            at = max(until[number] for number in compared)
            found[base] = Stopped("every cell compared with it is decided", at, 0.0)
    return found


def _against_baseline(
    table: Table, number: int, base: int, end: int, margin: float, family: int
) -> list[tuple[int, int, int, int, Stopped]]:
    """When a cell is surely within the margin, or surely not."""
    worst = table.worst[number, :end] - table.best[base, :end]
    best = table.best[number, :end] - table.worst[base, :end]
    found = first_decision(worst, table.sizes[:end], margin, table.sizes.max(), family, LEVEL, best)
    if found.verdict == "undecided":
        return []
    name, points, within = table.cells[base].method, f"{100 * margin:g} points", found.verdict == "within"
    reason = f"within {points} of {name}" if within else f"over {points} below {name}"
    log_e = found.log_within if within else found.log_worse
    return [(found.pictures, 0, number, base, Stopped(reason, found.pictures, log_e))]


def _against_rivals(table: Table, number: int, ends: Sequence[int]) -> list[tuple[int, int, int, int, Stopped]]:
    """When another cell is surely better at the same or a smaller budget."""
    cell, made = table.cells[number], []
    rivals = [
        other
        for other, rival in enumerate(table.cells)
        if table.base[other] != other and other != number and rival.retention_ratio <= cell.retention_ratio
    ]
    for other in rivals:
        end = min(ends[number], ends[other])
        wealth = log_wealth(
            table.worst[other, :end] - table.best[number, :end], table.sizes[:end], 0.0, table.sizes.max()
        )
        for at in _first(wealth, len(rivals)):
            rival = table.cells[other]
            reason = f"dominated by {rival.method} at {budget_of(rival)}"
            made.append((at, 1, number, other, Stopped(reason, at, float(wealth[at - 1]))))
    return made


def _first(wealth: Floats, family: int) -> list[int]:
    """Pictures after which the wealth shows it; nothing if it does not."""
    return [int(at) + 1 for at in np.flatnonzero(wealth > math.log(family / LEVEL))[:1]]


@dataclass
class Watch:
    """Looks at the answers of one model and stops the cells that are decided.

    Attributes:
        margin: in score units (0.01 is one point).
        say: told what is not decided early, and why.
    """

    store: Store
    run_id: str
    margin: float
    benchmarks: Mapping[str, Benchmark]
    tables: Mapping[str, Table]
    units_left: dict[str, int]
    say: Callable[[str], None]
    stops: dict[str, int] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    composite: set[str] = field(default_factory=set)
    finished: int = 0
    next_look: int = FIRST_LOOK

    @classmethod
    def over(cls, plan: Plan, store: Store, run_id: str, model: str, say: Callable[[str], None]) -> Watch:
        """The watch of one model, with everything in it that an earlier execution answered."""
        questions: dict[str, dict[str, int]] = {name: {} for name in plan.benchmarks}
        for sample in plan.samples:
            asked = questions[sample.benchmark]
            asked[sample.image_key] = asked.get(sample.image_key, 0) + 1
        cells: dict[str, list[Cell]] = {}
        for cell in plan.cells_of(model):
            cells.setdefault(cell.benchmark, []).append(cell)
        tables = {name: Table.empty(own, plan.config.baseline, questions[name]) for name, own in cells.items()}
        units_left: dict[str, int] = {}
        for unit in plan.units:
            units_left[unit.image_key] = units_left.get(unit.image_key, 0) + 1
        made = cls(store, run_id, plan.config.margin / 100, plan.benchmarks, tables, units_left, say)
        made.stops = {cell: stopped.pictures for cell, stopped in store.stopped(run_id).items()}
        made._read(None)
        made.look()
        return made

    @property
    def over_and_done(self) -> bool:
        """No cell of this model needs another answer."""
        return all(cell.id in self.stops for table in self.tables.values() for cell in table.cells)

    def arrived(self, picture: str) -> None:
        """Note a finished unit; look now and then."""
        self.units_left[picture] -= 1
        if self.units_left[picture] > 0:
            return
        self.fresh.append(picture)
        self.finished += 1
        if self.finished >= self.next_look:
            self._read(self.fresh)
            self.fresh = []
            self.next_look = self.finished + max(FIRST_LOOK, round(GROWTH * self.finished))
            self.look()

    def look(self) -> None:
        """Stop every cell that is decided by now."""
        for name, table in self.tables.items():
            stops = {n: self.stops[cell.id] for n, cell in enumerate(table.cells) if cell.id in self.stops}
            decided = decide(table, self.margin, stops)
            if decided and self._is_mean(name, table.cells[next(iter(decided))]):
                for number, stopped in decided.items():
                    cell = table.cells[number]
                    self.store.stop_cell(self.run_id, cell.id, stopped)
                    self.stops[cell.id] = stopped.pictures

    def _is_mean(self, name: str, cell: Cell) -> bool:
        """Whether a benchmark's figure is the mean of its scores, which is all that is bet on here."""
        if name in self.composite:
            return False
        if is_mean(self.benchmarks[name], self.store.cell_scores(self.run_id, cell.id)):
            return True
        self.composite.add(name)
        self.say(f"{name}: its figure is no mean of scores; all of its cells are answered to the end")
        return False

    def _read(self, pictures: Collection[str] | None) -> None:
        for table in self.tables.values():
            numbers = {cell.id: number for number, cell in enumerate(table.cells)}
            wanted = None if pictures is None else [one for one in pictures if one in table.pictures]
            for cell, picture, score, answered, failed in self.store.picture_sums(self.run_id, list(numbers), wanted):
                if picture in table.pictures:
                    table.put(numbers[cell], picture, score, answered, failed)
