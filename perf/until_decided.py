"""How many of a sweep's stored answers would have decided its cells? Replayed in random orders, against the verdict of
`advise` on all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hero_ray import stats
from hero_ray.stats.evidence import p_at_most, weigh
from hero_ray.store import open_store

Array = NDArray[np.float64]


def pictures_of(url: str) -> list[Array]:
    """Per cell and benchmark, sum of differences to `full` and questions of every picture: [pictures, 2] each."""
    store = open_store(url, read_only=True)
    run = next(run for run in store.runs() if run.status == "complete")
    cells = store.cells(run.id)
    scores = {
        cell.id: {row.sample_id: (row.image_key, row.score) for row in store.cell_scores(run.id, cell.id)}
        for cell in cells
    }
    found = []
    for full in (cell for cell in cells if cell.method == "full"):
        for cell in cells:
            if (cell.benchmark, cell.model) != (full.benchmark, full.model) or cell.method == "full":
                continue
            table: dict[str, list[float]] = {}
            for sample, (picture, score) in scores[cell.id].items():
                row = table.setdefault(picture, [0.0, 0.0])
                row[0] += score - scores[full.id][sample][1]
                row[1] += 1
            found.append(np.array([table[picture] for picture in sorted(table)]))
    return found


def speed(url: str) -> list[dict[str, Any]]:
    """Answers needed in percent of all, and how the two decisions agree."""
    tables = pictures_of(url)
    return [
        _speed(tables, pictures, 0.03, family, repeats)
        for pictures, family, repeats in ((None, 1, 20), (None, 27, 20), (500, 1, 6), (500, 27, 6))
    ]


def _speed(tables: list[Array], pictures: int | None, margin: float, family: int, repeats: int) -> dict[str, Any]:
    rng = np.random.default_rng(20261130)
    limit, asked, needed = math.log(family / 0.05), 0.0, 0.0
    same = lost = against = decided = 0
    for table in tables:
        for _ in range(repeats):
            drawn = rng.integers(0, len(table), pictures) if pictures else rng.permutation(len(table))
            sums, sizes = table[drawn].T
            both = [stats.log_wealth(sums, sizes, margin, table[:, 1].max(), above) > limit for above in (True, False)]
            hit = both[0] | both[1]
            stop = int(hit.argmax()) if hit.any() else len(drawn) - 1
            asked, needed = asked + float(sizes.sum()), needed + float(sizes[: stop + 1].sum())
            found = weigh(sums, sizes).plus(margin)
            fixed = [bool(p_at_most(side) < 0.05 / family) for side in (found, found.mirrored)]
            early = [bool(side[stop]) for side in both]
            decided += any(fixed)
            same += fixed == early
            lost += any(fixed) and not any(early)
            against += fixed == early[::-1] and any(early)
    total = len(tables) * repeats
    return {
        "pictures": pictures or "all",
        "margin": 100 * margin,
        "cells": family,
        "answers_percent": round(100 * needed / asked, 1),
        "decisions": total,
        "same_percent": round(100 * same / total, 1),
        "contradictions": against,
        "decided_became_unproven_percent": round(100 * lost / max(1, decided), 1),
    }
