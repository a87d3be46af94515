"""Ask a sample of a run's stored answers again, recount the rest, and mark the run with what that found.

Whole pictures are drawn, with all their questions and cells: a picture is encoded once, and its batches are composed as
they were, on which answers in bf16 depend. Replicas, machine and day are free.
"""

from __future__ import annotations

import math
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from hero_ray.core import hub
from hero_ray.core.errors import HeroRayError, InputError
from hero_ray.core.plan import Unit
from hero_ray.core.types import Prediction
from hero_ray.engine.evaluate import Evaluator
from hero_ray.pipeline.asking_again import Tasks, Together, groups, tasks_of, units_of
from hero_ray.pipeline.margins import margin
from hero_ray.pipeline.orders import load_callable
from hero_ray.pipeline.provenance import environment, git_commit
from hero_ray.results import named, recount, truth
from hero_ray.results.truth import AskedAgain, Findings, Untrue
from hero_ray.store import CellRow, RunRow, Store, sample_id, verifications
from hero_ray.store.answers import PERMANENT
from hero_ray.store.verifications import VerificationRow, WholeAnswer
from hero_ray.store.writes import now

Say = Callable[[str], None]
LISTED = 200
"""Answers and figures that a stored report names; all are counted."""
_SURROUNDINGS = ("processor", "gpus", "driver")
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pillow")


@dataclass(frozen=True)
class Draw:
    """What is asked again: `drawn` of the run's units of work (a picture with its questions)."""

    drawn: tuple[Unit, ...]
    of: int
    seed: str

    @classmethod
    def of_run(cls, units: Sequence[Unit], fraction: float, seed: str | None) -> Draw:
        """At least one; without a seed nobody can tell beforehand which.

        Raises:
            InputError: the fraction is not in (0, 1].
        """
        if not 0 < fraction <= 1:
            raise InputError(f"--fraction {fraction:g} is not in (0, 1]; 0.01 asks one picture in a hundred again")
        seed = seed or secrets.token_hex(8)
        count = min(len(units), max(1, math.ceil(fraction * len(units))))
        return cls(tuple(Random(seed).sample(list(units), count)), len(units), seed)


def verify(
    store: Store,
    run_id: str,
    fraction: float = 0.01,
    *,
    seed: str | None = None,
    device: str | None = None,
    loader: str = "hero_ray.models:load",
    say: Say = lambda text: None,
) -> VerificationRow:
    """Verify a run, an import among them, and keep the verdict with it.

    Args:
        store: a writable store.
        fraction: share of pictures asked again; every score, mask, figure and mean cost is recounted in any case.
        seed: of the draw; by chance if None.
        device: where the models run; their default if None.
        loader: where adapters come from.

    Raises:
        InputError: the fraction, or a run without answers.
        StoreError: no such run.
    """
    run = store.run(run_id)
    cells = store.cells(run.id)
    rows = {cell.id: store.read(verifications.whole_answers, run.id, cell.id) for cell in cells}
    if not any(rows.values()):
        raise InputError(f"run {run.id} holds no answers to verify; runs of profiles and unstarted sweeps have none")
    with hub.pinned(dict(run.environment.get("commits") or {})):
        tasks = tasks_of(run, cells)
        say(f"recounting {sum(map(len, rows.values()))} answers of {len(cells)} cells")
        found = Findings(untrue=_recounted(store, run, cells, rows, tasks))
        stored = {row.sample_id for each in rows.values() for row in each}
        mine = [unit for unit in units_of(tasks) if any(sample_id(sample) in stored for sample in unit.samples)]
        draw = Draw.of_run(mine, fraction, seed)
        _ask_again(run, cells, rows, tasks, draw, found, device, loader, say)
    row = _row(store, run, cells, fraction, draw, found)
    store.transaction(verifications.add, row)
    return row


