"""Profile records as tables: the shape of HERO's Table VIII, break-even, and rooflines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.core.plan import FULL
from hero_ray.profiling.breakeven import BreakEven, break_even, largest_paying_budget
from hero_ray.results.axes import AXES
from hero_ray.results.writer import EMPTY, Grid, grid

MIB, GB = 2**20, 1e9
NOT_KNOWN = "n/a"


def efficiency_table(records: Sequence[Mapping[str, Any]]) -> Grid:
    """One row per record; tokens are text and visual together, as HERO counts them, with the visual ones beside.

    The last columns say what is saved against the unpruned model of the same certificate, in percent.
    """
    counted = [record[key] for record in records for key in ("tflops_paper", "tflops_model")]
    flops = AXES["flops"].unit(None if tera is None else 1e12 * tera for tera in counted)
    cache = min(AXES["kv"].unit(record["kv_bytes"] for record in records), (MIB, "MiB"))  # papers print no GiB
    header = (
        f"Method|Kept|Batch|Tokens|Visual|{flops[1]} (Eq. 7)|{flops[1]} (model)|Memory GB|KV {cache[1]}|Decode tok/s|"
        "TTFT ms p50|TTFT ms p95|Runs|TPOT ms|Encode ms|Select ms|Prefill ms"
    )
    rows = [_efficiency_row(record, 1e12 / flops[0], 1 / cache[0]) for record in records]
    bases = _bases(records)
    if bases:
        header += "".join(f"|{title} saved %" for title in _SAVED.values())
        rows = [row + _saved(record, bases) for record, row in zip(records, rows, strict=True)]
    return _grid(header, rows)


_SAVED = {"tokens": "Visual", "flops": "FLOPs", "kv": "KV", "ttft": "TTFT"}


def _bases(records: Sequence[Mapping[str, Any]], baseline: str = FULL) -> dict[str, Mapping[str, Any]]:
    """Certificate -> the unpruned model's record under it."""
    return {record["certificate_hash"]: record for record in records if record["method"] == baseline}


