"""The actor: one loaded model that evaluates units and commits each in one transaction.

The work is at least once: an actor that dies takes at most its current unit with it, and writing a unit twice changes
nothing. A unit that keeps killing its process is given up after `max_attempts`, because the attempt is counted before
it begins.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, cast

import numpy as np

from hero_ray import benchmarks as tasks
from hero_ray import methods
from hero_ray.benchmarks.base import Benchmark
from hero_ray.core import hub
from hero_ray.core.errors import HeroRayError, ReplicaError
from hero_ray.core.plan import Unit
from hero_ray.core.secret import hand_over
from hero_ray.core.types import Cell, Prediction
from hero_ray.engine.ahead import UnitAsked, evaluate_ahead
from hero_ray.engine.endpoint import Endpoint, is_endpoint
from hero_ray.engine.evaluate import Evaluator, failed
from hero_ray.engine.remote import RemoteEvaluator
from hero_ray.models.engines import vllm_of
from hero_ray.pipeline.deadline import Deadline
from hero_ray.pipeline.invariance import certify_run
from hero_ray.pipeline.opening import open_task
from hero_ray.pipeline.orders import UnitOutcome, WorkerJob, load_callable, unit_key, unpack_unit
from hero_ray.pipeline.pictures import picture_record
from hero_ray.pipeline.row_files import RowWriter
from hero_ray.store import open_store
from hero_ray.store.records import sample_id


class UnitAbandoned(HeroRayError):
    """A unit's process died, or hung past its deadline, as often as is allowed."""


@dataclass(frozen=True)
class _Begun:
    """A unit that is begun: its picture, (cell id, sample key) of the answers it owes, and how often it was tried."""

    unit: Unit
    image: Future[Any] | None
    wanted: set[tuple[str, str]]
    attempt: int
    started_at: float


def as_planned(job: WorkerJob, revision: str, data: Mapping[str, str]) -> None:
    """Are the weights and rows that a worker opened, and the plug-ins it imported, those the cells are named after?

    Raises:
        ReplicaError: they changed, on disk or on the hub, since the plan was made, or differ between machines.
    """
    for cell in job.cells:
        weights = cell.spec.get("model", {}).get("revision", revision)
        rows = cell.spec.get("benchmark", {}).get("data", "")
        rules, code = (cell.spec.get(part, {}).get("code") for part in ("benchmark", "method"))
        for what, then, now in (
            (f"weights of {job.model}", weights, revision),
            (f"rows of {cell.benchmark}", rows, data.get(cell.benchmark, rows) if rows else rows),
            (f"code of {cell.benchmark}", rules, rules and tasks.code_of(cell.benchmark)),
            (f"code of {cell.method}", code, _code_here(cell) if isinstance(code, str) else code),
        ):
            if then != now:
                raise ReplicaError(
                    f"the {what} changed since the plan: {str(then)[:16]} then, {str(now)[:16]} now; "
                    "start the sweep again"
                )


def _code_here(cell: Cell) -> int | str:
    return methods.code_of(methods.create(cell.method, variant=cell.variant, **cell.params))


def evaluator_of(job: WorkerJob, benchmarks: Mapping[str, Benchmark]) -> Evaluator | RemoteEvaluator:
    """What answers a job's units: a model that is loaded here, or a server that is asked."""
    if is_endpoint(job.model):
        return RemoteEvaluator(Endpoint.of(job.model, job.model_args), job.cells, benchmarks, job.settings)
    return Evaluator(load_callable(job.loader)(job.model, **job.model_args), job.cells, benchmarks, job.settings)


def keep_to_share(gpus: float) -> None:
    """Keep this process to its part of a card: replicas that share one split their batches, and starve no neighbour.

    Raises:
        ReplicaError: Ray gave a GPU and torch finds none.
    """
    import torch

    if gpus and not torch.cuda.is_available():
        raise ReplicaError(
            f"this replica was given {gpus:g} GPU (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')}) and "
            f"torch {torch.__version__} finds none: install a build with CUDA that the driver supports, or leave out "
            "--gpus-per-replica"
        )
    if 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)


