"""A run's progress as text, read from the database alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.pipeline.finished import RUNNING
from hero_ray.pipeline.invariance import certificates, describe
from hero_ray.store import Store, row_files, verifications
from hero_ray.store.records import RunRow


def listed(run: RunRow) -> str:
    """A line of the list of all runs: id, state, begin, sweep, and what people say of it."""
    said = " · ".join(
        part for part in (run.name, *(f"#{tag}" for tag in run.tags), run.note.partition("\n")[0]) if part
    )
    line = f"{run.id}  {run.status:<11}  {run.created_at:%Y-%m-%d %H:%M}  {run.sweep_name}"
    return f"{line}  {said}" if said else line


def describe_run(store: Store, run: RunRow) -> tuple[list[str], dict[str, Any]]:
    """A line for people and one per certified model, and the same for scripts."""
    counts = store.counts(run.id).values()
    expected, done, failed = (sum(getattr(c, name) for c in counts) for name in ("expected", "done", "failed"))
    complete = sum(c.missing == 0 for c in counts)
    share = 100 * (done + failed) / max(1, expected)
    line = (
        f"run {run.id} ({run.sweep_name}): {run.status}, {done + failed}/{expected} answers ({share:.0f}%), "
        f"{failed} failed, {complete}/{len(counts)} cells complete"
    )
    files, outside = store.read(row_files.outside, run.id)
    if run.status == RUNNING and not done + failed + outside:
        line += "; no answer yet: replicas start and load the model"
    lines = [line, *([row_files.told(run.id, files, outside)] if outside else [])]
    lines += [describe(model, found) for model, found in certificates(run).items()]
    verified = store.read(verifications.of_run, run.id)
    for each in verified[:1]:
        drawn = f"{each.drawn} of {each.pictures} pictures: {each.verdict}"
        lines.append(f"verified {each.created_at:%Y-%m-%d %H:%M} UTC, {drawn}")
    record = {
        "run_id": run.id,
        "status": run.status,
        "cells": len(counts),
        "cells_complete": complete,
        "expected": expected,
        "samples": done,
        "failed": failed,
        "in_row_files": outside,
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "invariance": certificates(run),
        "verified": verified[0].verdict if verified else None,
    }
    return lines, record


def describe_failures(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    """Failed samples of `named.failures` with their error, a line each."""
    return [
        f"{row['cell']} on {row['benchmark']}, {row['question']}: {row['error']}: {row['message']}" for row in failed
    ] or ["no failed samples"]
