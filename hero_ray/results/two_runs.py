"""Two runs side by side: what was asked for differently, and which cells they share, with their scores and flips."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hero_ray.results.names import budget_of, name_all, seeds_told, settings
from hero_ray.store import CellRow, MetricRow, RunRow, Store, flips
from hero_ray.store.answers import CellRef
from hero_ray.store.flips import FlipCounts

SAME, CHANGED, ONLY_A, ONLY_B = "same cell", "changed", "only in A", "only in B"
ABSENT = "-"


@dataclass(frozen=True)
class Difference:
    """An entry that two runs, or two cells, hold differently; `ABSENT` where one has none."""

    key: str
    a: str
    b: str


@dataclass(frozen=True)
class CellPair:
    """A cell as two runs hold it.

    Attributes:
        label: method with its parameters, budget and seed.
        state: `SAME` (one id: equal content), `CHANGED` (one label, another id), `ONLY_A` or `ONLY_B`.
        changed: of a changed cell, what differs in its content.
        score_a, score_b: main figure in points of 100; None without.
        counts: on how many questions B scores higher or lower; None where one side has no answers.
    """

    model: str
    benchmark: str
    label: str
    state: str
    changed: tuple[Difference, ...]
    a: CellRow | None
    b: CellRow | None
    score_a: float | None
    score_b: float | None
    counts: FlipCounts | None

    @property
    def points(self) -> float | None:
        """What B scores more than A."""
        return None if self.score_a is None or self.score_b is None else self.score_b - self.score_a


def asked(a: RunRow, b: RunRow) -> list[Difference]:
    """Entries of two runs' configurations that differ."""
    return differences(a.config, b.config)


def measured_on(a: RunRow, b: RunRow) -> list[Difference]:
    """What differs in code, packages and machine."""
    return differences(_surroundings(a), _surroundings(b))


def _surroundings(run: RunRow) -> dict[str, Any]:
    kept = {key: value for key, value in run.environment.items() if key not in ("prompts", "invariance")}
    return {"commit": run.git_commit or ABSENT, "trigger": run.trigger, **kept}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Entries that differ, nested ones by their path (`profile.images`); of a list, what only one side holds."""
    left, right = dict(_flat(a)), dict(_flat(b))
    found = []
    for key in [*left, *(key for key in right if key not in left)]:
        if key not in left or key not in right:
            found.append(Difference(key, _said(left.get(key, ABSENT)), _said(right.get(key, ABSENT))))
        elif left[key] != right[key]:
            found.append(Difference(key, *_apart(left[key], right[key])))
    return found


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield path + str(key), value


def _apart(a: Any, b: Any) -> tuple[str, str]:
    """Both values in words; of two lists the members that the other one lacks, unless only their order differs."""
    if not (isinstance(a, list) and isinstance(b, list)):
        return _said(a), _said(b)
    mine, theirs = [one for one in a if one not in b], [one for one in b if one not in a]
    if not mine and not theirs:
        return _said(a), _said(b)
    return _listed(mine), _listed(theirs)


def _listed(members: Sequence[Any]) -> str:
    return ", ".join(_said(_sparse(one)) for one in members) or ABSENT


def _sparse(value: Any) -> Any:
    """A method, budget or task of a sweep file without its empty entries, and bare where nothing but a name is left."""
    if not isinstance(value, Mapping):
        return value
    kept = {key: one for key, one in value.items() if one not in (None, {}, [])}
    return next(iter(kept.values())) if len(kept) == 1 else kept


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def cells(store: Store, a: RunRow, b: RunRow) -> list[CellPair]:
    """Every cell of either run, paired by id or, where that differs, by label; in the order of A, then of B.

    Raises:
        StoreError: the database cannot be read.
    """
    left, right = store.cells(a.id), store.cells(b.id)
    labels = _labels([*left, *right])
    scores = {run.id: _scores(store.metrics(run.id)) for run in (a, b)}
    by_id = {cell.id: cell for cell in right}
    by_name = {_alike(cell): cell for cell in right}
    partners = {cell.id: by_id.get(cell.id) or by_name.get(_alike(cell)) for cell in left}
    taken = {partner.id for partner in partners.values() if partner is not None}
    couples: list[tuple[CellRow | None, CellRow | None]] = [(cell, partners[cell.id]) for cell in left]
    couples += [(None, cell) for cell in right if cell.id not in taken]
    return [_pair(store, one, other, labels, scores) for one, other in couples]


def _alike(cell: CellRow) -> tuple[object, ...]:
    return settings(cell), budget_of(cell), cell.seed, cell.benchmark


def _labels(found: Sequence[CellRow]) -> dict[str, str]:
    names = name_all(found)
    told = seeds_told(found, names)
    return {cell.id: f"{name}{seed}" for cell, name, seed in zip(found, names, told, strict=True)}


def _scores(metrics: Mapping[str, Sequence[MetricRow]]) -> dict[str, float]:
    return {
        cell: 100 * row.value / row.scale
        for cell, rows in metrics.items()
        for row in rows
        if row.is_main and not row.category
    }


def _pair(
    store: Store,
    a: CellRow | None,
    b: CellRow | None,
    labels: Mapping[str, str],
    scores: Mapping[str, Mapping[str, float]],
) -> CellPair:
    either = a or b
    assert either is not None
    state, counts = (ONLY_A if b is None else ONLY_B), None
    changed: tuple[Difference, ...] = ()
    if a is not None and b is not None:
        state = SAME if a.id == b.id else CHANGED
        changed = tuple(differences(a.spec, b.spec))
        if a.n_done and b.n_done:
            counts = store.read(flips.flip_counts, CellRef(a.run_id, a.id), CellRef(b.run_id, b.id))
    score_a, score_b = (None if one is None else scores[one.run_id].get(one.id) for one in (a, b))
    return CellPair(either.model, either.benchmark, labels[either.id], state, changed, a, b, score_a, score_b, counts)
