"""Cells that were decided early: the order in which pictures were looked at, and tests that bear looking early."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hero_ray import stats
from hero_ray.core.plan import digest
from hero_ray.core.types import Cell
from hero_ray.results.contenders import Results
from hero_ray.stats.clusters import cluster_codes, cluster_sums
from hero_ray.store import CellRow


def place(picture: str) -> str:
    """Sort key of a picture; has nothing to do with what is in it and is the same everywhere."""
    return digest(["until decided", picture])


def held_against(cells: Sequence[Cell | CellRow], baseline: str) -> list[int]:
    """The baseline's cell that each is compared with: of its own budget if there is one, else the first."""
    named = [number for number, cell in enumerate(cells) if cell.method == baseline]
    if not named:
        return list(range(len(cells)))  # nothing to be compared with
    alike = {cells[number].retention_ratio: number for number in reversed(named)}
    return [
        number if number in named else alike.get(cell.retention_ratio, named[0]) for number, cell in enumerate(cells)
    ]


def by_picture(values: np.ndarray, pictures: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of values and number of samples of each picture, in the order of `place`."""
    codes, count = cluster_codes(pictures, len(values))
    order = sorted(range(count), key=[place(picture) for picture in dict.fromkeys(pictures)].__getitem__)
    return cluster_sums(values, codes, count)[order], np.bincount(codes, minlength=count).astype(float)[order]


def one_sided(
    results: Results,
    cells: Iterable[CellRow],
    values: np.ndarray,
    pictures: np.ndarray,
    margin: float = 0.0,
    level: float = 0.90,
) -> stats.OneSided:
    """Is the mean of `values + margin` above 0? As `stats.one_sided`, or so that an early stop is no evidence.

    Args:
        cells: whose scores these are; where one of them was stopped early, the pictures that happened to be asked were
            not fixed in advance.
        values: differences of scores within [-1, 1].
    """
    benchmarks = {cell.benchmark for cell in cells if cell.stop_reason}
    if not benchmarks or not values.size:
        return stats.one_sided(values + margin, pictures, level)
    largest = max(results.most_questions(name) for name in benchmarks)
    return stats.one_sided_so_far(*by_picture(values, pictures.tolist()), largest, margin, level)


@dataclass(frozen=True)
class Growth:
    """How the evidence about one cell grew, picture by picture.

    Attributes:
        key, method, straw_man: of the cell's name; seeds are told apart.
        within, worse: natural logarithm of the e-values that it loses less, or more, than the margin; the n-th is after
            n + 1 pictures that both it and the baseline answered.
        limit: what an e-value must exceed.
        stop: pictures after which it was decided; None if it was not.
        reason: what was decided.
    """

    key: str
    method: str
    straw_man: bool
    within: np.ndarray
    worse: np.ndarray
    limit: float
    stop: int | None
    reason: str


def growth(results: Results, benchmark: str, margin: float, baseline: str, level: float = 0.05) -> list[Growth]:
    """The evidence of every cell of a benchmark against its baseline.

    Args:
        margin: in score units.
    """
    cells = [cell for cell in results.cells if cell.benchmark == benchmark]
    sums: dict[str, dict[str, tuple[float, int, int]]] = {}
    for run in results.runs:
        ids = [cell.id for cell in cells if cell.run_id == run.id]
        for name, picture, score, answered, failed in results.store.picture_sums(run.id, ids):
            sums.setdefault(name, {})[picture] = (score, answered, failed)
    largest, base = results.most_questions(benchmark), held_against(cells, baseline)
    family = sum(number != other for number, other in enumerate(base))
    labels = Counter(results.labels[cell.id] for cell in cells)
    found = []
    for cell, other in zip(cells, base, strict=True):
        against = cells[other]
        if against.id == cell.id or cell.id not in sums or against.id not in sums:
            continue
        worst, best, sizes = _differences(sums[cell.id], sums[against.id])
        found.append(
            Growth(
                key=results.labels[cell.id] + (f" seed {cell.seed}" if labels[results.labels[cell.id]] > 1 else ""),
                method=cell.method,
                straw_man=cell.straw_man,
                within=stats.log_wealth(worst, sizes, margin, largest),
                worse=stats.log_wealth(best, sizes, margin, largest, above=False),
                limit=math.log(family / level),
                stop=cell.stop_pictures,
                reason=cell.stop_reason or "",
            )
        )
    return found


def _differences(
    mine: Mapping[str, tuple[float, int, int]], base: Mapping[str, tuple[float, int, int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of differences with failures against and for the cell, and the questions of each picture, in order.

    Pictures that one side has not finished are left out.
    """
    pictures = sorted(mine.keys() & base.keys(), key=place)
    rows = [
        (mine[p][0] - base[p][0] - base[p][2], mine[p][0] + mine[p][2] - base[p][0], mine[p][1] + mine[p][2])
        for p in pictures
        if mine[p][1] + mine[p][2] == base[p][1] + base[p][2]
    ]
    worst, best, sizes = np.array(rows, dtype=float).reshape(-1, 3).T
    return worst, best, sizes
