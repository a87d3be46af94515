"""Read nights from the results database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hero_ray.core.plan import digest
from hero_ray.nightly.records import SPEEDS, CellNight, Night, Speed
from hero_ray.store import Store, nights, queries
from hero_ray.store.records import CellRow, RunRow


def load(store: Store, run: RunRow) -> Night:
    """One run as the comparison takes it."""
    cells = store.cells(run.id)
    labels = _unique({cell.id: cell_label(cell) for cell in cells}, cells)
    scales = {
        cell_id: next((row.scale for row in rows if row.is_main and not row.category), 1.0)
        for cell_id, rows in store.metrics(run.id).items()
    }
    counts = store.counts(run.id)
    found = {}
    for cell in cells:
        ids, clusters, scores = store.scores(run.id, cell.id)
        label, count = labels[cell.id], counts[cell.id]
        found[label] = CellNight(
            label, cell.id, ids, clusters, scores, count.expected, count.failed, cell.spec, scales.get(cell.id, 1.0)
        )
    return Night(run.id, found, _speeds(store, run.id, cells), run.git_commit, run.environment, run.config)


def good_nights(store: Store, sweep_name: str, before: str, window: int) -> list[Night]:
    """The last good nights of a panel before a run, newest first."""
    with store.reading() as connection:
        runs = nights.good_nights(connection, sweep_name, before, window)
    return [load(store, run) for run in runs]


def cell_label(cell: CellRow) -> str:
    """A name that a cell keeps when weights, data or code change."""
    flavour = f":{cell.flavour}" if cell.flavour else ""
    seed = f" seed {cell.seed}" if cell.seed else ""
    return f"{speed_label(cell)} {cell.benchmark}{flavour}{seed}"


def speed_label(cell: CellRow) -> str:
    """Cells with equal labels were timed together: neither benchmark nor seed changes the speed."""
    variant = "" if cell.variant in ("", "exact") else f":{cell.variant}"
    budget = f"{cell.tokens}tok" if cell.tokens else f"{100 * cell.retention_ratio:g}%"
    return f"{cell.model} {cell.method}{variant} {budget}"


def _unique(labels: dict[str, str], cells: Sequence[CellRow]) -> dict[str, str]:
    """Labels as they are, or with a hash of the parameters where several cells share one."""
    often = Counter(labels.values())
    return {
        cell.id: labels[cell.id] if often[labels[cell.id]] == 1 else f"{labels[cell.id]} {_parameters(cell)}"
        for cell in cells
    }


def _parameters(cell: CellRow) -> str:
    return digest({key: value for key, value in cell.params.items() if key != "seed"}, 6)


def _speeds(store: Store, run_id: str, cells: Sequence[CellRow]) -> dict[str, Speed]:
    with store.reading() as connection:
        profiles: dict[tuple[str, str], dict[str, Any]] = queries.profiles_of(connection, [run_id])
    variants: dict[str, set[str]] = {}
    for cell in cells:
        variants.setdefault(speed_label(cell), set()).add(_parameters(cell))
    groups: dict[str, list[CellRow]] = {}
    for cell in cells:
        if (run_id, cell.id) in profiles:
            label = speed_label(cell)
            several = len(variants[label]) > 1
            groups.setdefault(f"{label} {_parameters(cell)}" if several else label, []).append(cell)
    return {label: _speed(label, group, profiles[run_id, group[0].id]) for label, group in groups.items()}


def _speed(label: str, cells: Sequence[CellRow], profile: dict[str, Any]) -> Speed:
    figures = {name: float(profile[name]) for name in SPEEDS if profile.get(name)}
    identity = f"{profile['certificate_hash']}/{profile['batch_size']}/{profile['new_tokens']}"
    return Speed(label, tuple(cell.id for cell in cells), identity, figures, dict(profile.get("certificate") or {}))