def is_current(store: Store, run_id: str) -> bool:
    """Whether a run was verified as it is now."""
    marks = store.read(verifications.of_run, run_id)
    cells = [cell.id for cell in store.cells(run_id)]
    return bool(marks) and marks[0].content == store.read(verifications.content, run_id, cells)


def _recounted(
    store: Store, run: RunRow, cells: Sequence[CellRow], rows: dict[str, list[WholeAnswer]], tasks: Tasks
) -> list[Untrue]:
    untrue: list[Untrue] = []
    for name, task in tasks.opened.items():
        mine = [cell for cell in cells if cell.benchmark == name]
        distinct = {row.sample_id: row for cell in mine for row in rows[cell.id]}
        untrue += recount.questions([distinct[key] for key in sorted(distinct)], task.samples)
        asked = len(task.samples) if task.limited else None
        for cell in mine:
            benchmark = None if task.judged else task.benchmark
            untrue += recount.rows_alone(cell, rows[cell.id], task.samples, benchmark)
            if cell.summarised_at is not None:
                untrue += recount.figures(store, run.id, cell, task.benchmark)
                untrue += recount.costs(cell, rows[cell.id], asked)
    return untrue


def _ask_again(
    run: RunRow,
    cells: Sequence[CellRow],
    rows: dict[str, list[WholeAnswer]],
    tasks: Tasks,
    draw: Draw,
    found: Findings,
    device: str | None,
    loader: str,
    say: Say,
) -> None:
    together, reasons = groups(run, cells, tasks)
    drawn = {sample_id(sample) for unit in draw.drawn for sample in unit.samples}
    for cell in cells:
        if cell.id in reasons:
            here = (
                rows[cell.id] if cell.benchmark in tasks.reasons else [r for r in rows[cell.id] if r.sample_id in drawn]
            )
            found.unasked[reasons[cell.id]] += len(here)
    may_round = not _same_machine(run)
    by_pair = {(row.cell_id, row.sample_id): row for each in rows.values() for row in each if row.sample_id in drawn}
    for group in together:
        say(f"asking {group.model} again: {len(draw.drawn)} of {draw.of} pictures, {len(group.cells)} cells")
        try:
            adapter = load_callable(loader)(group.model, **group.arguments, **({"device": device} if device else {}))
        except (HeroRayError, OSError) as error:
            found.unasked[f"{group.model} cannot be loaded ({error})"] += _owed(group, by_pair)
            continue
        if adapter.info.revision != group.revision:
            found.unasked[
                f"the weights of {group.model} are not the run's ({group.revision[:12]} then, "
                f"{adapter.info.revision[:12]} now)"
            ] += _owed(group, by_pair)
            continue
        benchmarks = {name: task.benchmark for name, task in tasks.opened.items()}
        evaluator = Evaluator(adapter, group.cells, benchmarks, group.settings)
        rounding = may_round or group.dtype != "float32"
        for unit in draw.drawn:
            _ask_unit(evaluator, unit, by_pair, tasks, found, group.dtype, rounding)


def _owed(group: Together, by_pair: dict[tuple[str, str], WholeAnswer]) -> int:
    mine = {cell.id for cell in group.cells}
    return sum(cell in mine for cell, _ in by_pair)


