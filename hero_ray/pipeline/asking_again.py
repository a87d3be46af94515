"""What a run's cells must be asked with to be asked again: their tasks, their model, their settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hero_ray import benchmarks, methods
from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.errors import HeroRayError
from hero_ray.core.plan import ENDPOINT, Settings, Unit, split_unit, units
from hero_ray.core.tasks import TaskEntry
from hero_ray.core.types import Cell, Sample
from hero_ray.pipeline.facts import MAX_SAMPLES_PER_UNIT
from hero_ray.pipeline.opening import make_task, task_fact
from hero_ray.store.records import CELL, CellRow, RunRow, sample_id


@dataclass
class OpenTask:
    """One benchmark of a run with the samples its cells were asked.

    Attributes:
        samples: by id.
        limited: whether the run says how many it asked, so that a missing one shows.
        judged: whether scoring needs somebody who is not there.
    """

    benchmark: Benchmark
    samples: dict[str, Sample]
    limited: bool
    judged: bool = False


@dataclass
class Tasks:
    """Benchmarks of a run by name; of those that cannot be opened, the reason."""

    opened: dict[str, OpenTask] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def tasks_of(run: RunRow, cells: Iterable[CellRow]) -> Tasks:
    """Open the data of a run as it was opened for it."""
    entries = _entries(run)
    found = Tasks()
    for cell in cells:
        if cell.benchmark in found.opened or cell.benchmark in found.reasons:
            continue
        if cell.flavour == "imported":
            found.reasons[cell.benchmark] = "an import that keeps the scores and figures of its file"
            continue
        known = next((one for one in entries if one[0].name == cell.benchmark), None)
        entry = known[1] if known else TaskEntry(name=cell.benchmark, flavour=cell.flavour or None)
        limit = entry.limit or asked(run).get("limit")
        try:
            benchmark = make_task(entry)
            if reason := _other_rows(cell, benchmark):
                found.reasons[cell.benchmark] = reason
                continue
            samples = {sample_id(sample): sample for sample in benchmark.samples(limit=limit)}
        except HeroRayError as error:
            found.reasons[cell.benchmark] = f"its data cannot be read ({error})"
            continue
        found.opened[cell.benchmark] = OpenTask(benchmark, samples, known is not None, _judged(benchmark))
    return found


def _other_rows(cell: CellRow, benchmark: Benchmark) -> str:
    """Why today's rows or rules are not those that a cell was asked and scored with; "" where they are."""
    then = cell.spec.get("benchmark") or {}
    data, rows = then.get("data"), benchmark.fingerprint()
    if data and data != rows:
        return f"the rows of {cell.benchmark} are not those of the run ({data[:12]} then, {rows[:12]} now)"
    code, rules = then.get("code"), benchmarks.code_of(benchmark.name)
    if data and rules != (code or ""):
        return f"the code of {cell.benchmark} changed since: {rules or 'unknown'} now, {code or 'unknown'} then"
    return ""


def asked(run: RunRow) -> Mapping[str, Any]:
    """The sweep a run was asked for; of an import of our own files that of the run they were written from."""
    return run.config.get("sweep") or run.config


def _entries(run: RunRow) -> list[tuple[Benchmark, TaskEntry]]:
    """Tasks of the run's configuration by the names of their benchmarks; none for an import."""
    found = []
    for given in asked(run).get("tasks") or ():
        try:
            entry = TaskEntry(**given)
            found.append((make_task(entry), entry))
        except HeroRayError:
            continue  # said when the cells of its benchmark are looked at
    return found


def _judged(benchmark: Benchmark) -> bool:
    try:
        benchmark.require()
    except HeroRayError:
        return True
    return bool(getattr(benchmark, "judge", None))


@dataclass
class Together:
    """Cells that one loaded model can be asked in one go.

    Attributes:
        model: name, and everything that `load` is told.
    """

    model: str
    arguments: dict[str, Any]
    revision: str
    dtype: str
    settings: Settings
    cells: list[Cell] = field(default_factory=list)


def groups(run: RunRow, cells: Sequence[CellRow], tasks: Tasks) -> tuple[list[Together], dict[str, str]]:
    """Cells grouped by model and settings, and for those that cannot be asked again, by id, why."""
    made: dict[str, Together] = {}
    reasons: dict[str, str] = {}
    for row in cells:
        if reason := tasks.reasons.get(row.benchmark) or _changed(row, tasks.opened[row.benchmark]):
            reasons[row.id] = reason
            continue
        model, budget = row.spec["model"], row.spec.get("budget") or {}
        settings = Settings(
            batch_size=int(asked(run).get("batch_size") or Settings.batch_size),
            budget_base=budget.get("base", Settings.budget_base),
            newline_policy=row.spec.get("newline_policy", Settings.newline_policy),
            max_new_tokens=_limit(row, tasks.opened[row.benchmark].benchmark),
        )
        options = {key: value for key, value in (model.get("options") or {}).items() if key != "prompt"}
        key = json.dumps([model["name"], options, model["revision"], model["dtype"], str(settings)], sort_keys=True)
        if key not in made:
            arguments = options | {"dtype": model["dtype"]}
            made[key] = Together(model["name"], arguments, model["revision"], model["dtype"], settings)
        named = {name: getattr(row, name) for name in ("id", *CELL, "spec")}
        made[key].cells.append(Cell(**named))
    return list(made.values()), reasons


def _limit(row: CellRow, benchmark: Benchmark) -> int | None:
    asked = (row.spec.get("generation") or {}).get("max_new_tokens")
    return None if asked in (None, benchmark.max_new_tokens) else int(asked)


def _changed(row: CellRow, task: OpenTask) -> str:
    """Why the cell of today is not the stored one; "" where it is."""
    spec = row.spec
    if not isinstance(spec.get("model"), Mapping) or not isinstance(spec.get("method"), Mapping):
        return "an import that does not say with what model, weights and settings it was made"
    if spec["model"].get("family") == ENDPOINT:
        return f"answers of a server ({row.model}): nobody can say what weights and settings were behind them"
    method = spec["method"]
    try:
        now = methods.code_of(methods.create(row.method, variant=row.variant, **row.params))
    except HeroRayError as error:
        return f"its method cannot be made ({error})"
    if method.get("code") not in (None, now):
        if isinstance(now, str):
            return f"the code of {row.method} changed since: {now} now, {method['code']} then"
        return f"{row.method} has code version {now} now and had {method['code']} then"
    prompt = (spec.get("generation") or {}).get("prompt")
    family = spec["model"].get("family", "")
    if prompt and prompt != task_fact(task.benchmark, {family}, list(task.samples.values())).prompts[family]:
        return f"the prompts of {row.benchmark} changed since"
    return ""


def units_of(tasks: Tasks) -> Iterator[Unit]:
    """The run's pictures with their questions, cut as they were scheduled."""
    samples = [sample for task in tasks.opened.values() for sample in task.samples.values()]
    for unit in units(samples):
        yield from split_unit(unit, MAX_SAMPLES_PER_UNIT)
