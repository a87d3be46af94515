"""A paper's table beside what a run measured: reproduced, differs, or not comparable and why.

`reproduced` needs the same model, method, setting, budget (counted as the paper does), scoring rules and the whole
split, and the printed value within the measured 95 % interval widened by its own rounding. What is unlike is never
called a difference: it is `not comparable`, with the first reason found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hero_ray import benchmarks
from hero_ray.benchmarks import sizes
from hero_ray.core.errors import UnknownNameError
from hero_ray.core.types import Metric
from hero_ray.costs.ledger import ledger
from hero_ray.methods import create
from hero_ray.results import published
from hero_ray.studies import verify_rules as rules
from hero_ray.studies import verify_studies
from hero_ray.studies.printed import PrintedValue, TableName, printed_values
from hero_ray.studies.records import FigureTable

if TYPE_CHECKING:
    from hero_ray.store import CellRow, MetricRow, Store

REPRODUCED, DIFFERS, UNLIKE = "reproduced", "differs", "not comparable"


@dataclass(frozen=True)
class VerifiedLine:
    """A printed value with its verdict; `measured` is on the paper's scale."""

    what: str
    printed: str
    measured: float | None
    low: float | None
    high: float | None
    verdict: str
    why: str


def tables() -> list[TableName]:
    """Every printed table that rows exist for, text passages left out."""
    every = [*published.results(), *published.efficiency(), *published.ablations()]
    return sorted({(row["paper"], row["table"]) for row in every if not row["table"].startswith("text")})


def parse_table(text: str | None) -> TableName:
    """Read `hero-IV`.

    Raises:
        UnknownNameError: no such table.
    """
    known = {f"{paper}-{table}": (paper, table) for paper, table in tables()}
    folded = {name.lower(): name for name in known}
    name = folded.get((text or "").lower())
    if name is None:
        raise UnknownNameError("table", text or "", known)
    return known[name]


def check(store: Store, run: str, table: TableName, model: str | None = None) -> list[VerifiedLine]:
    """Every printed value of a table with its verdict; `model` stands for the paper's own where given."""
    if table in rules.BY_STUDY:
        from hero_ray.store import studies

        return study_lines(table, store.read(studies.found, verify_studies.STUDY[table]), model)
    found = store.run(run)
    cells, metrics = store.cells(found.id), store.metrics(found.id)
    base = str(found.config.get("budget_base", "real"))
    lines = [judge(printed, cells, metrics, base, model) for printed in printed_values(table)]
    return lines + cost_lines(table)


def judge(
    printed: PrintedValue,
    cells: Sequence[CellRow],
    metrics: Mapping[str, Sequence[MetricRow]],
    budget_base: str,
    model: str | None = None,
) -> VerifiedLine:
    """The verdict on one printed value."""
    budget = "" if printed.budget is None else f" {100 * printed.budget:g}%"
    what = " ".join(filter(None, (f"{printed.setting}{budget}", printed.model, printed.benchmark, printed.category)))
    line = VerifiedLine(what, printed.digits, None, None, None, UNLIKE, "")
    wanted = model or printed.model
    cell = next((cell for cell in cells if _matches(cell, printed, wanted)), None)
    if cell is None:
        others = {cell.model for cell in cells}
        unlike = f"the run measured {', '.join(sorted(others))}" if wanted not in others else "no such cell in the run"
        return replace(line, why=unlike)
    figure = _figure(printed, cell, metrics.get(cell.id, ()))
    if figure is None:
        known = _unlike(printed, cell, wanted, budget_base)
        return replace(line, why=known or f"flavour {cell.flavour} gives no figure on the paper's scale")
    measured, low, high = figure
    line = replace(line, measured=measured, low=low, high=high)
    reason = _unlike(printed, cell, wanted, budget_base) or printed.doubt
    if reason:
        return replace(line, why=reason)
    return _decided(line, printed.value)


def _matches(cell: CellRow, printed: PrintedValue, model: str) -> bool:
    if (cell.model, cell.method, cell.benchmark) != (model, printed.method, printed.benchmark):
        return False
    budgeted = getattr(create(cell.method), "takes_budget", True) and printed.method != "full"
    if budgeted and printed.budget is not None and abs(cell.retention_ratio - printed.budget) > 1e-6:
        return False
    expected = create(cell.method, variant=cell.variant, **printed.params).parameters()
    return _plain(cell.params) == _plain(expected)


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON gives them back; the random baseline's seed is no setting."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in params.items() if k != "seed"}


def _figure(
    printed: PrintedValue, cell: CellRow, rows: Sequence[MetricRow]
) -> tuple[float, float | None, float | None] | None:
    """The measured figure on the paper's scale with its interval."""
    benchmark: Any = benchmarks.get(cell.benchmark, flavour=cell.flavour)
    if printed.category:
        row = next((row for row in rows if _same(row, printed.category)), None)
        if row is None:
            return None
        factor = 1.0 if cell.benchmark == "mme" else 100.0 / row.scale
        low, high = (None if v is None else v * factor for v in (row.ci_low, row.ci_high))
        return row.value * factor, low, high
    figures = benchmark.paper_figures([Metric(row.metric, row.value, row.n, row.category) for row in rows])
    main = next((row for row in rows if row.is_main and not row.category), None)
    if printed.paper not in figures or main is None:
        return None
    value = float(figures[printed.paper])
    if main.ci_low is None or main.ci_high is None or not main.value:
        return value, None, None
    factor = value / main.value
    return value, main.ci_low * factor, main.ci_high * factor


