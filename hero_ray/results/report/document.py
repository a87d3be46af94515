"""One self-contained file about a run: tables, plots, what was not shown, and where the figures come from."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
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
from hero_ray.results.report.svg import Overlaid, frontier_chart
from hero_ray.results.writer import Grid, grid


@dataclass(frozen=True)
class Block:
    """A piece of a report: `heading`, `text`, `table` (a grid), `plot` (SVG), `code`, or `link` (`title` is where)."""

    kind: str
    text: str = ""
    title: str = ""
    grid: Grid | None = None


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


def to_markdown(blocks: Sequence[Block]) -> str:
    """Markdown with the plots inside as data addresses."""
    parts = []
    for place, block in enumerate(blocks):
        if block.kind == "heading":
            parts.append(f"{'#' if place == 0 else '##'} {block.text}")
        elif block.kind == "plot":
            data = base64.b64encode(block.text.encode()).decode()
            parts.append(f"![{block.title}](data:image/svg+xml;base64,{data})")
        elif block.kind == "link":
            parts.append(f"[{block.text}]({block.title})")
        elif block.kind == "code":
            parts.append(f"```json\n{block.text}\n```")
        else:
            parts.append(str(block.grid) if block.grid else block.text)
    return "\n\n".join(parts) + "\n"


_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:0 auto;padding:1em;color:#222;background:#fff}"
    ".scroll{overflow-x:auto;margin:1em 0}table{border-collapse:collapse;font-size:13px}"
    "caption{text-align:left;color:#595959;padding:0 0 .4em}"
    "td,th{border-bottom:1px solid #ddd;padding:3px 9px;text-align:right;white-space:nowrap;font-weight:400}"
    "tbody th{text-align:left;position:sticky;left:0;background:#fff}"
    "thead th{border-bottom:2px solid #767676;font-weight:600}thead th:first-child{text-align:left}"
    "h1,h2,dd,p{overflow-wrap:anywhere}figure{margin:1em 0}svg{display:block;width:100%;max-width:760px;height:auto}"
    "pre{background:#f6f6f6;padding:1em;overflow:auto;max-height:30em;font-size:12px}"
    "@media print{body{max-width:none;padding:0}h2{break-after:avoid}figure{break-inside:avoid}"
    ".scroll{overflow:visible}td,th{white-space:normal;font-size:8px;padding:2px 3px}"
    "tbody th{position:static}pre{max-height:none;white-space:pre-wrap;overflow-wrap:anywhere;font-size:8px}}"
)
"""On paper nothing scrolls: tables wrap and shrink, code breaks, so that no column and no line is lost."""


def to_html(blocks: Sequence[Block]) -> str:
    """One HTML page without scripts or outside requests."""
    body, heading = [], ""
    for place, block in enumerate(blocks):
        level = "h1" if place == 0 else "h2"
        if block.kind == "heading":
            heading = block.text
            body.append(f'<{level} id="{_anchor(heading)}">{escape(heading)}</{level}>')
        elif block.grid:
            body.append(block.grid.html(block.title or heading))
        elif block.kind == "plot":
            body.append(f"<figure>{block.text}</figure>")
        elif block.kind == "link":
            body.append(f'<p><a href="{escape(block.title)}">{escape(block.text)}</a></p>')
        elif block.kind == "code":
            where = escape(f"{block.title or heading}, as JSON")
            body.append(f'<pre tabindex="0" role="region" aria-label="{where}">{escape(block.text)}</pre>')
        else:
            body.append(f"<p>{escape(block.text)}</p>")
    title = escape(blocks[0].text) if blocks else "hero_ray"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    head += f"<title>{title}</title><style>{_STYLE}</style>"
    start = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n'
    return start + "\n".join(body) + "\n</main></body></html>\n"


def _anchor(heading: str) -> str:
    """An address inside the page: letters and digits of a heading, the rest as hyphens."""
    return re.sub("[^a-z0-9]+", "-", heading.lower()).strip("-")
