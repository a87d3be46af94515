"""Sweeps and results behind the API: submit a Ray job, read the database. No model, no torch."""

from __future__ import annotations

import json
import logging
import re
import shlex
import sys
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from yaml import YAMLError

from hero_ray.core.errors import HeroRayError, StoreError
from hero_ray.serve.problems import Problem, problem_from
from hero_ray.serve.settings import ServeSettings
from hero_ray.serve.sweep_request import checked
from hero_ray.store import Store, default_url, open_store
from hero_ray.store.engine import NAME_VARIABLE, holds_secret, parse_url
from hero_ray.store.records import CELL, PointRow, RunRow

CONFIG_VARIABLE = "HERO_RAY_SWEEP"
MOST_CHARACTERS = 100_000
"""Of a sweep: it travels in one environment variable, which Linux ends at 128 KiB."""
_SWEEP_ID = re.compile(r"api-[0-9a-f]{12}")
_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class SweepJobs(Protocol):
    """Where sweeps run; `RaySweepJobs` in production."""

    def submit(self, entrypoint: str, environment: dict[str, str], job_id: str) -> None:
        """Start a command."""
        ...

    def status(self, job_id: str) -> str | None:
        """`pending`, `running`, `stopped`, `succeeded` or `failed`; None for a job nobody knows."""
        ...

    def stop(self, job_id: str) -> None:
        """Stop a command."""
        ...

    def active(self) -> int:
        """How many commands of this service wait or run."""
        ...

    def complaint(self, job_id: str) -> str | None:
        """The one line in which a command that failed said why, if it did."""
        ...