def _same(row: MetricRow, category: str) -> bool:
    plain = category.replace(" and ", " & ").replace("_", " ").lower()
    if row.category:
        return row.category.replace(" and ", " & ").replace("_", " ").lower() == plain
    return row.metric in (f"pope_{category}", f"mme_{category}_score", f"mme_{category}")


def _unlike(printed: PrintedValue, cell: CellRow, model: str, budget_base: str) -> str:
    """The first way in which a measured cell is not what the paper measured, or ""."""
    if model != printed.model:
        return f"other model: {model} instead of {printed.model}"
    if other := rules.OTHER_POPULATION.get((printed.paper, cell.benchmark)):
        return other
    if cell.flavour not in rules.FLAVOURS[printed.paper]:
        return f"other scoring rules: {cell.flavour} instead of {' or '.join(rules.FLAVOURS[printed.paper])}"
    if budget_base != "grid" and printed.method != "full":
        return "other budget: a share of real patch tokens, the paper's of (K + 1) N"
    whole = sizes.rows(benchmarks.get_class(cell.benchmark))
    if whole and cell.n_done < whole:
        return f"other split: {cell.n_done} of {whole} questions answered"
    return ""


def cost_lines(table: TableName) -> list[VerifiedLine]:
    """Printed FLOPs and cache against Eq. 7 at the printed token count; speeds need the paper's own hardware."""
    lines = []
    for row in published.efficiency():
        if (row["paper"], row["table"]) != table:
            continue
        label = f"{row['method']} {100 * row['budget']:g}% {row['model']}" if row["budget"] else row["method"]
        if row["tokens"] is not None:
            counted = ledger(row["model"], [int(row["tokens"])], 0)[0]
            mib = row["kv_mib_recomputed"]
            pairs = (("TFLOPs", "tflops", counted["tflops_paper"]), ("KV MiB", "kv_cache_mb", mib))
            lines += [_cost(label, name, row[key], value) for name, key, value in pairs if row[key] is not None]
        for key in ("gpu_memory_gb", "decode_tokens_per_s", "latency_per_token_ms", "ttft_s", "throughput"):
            if row.get(key) is not None:
                why = f"speed and memory of {row['hardware']}, batch {row['batch_size']}; measure on the same device"
                lines.append(VerifiedLine(f"{label} {key}", f"{row[key]:g}", None, None, None, UNLIKE, why))
    return lines


def _cost(label: str, name: str, printed: float, value: float) -> VerifiedLine:
    rounding = 0.5 * 10.0 ** -len(f"{printed:g}".partition(".")[2])
    same = math.isclose(value, printed, abs_tol=rounding + 1e-9)
    why = "" if same else "by Eq. 7 at the printed token count"
    return VerifiedLine(f"{label} {name}", f"{printed:g}", value, None, None, REPRODUCED if same else DIFFERS, why)


def study_lines(
    table: TableName, stored: Sequence[Mapping[str, Any]] = (), model: str | None = None
) -> list[VerifiedLine]:
    """Tables that a study measures, beside its newest stored execution; without one, a line that says which it is."""
    if table not in rules.BY_STUDY:
        return []
    study = verify_studies.newest(stored, table, model)
    if study is None:
        return [
            VerifiedLine(
                f"{table[0]} {table[1]}", "", None, None, None, UNLIKE, f"measured by `{rules.BY_STUDY[table]}`"
            )
        ]
    return [_beside(row, study) for row in verify_studies.printed_rows(table)]


def _beside(row: Mapping[str, Any], study: Mapping[str, Any]) -> VerifiedLine:
    setting = f"{row['variant']} {row['parameter']} {row['parameter_value']}"
    line = VerifiedLine(
        f"{setting} {row['benchmark']} {row['category']}".strip(), row["printed"], None, None, None, UNLIKE, ""
    )
    found = verify_studies.measured(row, study)
    if found is None:
        return replace(line, why=verify_studies.missing(study, row))
    factor = verify_studies.factor(row)
    value, low, high = (
        None if v is None else v * factor for v in (found.get("score", found.get("mean")), found["low"], found["high"])
    )
    line = replace(line, measured=value, low=low, high=high)
    if reason := verify_studies.unlike(row, study, found):
        return replace(line, why=reason)
    return _decided(line, float(row["value"]))


def _decided(line: VerifiedLine, printed: float) -> VerifiedLine:
    """Reproduced where the printed value lies in the measured interval, widened by its rounding."""
    if line.low is None or line.high is None:
        return replace(line, why="the measured figure has no interval")
    rounding = 0.5 * 10.0 ** -len(line.printed.partition(".")[2])
    within = line.low - rounding <= printed <= line.high + rounding
    return replace(line, verdict=REPRODUCED if within else DIFFERS, why="" if within else "outside the interval")


def as_table(lines: Iterable[VerifiedLine], table: TableName) -> FigureTable:
    """Verdicts as a table for people."""
    rows = tuple(
        (i.what, i.printed, *(_short(v) for v in (i.measured, i.low, i.high)), i.verdict, i.why) for i in lines
    )
    columns = ("setting", "printed", "measured", "low", "high", "verdict", "why")
    return FigureTable(f"{table[0].upper()} FigureTable {table[1]}", columns, rows)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def tally(lines: Iterable[VerifiedLine]) -> dict[str, int]:
    """How many values got each verdict."""
    return dict(Counter(line.verdict for line in lines))


def remarks(table: TableName) -> tuple[str, ...]:
    """What contradicts itself in a table, or in what the paper says of it."""
    return rules.REMARKS.get(table, ())
