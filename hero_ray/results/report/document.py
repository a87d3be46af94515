"""One self-contained file about a run: tables, plots, what was not shown, and where the figures come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.results import axes, named, published
from hero_ray.results.averages import averages, difficulty, straw_men
from hero_ray.results.comparisons import compare_labels
from hero_ray.results.contenders import Results
from hero_ray.results.frontiers import Frontier, average_frontiers, frontiers
from hero_ray.results.marks import Mark
from hero_ray.results.names import EMBEDDED_NOTE, FULL, is_embedded
from hero_ray.results.report import tables
from hero_ray.results.report.figures import number, span
from hero_ray.results.report.page import Block
from hero_ray.results.report.svg import Overlaid, frontier_chart
from hero_ray.results.writer import Grid, grid


def build(results: Results, axis: str = "tokens", benchmarks: Sequence[str] | None = None) -> list[Block]:
    """The report of one run and model, top to bottom."""
    run = results.run
    blocks = [
        Block("heading", f"{run.sweep_name}: {results.model}"),
        Block("text", f"Run {run.id}, {run.status}, started {run.started_at or run.created_at:%Y-%m-%d %H:%M} UTC."),
    ]
    if is_embedded(results.model):
        blocks.append(Block("text", EMBEDDED_NOTE))
    chosen = results.only(benchmarks)
    blocks += [
        Block("heading", "Scores"),
        Block("table", grid=scores(results, chosen)),
        Block("text", _reading(results)),
    ]
    if FULL in results.groups:
        blocks += _retention(results, axis, chosen)
    for chart in frontiers(results, axis, chosen):
        blocks += _chart(results, chart)
    blocks += _speeds(results, chosen)
    flagged = straw_men(results, chosen)
    if flagged:
        note = (
            "Difference over benchmarks to the baseline that is hardest to beat; shown better means better than each."
        )
        blocks += [
            Block("heading", "Against straw men"),
            Block("text", note),
            Block("table", grid=tables.straw_men(flagged)),
        ]
    split = difficulty(results, chosen)
    if split:
        note = "Samples that `downsample` solves at the same budget, and those it does not; benchmarks pooled."
        blocks += [Block("heading", "Simple and difficult samples"), Block("text", note)]
        blocks.append(Block("table", grid=tables.difficulty(split)))
    blocks += _against_full(results, chosen)
    blocks += _failures(results)
    return [*blocks, *_provenance(results)]


def scores(results: Results, benchmarks: Sequence[str]) -> Grid:
    """Main metric of every label on every benchmark, with intervals, in points of 100."""
    found = {(mark.name.key, mark.benchmark): mark for mark in results.marks(benchmarks)}
    rows = [[label, *(_score(found.get((label, name))) for name in benchmarks)] for label in results.groups]
    return grid(["Cell", *benchmarks], rows)


def _score(mark: Mark | None) -> str:
    return "-" if mark is None else f"{number(mark.value)} {span(mark.low, mark.high, 100.0)}"


def _reading(results: Results) -> str:
    counts = [metric.n for cell in results.cells if (metric := results.metrics.get(cell.id)) is not None]
    least = f"n >= {min(counts)} questions per figure; " if counts else ""
    return f"Points of 100 with 95% intervals clustered by picture; {least}several seeds of a method are averaged."


def _retention(results: Results, axis: str, benchmarks: Sequence[str]) -> list[Block]:
    rows = [
        (mark.name.key, number(mark.value), span(mark.low, mark.high, 100.0), mark.n)
        for mark in averages(results, benchmarks)
    ]
    if not rows:
        return []
    charts, unit = average_frontiers(results, axis, benchmarks), results.unit(axes.axis(axis))
    return [
        Block("heading", "Share of the unpruned score"),
        Block("table", grid=grid(["Cell", "Average share, %", "95% interval", "n"], rows)),
        *(Block("plot", frontier_chart(chart, (), unit), chart.title) for chart in charts if chart.placed),
    ]


def _chart(results: Results, chart: Frontier) -> list[Block]:
    if not chart.placed:
        return []
    printed = overlay(chart, results.model)
    unit = results.unit(axes.axis(chart.axis))
    table = tables.frontier(chart, unit)
    note = [Block("text", "Diamonds: printed in papers, at the token counts their budgets mean.")] if printed else []
    plot = Block("plot", frontier_chart(chart, printed, unit), chart.title)
    return [Block("heading", f"Frontier: {chart.title}"), plot, *note, Block("table", grid=table)]


def overlay(chart: Frontier, model: str) -> list[Overlaid]:
    """Printed points for this model and benchmark, on axes that papers give; MME only on the scale that is ours."""
    if chart.category:
        return []
    found = []
    for point in published.overlay(model, chart.benchmark):
        if point.metric == "mme_perception_plus_cognition" and chart.metric == "mme_perception_score":
            continue
        cost = axes.axis(chart.axis).printed_cost(point)
        if cost is not None:
            source = f"{point.paper} table {point.table}, {point.method} at {100 * (point.budget or 0):g}%"
            found.append(Overlaid(cost, 100 * point.share, f"{source}: {point.value:g} ({point.measured_by})"))
    return found


def _speeds(results: Results, benchmarks: Sequence[str]) -> list[Block]:
    """Timings, and the certificate they were taken under; unlike certificates make tables of their own."""
    rows = {row.cell_id: row for row in results.store.points([results.run.id], benchmarks=benchmarks) if row.profile}
    by_certificate: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        if row.cell_id in results.labels:
            group = by_certificate.setdefault(str(row.profile["certificate_hash"]), {})
            group.setdefault(results.labels[row.cell_id], row.profile)
    blocks: list[Block] = []
    for group in by_certificate.values():
        certificate = json.dumps(next(iter(group.values())).get("certificate"), indent=1, sort_keys=True, default=str)
        device = str((next(iter(group.values())).get("certificate") or {}).get("device_name") or "unknown device")
        title = f"Speed and memory under conditions {len(blocks) // 2 + 1}: {device}"
        blocks.append(Block("table", title=title, grid=_speed_table(results, group)))
        blocks.append(Block("code", certificate, title=f"Conditions {len(blocks) // 2 + 1}"))
    return [Block("heading", "Speed and memory"), *blocks] if blocks else []


_SPEED_COLUMNS = (
    ("TTFT p50", "ttft", "ttft_ms_p50", 1.0, ".2f"),
    ("TTFT p95", "ttft_p95", "ttft_ms_p95", 1.0, ".2f"),
    ("TPOT p50", "tpot", "tpot_ms_p50", 1.0, ".2f"),
    ("Decode", "decode", "decode_tokens_per_s", 1.0, ".1f"),
    ("Prefill", "flops", "tflops_model", 1e12, ".4g"),
    ("KV cache", "kv", "kv_bytes", 1.0, ".1f"),
    ("Peak memory", "memory", "peak_memory_bytes", 1.0, ".1f"),
)
"""Title, axis, field of a stored profile with its factor to the axis's base unit, and the figure's form."""
_SAVED = ("ttft", "flops", "kv")


def _speed_table(results: Results, group: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Timings under one certificate, in this model's units, with what is saved against the unpruned model."""
    head, columns = ["Cell"], []
    for title, name, field, base, form in _SPEED_COLUMNS:
        of, held = axes.axis(name), {key: row.get(field) for key, row in group.items()}
        factor, unit = results.unit(of)
        head.append(f"{title}, {unit}")
        columns.append([number(None if value is None else base * value / factor, form) for value in held.values()])
        if name in _SAVED and FULL in held:
            head.append("saved, %")
            columns.append([number(of.saved(value, held[FULL]), ".0f") for value in held.values()])
    lines = zip(group, *columns, (number(row.get("n"), "d") for row in group.values()), strict=True)
    return grid([*head, "n"], lines)