class UnitWorker:
    """Ray Data calls this with batches of packed units; a plain class, so it is tested without Ray."""

    def __init__(self, job: WorkerJob) -> None:
        import torch

        if job.threads:
            torch.set_num_threads(job.threads)
        if job.loader == WorkerJob.loader and not is_endpoint(job.model):
            keep_to_share(job.gpus)
        self._job = job
        hand_over(job.secrets)
        self._store = open_store(job.store_url, upgrade=False)
        hub.pin(job.commits)
        opened = [open_task(task) for task in job.tasks]
        self._evaluator = evaluator_of(job, {benchmark.name: benchmark for benchmark in opened})
        if job.loader == WorkerJob.loader:
            revision = self._evaluator.adapter.info.revision
            as_planned(job, revision, {benchmark.name: benchmark.fingerprint() for benchmark in opened})
        self._cells_by_benchmark: dict[str, set[str]] = {task.name: set() for task in opened}
        for cell in job.cells:
            self._cells_by_benchmark[cell.benchmark].add(cell.id)
        self._decided: set[str] = set()
        self._main_metrics = {benchmark.name: benchmark.main_metric for benchmark in opened}
        folder = Path(job.rows_folder)
        self._files = RowWriter(self._store, job.run_id, folder, self._main_metrics) if job.rows_folder else None
        self._counted = dict(vars(self._evaluator.counters))
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        units = [unpack_unit(packed) for packed in batch["unit"]]
        if self._job.until_decided:
            self._decided = set(self._store.stopped(self._job.run_id))
        together = vllm_of(getattr(self._evaluator, "adapter", None)) is not None
        outcomes = []
        for outcome in self.run_together(units) if together else starmap(self.run, self._decoded(units)):
            outcomes.append(outcome)
            if outcome.unit == self._job.certify_after:
                certify_run(self._store, self._job.run_id, self._job.model, self._evaluator.adapter)
        return {"outcome": [json.dumps(asdict(outcome)) for outcome in outcomes]}

    def run(self, unit: Unit, image: Future[Any] | None = None) -> UnitOutcome:
        """Evaluate what is missing of one unit and commit it."""
        return self._alone(self._begin(unit, image))

    def run_together(self, units: Sequence[Unit]) -> Iterator[UnitOutcome]:
        """The same of several, where vLLM answers them at once; each is committed as it is done. The deadline is
        between two of them. A unit whose process died is asked by itself, so that it takes no other with it again.
        """
        begun, later = dict[str, _Begun](), list[_Begun]()

        def fresh() -> Iterator[UnitAsked]:
            for unit, image in self._decoded(units):
                begun[unit.id] = one = self._begin(unit, image)
                if one.wanted and one.attempt == 1:
                    yield UnitAsked(unit, one.wanted, image.result)
                else:
                    later.append(one)

        answered = evaluate_ahead(cast(Evaluator, self._evaluator), fresh())
        while True:
            with Deadline(self._job.unit_timeout_s):
                found = next(answered, None)
            if found is None:
                break
            yield self._commit(begun[found[0].id], found[1])
        yield from map(self._alone, later)

    def _begin(self, unit: Unit, image: Future[Any] | None) -> _Begun:
        """Find what a unit owes, and count the attempt if it owes anything."""
        started, key = time.time(), unit_key(unit, self._job.model)
        wanted = self._missing(unit, key)
        attempt = self._store.begin_unit(self._job.run_id, key) if wanted else 0
        return _Begun(unit, image, wanted, attempt, started)

    def _alone(self, one: _Begun) -> UnitOutcome:
        unit = one.unit
        if not one.wanted:
            self._store.settle_unit(self._job.run_id, unit_key(unit, self._job.model), len(unit.samples))
            return UnitOutcome(unit.id, unit.image_key)
        if one.attempt > self._job.max_attempts:
            return self._commit(one, self._give_up(unit, one.wanted, one.attempt - 1))
        with Deadline(self._job.unit_timeout_s):
            predictions = self._evaluator.evaluate(unit, one.wanted, one.image.result if one.image else None)
        return self._commit(one, predictions)

    def _commit(self, one: _Begun, predictions: list[Prediction]) -> UnitOutcome:
        unit = one.unit
        key, pictures, questions = unit_key(unit, self._job.model), picture_record(unit, one.image), len(unit.samples)
        if self._files:
            self._files.write(key, one.attempt, predictions, pictures, questions)
        else:
            self._store.write_unit(self._job.run_id, predictions, pictures, self._main_metrics, (key, questions))
        before, self._counted = self._counted, dict(vars(self._evaluator.counters))
        return UnitOutcome(
            unit=unit.id,
            picture=unit.image_key,
            answered=sum(p.error_type is None for p in predictions),
            failed=sum(p.error_type is not None for p in predictions),
            started_at=one.started_at,
            finished_at=time.time(),
            counters={name: value - before[name] for name, value in self._counted.items()},
        )

    def _decoded(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, Future[Any]]]:
        """Units with their pictures; the next one is decoded while one is at work."""
        images = map(self._decode, units)
        upcoming = next(images, None)
        for unit in units:
            image, upcoming = upcoming, next(images, None)
            assert image is not None
            yield unit, image

    def _decode(self, unit: Unit) -> Future[Any]:
        first = unit.samples[0]
        return self._ahead.submit(self._evaluator.benchmarks[first.benchmark].load_image, first.image_ref)

    def _missing(self, unit: Unit, key: str) -> set[tuple[str, str]]:
        """(cell id, sample key) of every answer the unit still owes."""
        ids, store = [sample_id(sample) for sample in unit.samples], self._store
        done = self._files.done(key, ids) if self._files else store.done_cells(self._job.run_id, ids, (key, unit.id))
        return {
            (cell, sample.key)
            for sample, identity in zip(unit.samples, ids, strict=True)
            for cell in self._cells_by_benchmark[sample.benchmark] - done.get(identity, set()) - self._decided
        }

    def _give_up(self, unit: Unit, wanted: set[tuple[str, str]], attempts: int) -> list[Prediction]:
        error = UnitAbandoned(
            f"the process died or took over {self._job.unit_timeout_s:g} s in all {attempts} attempts at this picture"
        )
        return [
            failed(cell, sample, error)
            for sample in unit.samples
            for cell in self._job.cells
            if cell.benchmark == sample.benchmark and (cell.id, sample.key) in wanted
        ]
