"""The papers' efficiency tables on this GPU: HERO Table VIII, PTP Table V and HiRED's batch question.

    python -m perf.gpu_tables [--out perf/results] [--only hero,ptp,hired] [--repeats 10] [--memory-gb 24]

True architectures with random weights, bf16, batch 1, stock `generate()` beside ours; ratios to the unpruned model
stand beside the printed ones. Needs neither network, Ray nor database. Records go to gpu-DEVICE.jsonl and the tables to
gpu-DEVICE.md. Without CUDA the same code runs on miniature models, to show that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hero_ray import models, published
from hero_ray.config import build
from hero_ray.profile import FORMAT, KIND, items_of, make_probes, profile, write_records
from hero_ray.profiling import tables
from hero_ray.profiling.records import ProfileSettings
from hero_ray.profiling.roofline import Peaks, measure_peaks
from perf.report import report

GB = 1e9


@dataclass(frozen=True)
class PaperTable:
    """One printed table and how to measure its like.

    Attributes:
        paper, table: as in `hero_ray.published`.
        image: (width, height) whose token count comes nearest to the printed one.
        methods, budgets, sweep: as in a sweep file.
        text_tokens: text tokens the paper adds; the prompt is padded to as many.
        new_tokens: answer length.
        columns: printed column -> the same figure of a record.
        batches: batch sizes to try up to the out-of-memory point, under `--memory-gb`.
    """

    paper: str
    table: str
    model: str
    image: tuple[int, int]
    methods: str
    budgets: str
    text_tokens: int
    new_tokens: int
    columns: Mapping[str, Callable[[Mapping[str, Any]], float | None]]
    sweep: Mapping[str, Any] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)
    batches: tuple[int, ...] = ()


def _memory_gb(record: Mapping[str, Any]) -> float | None:
    peak = record["peak_memory_bytes"]
    return None if peak is None else peak / GB


def _kv_mib(record: Mapping[str, Any]) -> float:
    return float(record["kv_bytes"]) / 2**20


TABLES = {
    # 2,634 visual tokens, nearest to the 2,612 behind the printed 2,673; pruned rows hit the printed counts exactly.
    "hero": PaperTable(
        "hero",
        "VIII",
        "llava-next-7b",
        (1000, 868),
        "full,hero",
        "1044tok,522tok,261tok",
        text_tokens=61,
        new_tokens=64,
        columns={
            "tflops": lambda record: record["tflops_paper"],
            "gpu_memory_gb": _memory_gb,
            "kv_cache_mb": _kv_mib,
            "decode_tokens_per_s": lambda record: record["decode_tokens_per_s"],
        },
        sweep={"newline_policy": "none"},
    ),
    # total / per-token time is 9.5 in every printed row, so answers of ten tokens.
    "ptp": PaperTable(
        "ptp",
        "V",
        "internvl2-2b",
        (1344, 896),
        "full,ptp",
        "0.5,0.4,0.3,0.2,0.1",
        text_tokens=0,
        new_tokens=10,
        columns={
            "tflops": lambda record: record["tflops_paper"],
            "gpu_memory_gb": _memory_gb,
            "kv_cache_mb": _kv_mib,
            "latency_per_token_ms": lambda record: record["details"]["end_to_end_ms_p50"] / record["new_tokens"],
            "total_time": lambda record: record["details"]["end_to_end_ms_p50"],
        },
        model_args={"max_tiles": 6},
    ),
    "hired": PaperTable(
        "hired",
        "text",
        "llava-next-7b",
        (1000, 1000),
        "full,hired",
        "0.2",
        text_tokens=61,
        new_tokens=32,
        columns={
            "gpu_memory_gb": _memory_gb,
            "throughput": lambda record: record["details"]["tokens_per_s"],
            "ttft_s": lambda record: record["ttft_ms_p50"] / 1e3,
        },
        sweep={"budget_base": "grid"},
        batches=(1, 2, 4, 8, 16),
    ),
}


def measure(
    table: PaperTable, adapter: Any, settings: ProfileSettings, memory_gb: float | None
) -> list[dict[str, Any]]:
    """Profile records of one table."""
    config = build({"tasks": ["profile"], "methods": table.methods, "budgets": table.budgets, **table.sweep})
    settings = replace(settings, new_tokens=table.new_tokens, stock=not table.batches)
    probes = make_probes([table.image], prompt_of(adapter, table.text_tokens))
    limited = bool(table.batches) and memory_gb is not None and torch.cuda.is_available()
    if limited:
        share = (memory_gb or 0) * GB / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    records = profile(adapter, items_of(adapter, config), probes, settings, table.batches, print)
    if limited:
        torch.cuda.set_per_process_memory_fraction(1.0)
    info = {"revision": adapter.info.revision, "family": adapter.info.family, "table": f"{table.paper} {table.table}"}
    return [{"kind": KIND, "format": FORMAT, **info, **record} for record in tables.with_break_even(records)]


def prompt_of(adapter: Any, text_tokens: int) -> str:
    """A user text that makes the whole prompt `text_tokens` long, or as short as the template allows."""
    text = "Describe"
    while adapter.prompt(text, text).num_text < text_tokens:
        text += " it"
    return text


def against_published(table: PaperTable, records: Sequence[Mapping[str, Any]]) -> str:
    """Measured against printed, each as a ratio to its own unpruned row: hardware cancels out, conventions do not."""
    printed = [row for row in published.efficiency() if (row["paper"], row["table"]) == (table.paper, table.table)]
    printed = [row for row in printed if row["model"] == table.model and row["batch_size"] in (None, 1)]
    ours = [record for record in records if record["method"] != "stock" and record["batch_size"] == 1]
    full = {side: rows[0] for side, rows in (("ours", ours), ("theirs", printed))}
    lines = ["|Row|Figure|Measured|Printed|Measured / full|Printed / full|", "|---|---|---:|---:|---:|---:|"]
    for record, row in zip(ours, printed, strict=False):
        for column, value_of in table.columns.items():
            mine, theirs = value_of(record), row[column]
            base, their_base = value_of(full["ours"]), full["theirs"][column]
            if theirs is None or their_base is None:
                continue
            relative = "n/a" if mine is None or not base else f"{mine / base:.3f}"
            shown = "n/a" if mine is None else f"{mine:.4g}"
            lines.append(f"|{record['key']}|{column}|{shown}|{theirs:g}|{relative}|{theirs / their_base:.3f}|")
    return "\n".join(lines)


def batch_edges(records: Sequence[Mapping[str, Any]], memory_gb: float | None) -> str:
    """Largest batch of every method, where a batch sweep was made."""
    edges = {record["key"]: record["details"].get("batch_sweep") for record in records}
    where = "the whole device" if memory_gb is None else f"{memory_gb:g} GB"
    lines = [
        f"{key}: {edge['largest_batch']} requests fit into {where}; out of memory at {edge['out_of_memory_at']}"
        for key, edge in edges.items()
        if edge
    ]
    return "\n".join(lines)


def load(table: PaperTable, folder: Path) -> Any:
    """The true architecture on the GPU, or a miniature of its family without one."""
    if torch.cuda.is_available():
        return models.load(f"{table.model}:random", device="cuda", dtype="bfloat16", **table.model_args)
    from hero_ray.models import miniature

    if table.model.startswith("internvl2"):
        return models.load(str(miniature.write_internvl2(miniature.internvl2(), folder / "internvl2")))
    return models.load(str(miniature.write_llava(miniature.llava_next(), folder / "llava", miniature.clip())))


def _text_of(table: PaperTable, records: list[dict[str, Any]], memory_gb: float | None) -> str:
    title = f"## {table.paper} Table {table.table}, {records[0]['model']}"
    parts = (
        title,
        tables.efficiency_table(records),
        against_published(table, records),
        tables.break_even_table(records),
        tables.paying_budget_table(records),
        tables.roofline_table(records),
        batch_edges(records, memory_gb),
    )
    return "\n\n".join(part for part in parts if part)


def _write(folder: Path, on_gpu: bool, records: list[dict[str, Any]], texts: list[str]) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", records[0]["certificate"]["device_name"].lower()).strip("-")
    target = folder / f"{'gpu' if on_gpu else 'dry'}-{slug}.jsonl"
    write_records(target, records)
    target.with_suffix(".md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("perf/results"))
    parser.add_argument("--only", default=",".join(TABLES))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--memory-gb", type=float, default=24.0, help="memory the batch sweep may use; 0: all of it")
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        print("no CUDA device: running on miniature models to show that the script works; its figures mean nothing")
    settings = ProfileSettings(warmup=arguments.warmup, repeats=arguments.repeats, energy=on_gpu)
    peaks: Peaks | None = measure_peaks("cuda", "bfloat16") if on_gpu else None
    memory_gb = arguments.memory_gb or None
    records: list[dict[str, Any]] = []
    texts: list[str] = []
    target = arguments.out
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only.split(","):
            table = (
                TABLES[name] if on_gpu else replace(TABLES[name], budgets="0.4,0.1", batches=TABLES[name].batches[:2])
            )
            found = measure(table, load(table, Path(folder)), replace(settings, peaks=peaks), memory_gb)
            texts.append(_text_of(table, found, memory_gb))
            print(texts[-1] + "\n")
            records += found
            target = _write(arguments.out, on_gpu, records, texts)  # after each table: a time limit costs one table
            gc.collect()  # the model before the next one is loaded
            if on_gpu:
                torch.cuda.empty_cache()
    hashes = sorted({record["certificate_hash"] for record in records})
    report("gpu_tables", {"records": len(records), "on_gpu": on_gpu, "file": str(target), "certificates": hashes})


if __name__ == "__main__":
    main()