class RaySweepJobs:
    """Ray's SweepJobs API; the address of a Ray dashboard, or None for the one of the connected Ray."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self._address)

    def submit(self, entrypoint: str, environment: dict[str, str], job_id: str) -> None:
        self._client().submit_job(entrypoint=entrypoint, submission_id=job_id, runtime_env={"env_vars": environment})

    def status(self, job_id: str) -> str | None:
        try:
            return str(self._client().get_job_status(job_id).value).lower()
        except RuntimeError:  # what the client makes of a 404
            return None

    def stop(self, job_id: str) -> None:
        self._client().stop_job(job_id)

    def active(self) -> int:
        jobs = self._client().list_jobs()
        return sum(bool(_SWEEP_ID.fullmatch(job.submission_id or "")) and not job.status.is_terminal() for job in jobs)

    def complaint(self, job_id: str) -> str | None:
        lines = str(self._client().get_job_logs(job_id)).splitlines()
        return next((line for line in reversed(lines) if line.startswith("error: ")), None)


class Desk:
    """What the API's result routes call. Every method raises `Problem` only."""

    def __init__(self, settings: ServeSettings, jobs: SweepJobs) -> None:
        self._settings, self._jobs = settings, jobs
        self._url = settings.db or default_url()

    def submit(self, document: dict[str, Any]) -> dict[str, Any]:
        """Validate a sweep as the file would be, and submit it."""
        try:
            text = json.dumps(document)
            if (size := len(text)) > MOST_CHARACTERS:  # before it is looked into: a short list of names is quickly long
                raise Problem(400, f"the sweep has {size} characters; the limit is {MOST_CHARACTERS}", param="config")
            config = checked(document, self._settings.models)
        except HeroRayError as error:
            raise problem_from(error) from None
        except (TypeError, ValueError, AttributeError, RecursionError, YAMLError):
            raise Problem(400, "the sweep is not what a sweep file holds", param="config") from None
        sweep_id = f"api-{uuid.uuid4().hex[:12]}"
        environment = {CONFIG_VARIABLE: text} | _database(self._url)
        words = [sys.executable, "-m", "hero_ray.sweep", f"env:{CONFIG_VARIABLE}", "--run-id", sweep_id]
        if self._settings.ray_address:
            words += ["--address", self._settings.ray_address]
        try:
            self._check_room()
            self._jobs.submit(shlex.join(words), environment, sweep_id)
        except Problem:
            raise
        except Exception as error:
            logging.getLogger("hero_ray.serve").warning(
                json.dumps({"event": "job refused", "error": repr(error)[:500]})
            )
            raise Problem(
                503, "the Ray cluster does not take jobs now", "server_error", code="cluster_unavailable"
            ) from None
        return {"id": sweep_id, "status": "submitted", "name": config.name}

    def _check_room(self) -> None:
        active, most = self._jobs.active(), self._settings.limits.sweeps
        if active >= most:
            raise Problem(
                429,
                f"{active} sweeps of this service wait or run and {most} may; stop one or try later",
                "rate_limit_error",
                code="too_many_sweeps",
                headers={"retry-after": "60"},
            )

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """Runs, newest first."""
        return self._read(lambda store: [_run(row) for row in store.runs(limit=limit)])

    def run(self, run_id: str) -> dict[str, Any]:
        """One run with its progress."""

        def look(store: Store) -> dict[str, Any]:
            row = self._found(store, run_id)
            if isinstance(row, dict):
                return row
            counts = store.counts(row.id).values()
            shown = _run(row)
            if row.status == "running" and self._job_ended(row.id):
                shown["status"] = "interrupted"  # the driver died without a word; what it answered is kept
            return shown | {
                "cells": len(counts),
                "expected": sum(count.expected for count in counts),
                "done": sum(count.done for count in counts),
                "failed": sum(count.failed for count in counts),
            }

        return self._read(look)

    def cancel(self, run_id: str) -> dict[str, Any]:
        """Ask a run to stop. Only by its whole id: `latest` may have become somebody else's."""

        def ask(store: Store) -> dict[str, Any]:
            row = self._found(store, run_id)
            if isinstance(row, dict):
                if row["status"] == "submitted":
                    self._jobs.stop(run_id)
                    row["status"] = "stopped"
                return row
            if row.id != run_id:
                raise Problem(404, "no such run; a sweep is stopped by its whole id", param="id", code="run_not_found")
            store.request_cancel(row.id)
            return {"id": row.id, "status": "cancelling" if row.status == "running" else row.status}

        return self._read(ask, write=True)

    def frontier(self, run_id: str, benchmark: str | None) -> dict[str, Any]:
        """Points of a run with intervals, costs and their place on the frontier (visual tokens as cost)."""
        from hero_ray.results.contenders import every_model
        from hero_ray.results.frontiers import frontiers

        def look(store: Store) -> dict[str, Any]:
            row = _find(store, run_id)
            data: list[dict[str, Any]] = []
            for results in every_model(store, row.id):
                chosen = [name for name in results.benchmarks if benchmark in (None, name)]
                charts = frontiers(results, benchmarks=chosen) if chosen else []
                states = {(chart.benchmark, label): state for chart in charts for label, state in chart.states.items()}
                for point in store.points([row.id], benchmarks=chosen):
                    if point.model == results.model:
                        label = results.labels[point.cell_id]
                        data.append(_point(point, label, states.get((point.benchmark, label))))
            return {"run_id": row.id, "data": data}

        return self._read(look)

    def cells(self, run_id: str) -> dict[str, Any]:
        """Cells of a run."""

        def look(store: Store) -> dict[str, Any]:
            row = _find(store, run_id)
            keys = ("id", *CELL, "status", "n_expected", "n_done", "n_failed")
            return {
                "run_id": row.id,
                "data": [{key: getattr(cell, key) for key in keys} for cell in store.cells(row.id)],
            }

        return self._read(look)

    def published(self) -> dict[str, Any]:
        """The papers' numbers."""
        from hero_ray.store import printed

        def look(store: Store) -> dict[str, Any]:
            return {
                "results": store.read(printed.published),
                "efficiency": store.read(printed.published_efficiency),
            }

        return self._read(look)

    def _found(self, store: Store, run_id: str) -> RunRow | dict[str, Any]:
        """The run, or the state of a job that has not made its run yet (or failed before it could)."""
        try:
            return _find(store, run_id)
        except Problem:
            if not _SWEEP_ID.fullmatch(run_id):
                raise
            try:
                status = self._jobs.status(run_id)
            except Exception:
                status = None
            if status is None:
                raise
            found = {"id": run_id, "status": status if status in ("failed", "stopped") else "submitted"}
            if status == "failed":
                try:
                    found["error"] = (self._jobs.complaint(run_id) or "unknown; see the log of the job")[:500]
                except Exception:
                    found["error"] = "unknown; the log of the job cannot be read now"
            return found

    def _job_ended(self, run_id: str) -> bool:
        """Whether a sweep that was submitted here has no job any more."""
        if not _SWEEP_ID.fullmatch(run_id):
            return False
        try:
            return self._jobs.status(run_id) in ("failed", "stopped", "succeeded")
        except Exception:
            return False

    def _read(self, look: Callable[[Store], Any], write: bool = False) -> Any:
        try:
            with open_store(self._url, read_only=not write, upgrade=False, patience_s=5) as store:
                return look(store)
        except Problem:
            raise
        except StoreError:
            raise Problem(
                503, "the results database cannot be used now", "server_error", code="store_unavailable"
            ) from None


def _database(url: str) -> dict[str, str]:
    """What a job is told of the database. Everyone who may list jobs sees a job's environment, so a URL with a password
    stays at home: the job then uses the one of its node, and refuses to if that names another database."""
    parsed = parse_url(url)
    if holds_secret(parsed):
        return {NAME_VARIABLE: str(parsed.database or "")}
    return {"HERO_RAY_DB": url}


def _find(store: Store, run_id: str) -> RunRow:
    if not _RUN_ID.fullmatch(run_id):
        raise Problem(404, "no such run", param="id", code="run_not_found")
    try:
        return store.run(run_id)
    except StoreError:
        raise Problem(404, "no such run", param="id", code="run_not_found") from None


def _run(row: RunRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.sweep_name,
        "status": row.status,
        "created_at": row.created_at.isoformat(),
        "started_at": row.started_at.isoformat() if row.started_at else None,
        "finished_at": row.finished_at.isoformat() if row.finished_at else None,
    }


_POINT = (
    *("metric", "value", "ci_low", "ci_high", "n", "scale", "n_visual_llm", "equivalent_tokens", "flops", "kv_bytes"),
    "stop_reason",
)


def _point(point: PointRow, label: str, state: str | None) -> dict[str, Any]:
    row = {key: getattr(point, key) for key in ("cell_id", *CELL, *_POINT)} | {"params": dict(point.params)}
    return row | {"label": label, "ttft_ms_p50": point.profile.get("ttft_ms_p50"), "frontier": state}