def _ask_unit(
    evaluator: Evaluator,
    unit: Unit,
    by_pair: dict[tuple[str, str], WholeAnswer],
    tasks: Tasks,
    found: Findings,
    dtype: str,
    may_round: bool,
) -> None:
    ids = {(sample.benchmark, sample.key): sample_id(sample) for sample in unit.samples}
    wanted = {
        (cell.id, sample.key)
        for cell in evaluator.cells
        for sample in unit.samples
        if cell.benchmark == sample.benchmark and (cell.id, ids[sample.benchmark, sample.key]) in by_pair
    }
    cells = {cell.id: cell for cell in evaluator.cells}
    for said in evaluator.evaluate(unit, wanted):
        stored = by_pair[said.cell_id, ids[said.sample.benchmark, said.sample.key]]
        if said.error_type and said.error_type not in PERMANENT and not stored.stored["error_type"]:
            found.unasked[f"{said.error_type}: {said.error_message}"] += 1
            continue
        main = tasks.opened[said.sample.benchmark].benchmark.main_metric
        again = verifications.as_stored(said, main)
        if tasks.opened[said.sample.benchmark].judged:
            again |= {name: stored.stored[name] for name in ("score", "scores")}
        known = stored.stored["keep_mask"] is not None or stored.stored["flops"] is not None
        parts = truth.unlike(stored.stored, again if known else again | _untold(stored))
        gap = None
        if "text" in parts:
            job = evaluator.job(unit, cells[said.cell_id], said.sample)
            gap = margin(evaluator.adapter, job.cut, job.request, stored.stored["text"])
        found.asked.append(_asked(stored, said, parts, gap, dtype, may_round))


def _untold(stored: WholeAnswer) -> dict[str, Any]:
    """What an import says nothing of cannot be unlike."""
    columns = (column for part in ("mask", "tokens", "cost") for column in truth.PARTS[part])
    return {column: stored.stored[column] for column in columns}


def _asked(
    stored: WholeAnswer, said: Prediction, parts: tuple[str, ...], gap: float | None, dtype: str, may_round: bool
) -> AskedAgain:
    return AskedAgain(
        cell_id=said.cell_id,
        sample_id=stored.sample_id,
        sample_key=said.sample.key,
        verdict=truth.judge(parts, may_round),
        parts=parts,
        was=stored.stored["text"] or str(stored.stored["error_type"] or ""),
        now=said.text or str(said.error_type or ""),
        margin=gap,
        rounding=truth.within_rounding(gap, dtype, may_round),
    )


def _same_machine(run: RunRow) -> bool:
    """Whether the run says that it was made on a machine and packages like these."""
    here, then = environment(), run.environment
    packages = dict(then.get("packages") or {})
    return all(then.get(name) == here[name] for name in _SURROUNDINGS) and all(
        packages.get(name) == here["packages"].get(name) for name in _PACKAGES
    )


def _row(
    store: Store, run: RunRow, cells: Sequence[CellRow], fraction: float, draw: Draw, found: Findings
) -> VerificationRow:
    here, names = environment(), named.cell_names(cells)
    unlike = [one for one in found.asked if one.verdict != truth.BIT_EQUAL]
    report: dict[str, Any] = {
        "said": list(truth.summary(found)),
        "chances": {str(k): round(p, 6) for k, p in truth.chances(draw.of, len(draw.drawn)).items()},
        "needed": truth.needed(draw.of, len(draw.drawn)),
        "unlike": [asdict(one) | {"cell": names[one.cell_id]} for one in unlike[:LISTED]],
        "untrue": [asdict(one) | {"cell": names.get(one.cell_id, "")} for one in found.untrue[:LISTED]],
        "kinds": dict(Counter(one.kind for one in found.untrue)),
        "unasked": dict(found.unasked),
        "within_rounding": sum(one.rounding for one in found.asked),
        "same_machine": _same_machine(run),
        "machine": {name: here[name] for name in (*_SURROUNDINGS, "platform", "packages")},
    }
    return VerificationRow(
        id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}",
        run_id=run.id,
        created_at=now(),
        verdict=found.verdict,
        fraction=fraction,
        seed=draw.seed,
        pictures=draw.of,
        drawn=len(draw.drawn),
        answers=len(found.asked),
        bit_equal=found.count(truth.BIT_EQUAL),
        equal_text=found.count(truth.EQUAL_TEXT),
        differs=found.count(truth.DIFFERS),
        unasked=sum(found.unasked.values()),
        recounted=len(found.untrue),
        content=store.read(verifications.content, run.id, [cell.id for cell in cells]),
        git_commit=git_commit(),
        report=report,
    )