def _against_full(results: Results, benchmarks: Sequence[str]) -> list[Block]:
    if FULL not in results.groups:
        return []
    blocks = [Block("heading", "Paired comparisons with the unpruned model")]
    for label in results.groups:
        if found := compare_labels(results, [label], FULL, benchmarks):
            blocks.append(Block("table", title=f"{label} against {FULL}", grid=tables.comparisons(label, FULL, found)))
    return blocks if len(blocks) > 1 else []


def _failures(results: Results) -> list[Block]:
    failed = named.failures(results.store, results.run.id, 50)
    if not failed:
        return []
    head = ["Cell", "Benchmark", "Question", "Error", "Message", "Attempts"]
    rows = [tuple(row.values()) for row in failed]
    return [Block("heading", "Failed samples"), Block("table", grid=grid(head, rows, left=5))]


def _provenance(results: Results) -> list[Block]:
    run = results.run
    facts = {
        "run": run.id,
        "config_hash": run.config_hash,
        "git_commit": run.git_commit,
        "trigger": run.trigger,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "environment": dict(run.environment),
        "config": dict(run.config),
        "cells": {results.labels[cell.id] + " on " + cell.benchmark: _identity(cell.spec) for cell in results.cells},
    }
    return [Block("heading", "Provenance"), Block("code", json.dumps(facts, indent=1, default=str, sort_keys=True))]


def _identity(spec: Any) -> Any:
    """What pins a cell: revisions and fingerprints, without the prompts."""
    return {key: value for key, value in dict(spec).items() if key not in ("prompts", "config")}
