"""Read nights from the results database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.nightly.records import SPEEDS, CellNight, Night, Speed
from hero_ray.results.names import Name, name_all, seeds_told
from hero_ray.store import Store, figures, nights
from hero_ray.store.records import CellRow, RunRow
from hero_ray.store.score_arrays import Asked


def load(store: Store, run: RunRow, among: str | None = None) -> Night:
    """One run as the comparison takes it.

    Args:
        among: the run whose cells are named alike: a repetition holds few of them, too few to tell siblings apart.
    """
    cells = store.cells(run.id)
    siblings = store.cells(among) if among else cells
    names = {cell.id: name for cell, name in zip(siblings, name_all(siblings), strict=True)}
    named = labels(siblings)
    scales = {
        cell_id: next((row.scale for row in rows if row.is_main and not row.category), 1.0)
        for cell_id, rows in store.metrics(run.id).items()
    }
    counts = store.counts(run.id)
    found, asked = {}, Asked()
    for cell in cells:
        ids, clusters, scores = store.scores(run.id, cell.id, asked)
        label, count = named[cell.id], counts[cell.id]
        found[label] = CellNight(
            label, cell.id, ids, clusters, scores, count.expected, count.failed, cell.spec, scales.get(cell.id, 1.0)
        )
    return Night(run.id, found, _speeds(store, run.id, cells, names), run.git_commit, run.environment, run.config)


def good_nights(store: Store, sweep_name: str, before: str, window: int) -> list[Night]:
    """The last good nights of a panel before a run, newest first."""
    return [load(store, run) for run in store.read(nights.good_nights, sweep_name, before, window)]


def labels(cells: Sequence[CellRow]) -> dict[str, str]:
    """Cell id -> a name that a cell keeps when weights, data or code change."""
    names = name_all(cells)
    return {
        cell.id: f"{cell.model} {name.key} {cell.benchmark}" + (f":{cell.flavour}" if cell.flavour else "") + seed
        for cell, name, seed in zip(cells, names, seeds_told(cells, names), strict=True)
    }


def _speeds(store: Store, run_id: str, cells: Sequence[CellRow], names: Mapping[str, Name]) -> dict[str, Speed]:
    profiles = store.read(figures.profiles_of, [run_id])
    groups: dict[str, list[CellRow]] = {}
    for cell in cells:
        if (run_id, cell.id) in profiles:
            # Cells of one name were timed together: neither benchmark nor seed changes the speed.
            groups.setdefault(f"{cell.model} {names[cell.id].key}", []).append(cell)
    return {label: _speed(label, group, profiles[run_id, group[0].id]) for label, group in groups.items()}


def _speed(label: str, cells: Sequence[CellRow], profile: dict[str, Any]) -> Speed:
    figures = {name: float(profile[name]) for name in SPEEDS if profile.get(name)}
    identity = f"{profile['certificate_hash']}/{profile['batch_size']}/{profile['new_tokens']}"
    return Speed(label, tuple(cell.id for cell in cells), identity, figures, dict(profile.get("certificate") or {}))
