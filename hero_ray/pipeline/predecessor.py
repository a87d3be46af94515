"""What a sweep says of runs that other code began: why one cannot be gone on with, and that another one is.

An upgrade may change what a cell's id is a hash of (weights, data, a method's code version); the same command then is
another sweep, and without a word the old run would just lie there.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hero_ray.core.config import SweepConfig
from hero_ray.core.plan import spec_changes
from hero_ray.core.types import Cell
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.provenance import environment, git_commit
from hero_ray.store import Store
from hero_ray.store.records import CellRow, RunRow

OPERATIONAL = frozenset(
    {
        "db",
        "rows",
        "rows_folder",
        "output_path",
        "log_samples",
        "batch_size",
        "replicas",
        "gpus_per_replica",
        "unit_timeout_s",
        "max_attempts",
        "max_failed",
    }
)
"""Sweep keys that say where and how a sweep runs, not what it asks."""

RUNS_LOOKED_AT = 50

RESUMED = "resumed"
"""Entry of a run's environment: when it was gone on with by other code, and by which."""


def find(plan: Plan, store: Store) -> RunRow | None:
    """The newest run that was asked for the same and planned otherwise; None if there is none."""
    runs = store.runs(limit=RUNS_LOOKED_AT)
    return next((run for run in runs if run.status != "superseded" and same_request(run.config, plan.config)), None)


def same_request(stored: Mapping[str, Any], config: SweepConfig) -> bool:
    """Whether a stored request asks for what `config` asks; a key that one side lacks counts as its default."""
    asked = config.model_dump(mode="json", exclude=set(OPERATIONAL))
    given = config.model_dump(mode="json", exclude=set(OPERATIONAL), exclude_defaults=True)
    return given.keys() <= stored.keys() and _alike(stored, asked)


def _alike(stored: Any, asked: Any) -> bool:
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        return all(_alike(stored[key], asked[key]) for key in stored.keys() & asked.keys())
    if isinstance(stored, list) and isinstance(asked, list):
        return len(stored) == len(asked) and all(map(_alike, stored, asked))
    return bool(stored == asked)


def explain(plan: Plan, store: Store, run: RunRow) -> str:
    """What differs between a stored run and the plan, in one line."""
    stored = store.cells(run.id)
    planned = {cell.id: cell for cell in plan.cells}
    gone = [cell for cell in stored if cell.id not in planned]
    known = {cell.id for cell in stored}
    new = [cell for cell in plan.cells if cell.id not in known]
    found = list(_cell_changes(gone, new)) or list(_other_changes(plan, stored))
    return "; ".join(found) or "its questions, or what tells one sweep from another, changed"


def _cell_changes(gone: list[CellRow], new: list[Cell]) -> Iterator[str]:
    """What became of cells: the change where a cell has a successor of the same name, else that it is gone or new."""
    waiting: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in new:
        waiting.setdefault(_identity(cell), []).append(cell)
    alone: list[CellRow] = []
    said: dict[str, None] = {}
    for old in gone:
        if not (successors := waiting.get(_identity(old))):
            alone.append(old)
            continue
        changes = list(spec_changes(old.spec, successors.pop(0).spec))
        lines = [f"{what} {_short(before)}, now {_short(after)}" for what, before, after in changes]
        said |= dict.fromkeys(lines or [f"the content of {_label(old)} in its id"])
    yield from said
    for cells, what in ((alone, "no longer planned"), ([c for left in waiting.values() for c in left], "planned now")):
        if counts := Counter(map(_label, cells)):
            yield f"{what}: " + ", ".join(f"{label} ({n} cells)" if n > 1 else label for label, n in counts.items())


def _other_changes(plan: Plan, stored: list[CellRow]) -> Iterator[str]:
    expected = plan.expected
    before = {cell.benchmark: cell.n_expected for cell in stored}
    after = {cell.benchmark: expected[cell.id] for cell in plan.cells}
    for name, count in before.items():
        if after.get(name, count) != count:
            yield f"{name} has {after[name]} questions instead of {count}"


def _identity(cell: CellRow | Cell) -> tuple[Any, ...]:
    return (_label(cell), cell.model, cell.benchmark, cell.flavour, cell.seed)


def _label(cell: CellRow | Cell) -> str:
    variant = "" if cell.variant in ("", "exact") else f":{cell.variant}"
    budget = f"{cell.tokens}tok" if cell.tokens else f"{100 * cell.retention_ratio:.4g}%"
    return f"{cell.method}{variant} {budget}"


def _short(value: str) -> str:
    """Hashes by their beginning, everything else as it is."""
    return f"{value[:12]}..." if re.fullmatch("[0-9a-f]{20,}", value) else value


def not_continued(plan: Plan, store: Store, old: RunRow) -> str:
    """Why the newest run of the same request does not count for today's plan."""
    done, failed = store.totals(old.id)
    finish = "" if old.status == "complete" else "; to finish it, run this command with the version that began it"
    return (
        f"run {old.id} of this sweep ({old.status}, {done + failed} answers, {_version(old)}) was planned otherwise: "
        f"{explain(plan, store, old)}. It stays as it is and a new run begins{finish}"
    )


def _version(run: RunRow) -> str:
    package = dict(run.environment.get("packages") or {}).get("hero-ray", "of an unknown version")
    return f"hero-ray {package}" + (f" at commit {run.git_commit[:7]}" if run.git_commit else "")


def note_other_code(store: Store, run: RunRow, say: Callable[[str], None]) -> None:
    """Keep with a resumed run that its rest was answered by another commit or other packages than its beginning."""
    before = dict(run.environment.get("packages") or {})
    packages = {name: version for name, version in environment()["packages"].items() if before.get(name) != version}
    commit = git_commit()
    if not packages and commit == run.git_commit:
        return
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    store.add_environment(run.id, RESUMED, {at: {"git_commit": commit, "packages": packages}})
    now = [f"{name} {before.get(name, 'absent')}, now {version}" for name, version in packages.items()]
    if commit != run.git_commit:
        now.insert(0, f"commit {(run.git_commit or 'unknown')[:7]}, now {(commit or 'unknown')[:7]}")
    say(f"run {run.id} was begun with other code ({'; '.join(now)}); answers it holds stay as they are")
