"""One self-contained file about a run: tables, plots, what was not shown, and where the figures come from."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from hero_ray import stats
from hero_ray.results import published
from hero_ray.results.contenders import FULL, Results
from hero_ray.results.frontiers import Frontier, average_frontier, frontiers
from hero_ray.results.pairs import compare_labels, difficulty, retained, straw_men
from hero_ray.results.report import tables
from hero_ray.results.report.markdown import number, points, span, table
from hero_ray.results.report.svg import Overlaid, frontier_chart
from hero_ray.store import CellRow, MetricRow

EMBEDDED = "Figures on embedded models show the tool at work; they are no evidence about methods on real models."


@dataclass(frozen=True)
class Block:
    """A piece of a report: `heading`, `text`, `table` (markdown), `plot` (SVG) or `code`."""

    kind: str
    text: str
    title: str = ""


def build(results: Results, axis: str = "tokens", benchmarks: Sequence[str] | None = None) -> list[Block]:
    """The report of one run and model, top to bottom."""
    run = results.run
    blocks = [
        Block("heading", f"{run.sweep_name}: {results.model}"),
        Block("text", f"Run {run.id}, {run.status}, started {run.started_at or run.created_at:%Y-%m-%d %H:%M} UTC."),
    ]
    if results.model.startswith("hero-tiny"):
        blocks.append(Block("text", EMBEDDED))
    chosen = results.only(benchmarks)
    blocks += [Block("heading", "Scores"), Block("table", scores(results, chosen)), Block("text", _reading(results))]
    if FULL in results.groups:
        blocks += _retention(results, axis, chosen)
    for chart in frontiers(results, axis, chosen):
        blocks += _chart(chart, results.model)
    blocks += _speeds(results, chosen)
    flagged = straw_men(results, chosen)
    if flagged:
        note = (
            "Difference over benchmarks to the baseline that is hardest to beat; shown better means better than each."
        )
        blocks += [
            Block("heading", "Against straw men"),
            Block("text", note),
            Block("table", tables.straw_men(flagged)),
        ]
    split = difficulty(results, chosen)
    if split:
        note = "Samples that `downsample` solves at the same budget, and those it does not; benchmarks pooled."
        blocks += [Block("heading", "Simple and difficult samples"), Block("text", note)]
        blocks.append(Block("table", tables.difficulty(split)))
    blocks += _against_full(results, chosen)
    blocks += _failures(results)
    return [*blocks, *_provenance(results)]


def scores(results: Results, benchmarks: Sequence[str]) -> str:
    """Main metric of every label on every benchmark, with intervals, in points of 100."""
    rows = []
    for label, found in results.groups.items():
        line = [label]
        for name in benchmarks:
            metrics = [results.metrics[cell.id] for cell in found.get(name, []) if cell.id in results.metrics]
            if not metrics:
                line.append("-")
                continue
            line.append(_score(results, found[name], metrics))
        rows.append(line)
    return table(["Cell", *benchmarks], rows)


def _score(results: Results, cells: Sequence[CellRow], metrics: Sequence[MetricRow]) -> str:
    """A figure with its interval; several seeds are averaged sample by sample first."""
    first = metrics[0]
    if len(metrics) == 1:
        return f"{points(first.value, first.scale)} {span(first.ci_low, first.ci_high, first.scale)}"
    if first.interval == "cluster-bootstrap":
        return points(sum(metric.value for metric in metrics) / len(metrics), first.scale)
    scores = results.scores(cells)
    interval = stats.mean_interval(scores.values, scores.images)
    return f"{points(interval.value)} {span(interval.low, interval.high)}"


def _reading(results: Results) -> str:
    counts = [metric.n for cell in results.cells if (metric := results.metrics.get(cell.id)) is not None]
    least = f"n >= {min(counts)} questions per figure; " if counts else ""
    return f"Points of 100 with 95% intervals clustered by picture; {least}several seeds of a method are averaged."


def _retention(results: Results, axis: str, benchmarks: Sequence[str]) -> list[Block]:
    rows = [
        (item.label, points(item.interval.value), span(item.interval.low, item.interval.high), item.interval.n)
        for item in retained(results, benchmarks)
    ]
    if not rows:
        return []
    chart = average_frontier(results, axis, benchmarks)
    return [
        Block("heading", "Share of the unpruned score"),
        Block("table", table(["Cell", "Average share, %", "95% interval", "n"], rows)),
        *([Block("plot", frontier_chart(chart), chart.title)] if chart.placed else []),
    ]


def _chart(chart: Frontier, model: str) -> list[Block]:
    if not chart.placed:
        return []
    printed = overlay(chart, model)
    note = [Block("text", "Diamonds: printed in papers, at the token counts their budgets mean.")] if printed else []
    plot = Block("plot", frontier_chart(chart, printed), chart.title)
    return [Block("heading", f"Frontier: {chart.title}"), plot, *note, Block("table", tables.frontier(chart))]


def overlay(chart: Frontier, model: str) -> list[Overlaid]:
    """Printed points for this model and benchmark, on axes that papers give; MME only on the scale that is ours."""
    if chart.category or chart.axis not in ("tokens", "flops", "kv"):
        return []
    found = []
    for point in published.overlay(model, chart.benchmark):
        if point.metric == "mme_perception_plus_cognition" and chart.metric == "mme_perception_score":
            continue
        cost = {"tokens": point.tokens, "flops": point.tflops, "kv": point.kv_mib}[chart.axis]
        if cost is None:
            continue
        unit = {"tokens": 1.0, "flops": 1e12, "kv": 2.0**20}[chart.axis]
        source = f"{point.paper} table {point.table}, {point.method} at {100 * (point.budget or 0):g}%"
        found.append(Overlaid(cost * unit, 100 * point.share, f"{source}: {point.value:g} ({point.measured_by})"))
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
        lines = [
            (label, *(number(p.get(key), form) for key, form in _SPEED_COLUMNS.values())) for label, p in group.items()
        ]
        certificate = json.dumps(next(iter(group.values())).get("certificate"), indent=1, sort_keys=True, default=str)
        blocks += [Block("table", table(["Cell", *_SPEED_COLUMNS], lines)), Block("code", certificate)]
    return [Block("heading", "Speed and memory"), *blocks] if blocks else []


_SPEED_COLUMNS = {
    "TTFT p50, ms": ("ttft_ms_p50", ".2f"),
    "TTFT p95, ms": ("ttft_ms_p95", ".2f"),
    "TPOT p50, ms": ("tpot_ms_p50", ".2f"),
    "Decode, tokens/s": ("decode_tokens_per_s", ".1f"),
    "TFLOPs (model)": ("tflops_model", ".4g"),
    "KV, bytes": ("kv_bytes", ".0f"),
    "Peak memory, bytes": ("peak_memory_bytes", ".0f"),
    "n": ("n", "d"),
}


def _against_full(results: Results, benchmarks: Sequence[str]) -> list[Block]:
    if FULL not in results.groups:
        return []
    blocks = [Block("heading", "Paired comparisons with the unpruned model")]
    for label in results.groups:
        found = compare_labels(results, label, FULL, benchmarks) if label != FULL else []
        if found:
            blocks.append(Block("table", tables.comparisons(label, FULL, found)))
    return blocks if len(blocks) > 1 else []


def _failures(results: Results) -> list[Block]:
    failed = results.store.failures(results.run.id, limit=50)
    if not failed:
        return []
    head = ["Benchmark", "Sample", "Error", "Message", "Attempts"]
    rows = [(f["benchmark"], f["sample_key"], f["error_type"], f["error_message"], f["attempts"]) for f in failed]
    return [Block("heading", "Failed samples"), Block("table", table(head, rows, left=4))]


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
        elif block.kind == "code":
            parts.append(f"```json\n{block.text}\n```")
        else:
            parts.append(block.text)
    return "\n\n".join(parts) + "\n"


_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto;margin:1em 0}"
    "td,th{border-bottom:1px solid #ddd;padding:3px 9px;text-align:right;white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left}th{border-bottom:2px solid #888}"
    "pre{background:#f6f6f6;padding:1em;overflow:auto;max-height:30em;font-size:12px}svg{max-width:760px}"
)


def to_html(blocks: Sequence[Block]) -> str:
    """One HTML page without scripts or outside requests."""
    body = []
    for place, block in enumerate(blocks):
        level = "h1" if place == 0 else "h2"
        if block.kind == "heading":
            body.append(f"<{level}>{escape(block.text)}</{level}>")
        elif block.kind == "table":
            body.append(_html_table(block.text))
        elif block.kind == "plot":
            body.append(f"<figure>{block.text}</figure>")
        elif block.kind == "code":
            body.append(f"<pre>{escape(block.text)}</pre>")
        else:
            body.append(f"<p>{escape(block.text)}</p>")
    title = escape(blocks[0].text) if blocks else "hero_ray"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _html_table(markdown: str) -> str:
    head, _, *rows = [_cells(line) for line in markdown.splitlines()]
    lines = ["<table>", "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\0", "|") for cell in line.replace("\\|", "\0").strip("|").split("|")]