def _saved(record: Mapping[str, Any], bases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    base = bases.get(record["certificate_hash"])
    fields = {"tokens": "tokens", "flops": "tflops_model", "kv": "kv_bytes", "ttft": "ttft_ms_p50"}
    less = [None if base is None else AXES[key].saved(record[fields[key]], base[fields[key]]) for key in _SAVED]
    return [_number(value, ".0f") for value in less]


def _efficiency_row(record: Mapping[str, Any], tera: float, cache: float) -> list[str]:
    """A record's figures; `tera` and `cache` are what a TFLOP and a byte are in the table's units."""
    memory = record["peak_memory_bytes"]
    return [
        record["key"].split("@")[0],
        f"{100 * record['retention_ratio']:.4g}%",
        str(record["batch_size"]),
        _number(record["tokens"] + record["details"]["n_text"], ".0f"),
        _number(record["tokens"], ".0f"),
        _significant(tera * record["tflops_paper"]),
        _significant(tera * record["tflops_model"]),
        _number(None if memory is None else memory / GB, ".2f"),
        _significant(cache * record["kv_bytes"]),
        _number(record["decode_tokens_per_s"], ".1f"),
        _number(record["ttft_ms_p50"], ".2f"),
        _number(record["ttft_ms_p95"], ".2f"),
        str(record.get("n") or NOT_KNOWN),
        _number(record["tpot_ms_p50"], ".2f"),
        _number(record["encode_ms"], ".2f"),
        _number(record["select_ms"], ".2f"),
        _number(record["prefill_ms"], ".2f"),
    ]


def with_break_even(records: Sequence[dict[str, Any]], baseline: str = FULL) -> list[dict[str, Any]]:
    """Records with `details.break_even` against the baseline of the same certificate, where there is one."""
    bases = _bases(records, baseline)
    completed = []
    for record in records:
        base = bases.get(record["certificate_hash"])
        if base is not None and record is not base and base["tpot_ms_p50"] is not None:
            result = break_even(base, record)
            record = record | {"details": record["details"] | {"break_even": vars(result)}}
        completed.append(record)
    return completed


def break_even_table(records: Sequence[Mapping[str, Any]], lengths: Sequence[int] = (1, 16, 64, 256)) -> Grid:
    """Time won or lost against the unpruned model by answer length; empty where nothing can be compared."""
    rows = []
    for record in records:
        if "break_even" not in record["details"]:
            continue
        result = BreakEven(**record["details"]["break_even"])
        rows.append(
            [
                record["key"].split("@")[0],
                f"{100 * record['retention_ratio']:.4g}%",
                str(record["batch_size"]),
                f"{result.overhead_ms:+.2f}",
                f"{result.prefill_saved_ms:+.2f}",
                f"{result.step_saved_ms:+.3f}",
                _pays(result, lengths),
                *(_won(result, length) for length in lengths),
            ]
        )
    won = "|".join(f"won at {length} tok, ms" for length in lengths)
    header = f"Method|Kept|Batch|Overhead ms|Prefill saved ms|Saved per step ms|Pays for answers of|{won}"
    return _grid(header, rows) if rows else EMPTY


def paying_budget_table(records: Sequence[Mapping[str, Any]], lengths: Sequence[int] = (1, 16, 64, 256)) -> Grid:
    """Largest budget at which a method still gains time, by answer length; empty where nothing can be compared."""
    bases = _bases(records)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        if "break_even" in record["details"]:
            groups.setdefault((record["key"].split("@")[0], record["certificate_hash"]), []).append(record)
    rows = []
    for (method, certificate), group in groups.items():
        budgets = [largest_paying_budget(bases[certificate], group, length) for length in lengths]
        shown = ["none" if budget is None else f"{100 * budget:.4g}%" for budget in budgets]
        rows.append([method, str(group[0]["batch_size"]), *shown])
    answers = "|".join(f"pays at {length} tok up to" for length in lengths)
    return _grid(f"Method|Batch|{answers}", rows) if rows else EMPTY


def _won(result: BreakEven, length: int) -> str:
    bounds = result.interval(length)
    if bounds is None:
        return f"{result.saved_ms(length):+.1f}"
    return f"{sum(bounds) / 2:+.1f} ± {(bounds[1] - bounds[0]) / 2:.1f}"


def _pays(result: BreakEven, lengths: Sequence[int]) -> str:
    """Answer lengths that gain time: where single runs tell, those that are shown to, as the columns beside say."""
    first, last = result.pays_from, result.pays_until
    if result.interval(1) is not None:
        first, last = result.shown
        if first is None:
            return {"costs": "none", "within noise": "within noise"}.get(result.verdict(lengths), "none shown")
    if first is None:
        return "none"
    if last is not None:
        return f"{first}..{last} tokens"
    return "any length" if first == 1 else f">= {first} tokens"


def roofline_table(records: Sequence[Mapping[str, Any]]) -> Grid:
    """Achieved rates over measured peaks; empty where no peaks were measured."""
    rows = [
        [
            record["key"].split("@")[0],
            f"{100 * record['retention_ratio']:.4g}%",
            str(record["batch_size"]),
            line["phase"],
            f"{line['flops_per_s'] / 1e12:.3g}",
            f"{100 * line['compute_share']:.1f}%",
            f"{line['bytes_per_s'] / 1e9:.3g}",
            f"{100 * line['bandwidth_share']:.1f}%",
            line["bound"],
        ]
        for record in records
        for line in record["details"].get("roofline", ())
    ]
    header = "Method|Kept|Batch|Phase|TFLOP/s|of peak|GB/s (least)|of peak|Nearer roof"
    return _grid(header, rows) if rows else EMPTY


def _grid(header: str, rows: Sequence[Sequence[str]]) -> Grid:
    return grid(header.split("|"), rows, left=2)


def _number(value: float | None, form: str) -> str:
    return NOT_KNOWN if value is None else format(value, form)


def _significant(value: float) -> str:
    """Two decimals for large figures, three digits for small ones (a toy model's TFLOPs)."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"
