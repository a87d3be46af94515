"""The papers' efficiency tables on this GPU: HERO Table VIII, PTP Table V and HiRED's batch question.

    python -m perf.gpu_tables [--out perf/results] [--only hero,ptp,hired] [--repeats 10] [--memory-gb 24]

True architectures with random weights in bf16: batch 1 with stock `generate()` beside ours, the same with decode steps
replayed as CUDA graphs, rooflines from measured peaks, batches up to the out-of-memory point; ratios to the unpruned
model stand beside the printed ones, memory beside its forecast, and how often answers change with their batch. Needs
neither network, Ray nor database. Records go to gpu-DEVICE.jsonl and tables to gpu-DEVICE.md after every step; a step
that fails is named at the end and costs no other. Without CUDA the same code runs on miniature models, to show that it
works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hero_ray import models
from hero_ray.core.config import ProfileSettings, build
from hero_ray.models.graphs import GraphedDecode
from hero_ray.profiling import tables
from hero_ray.profiling.batches import sweep_batches
from hero_ray.profiling.cells import profile_cells
from hero_ray.profiling.job import make_probes, prunings_of, write_records, written
from hero_ray.profiling.roofline import Peaks, measure_peaks
from hero_ray.results import published
from perf.gpu_checks import invariance_line, memory_table
from perf.paper_tables import TABLES, PaperTable
from perf.report import report


def measure(
    table: PaperTable,
    adapter: Any,
    settings: ProfileSettings,
    peaks: Peaks | None,
    batches: Sequence[int] = (),
    memory_gb: float | None = None,
    with_stock: bool = False,
) -> list[dict[str, Any]]:
    """Profile records of one table at batch 1, or at `batches` up to the out-of-memory point under `memory_gb`."""
    config = build({"tasks": ["profile"], "methods": table.methods, "budgets": table.budgets, **table.sweep})
    items, probes = prunings_of(config), make_probes([table.image], prompt_of(adapter, table.text_tokens))
    settings = settings.model_copy(update={"new_tokens": table.new_tokens})
    profiled = partial(profile_cells, energy=torch.cuda.is_available(), peaks=peaks)
    if batches:
        with limited_memory(memory_gb):
            records = sweep_batches(adapter, items, probes[0], batches, settings, print, measure=profiled)
    else:
        records = profiled(adapter, items, probes, settings, print, with_stock=with_stock)
    return written(adapter, records, table=f"{table.paper} {table.table}")


@contextmanager
def limited_memory(memory_gb: float | None) -> Iterator[None]:
    """Let PyTorch have so much of the device, for the duration."""
    if memory_gb is None or not torch.cuda.is_available():
        yield
        return
    release()  # what the allocator holds already counts against the limit
    share = 1e9 * memory_gb / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def release() -> None:
    """Give unused memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
    if not ours or not printed:
        return ""
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


def captured(adapter: Any) -> Any:
    """The same model with decode steps replayed as CUDA graphs (run as they are without CUDA)."""
    adapter.decoder = replace(adapter.decoder, step=GraphedDecode(adapter.runner))
    return adapter


@dataclass
class Session:
    """What is measured so far; written after every step, so that a time limit or a failure costs that step alone."""

    out: Path
    memory_gb: float | None
    records: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    target: Path | None = None

    def step(self, name: str, table: PaperTable, call: Callable[[], list[dict[str, Any]]]) -> bool:
        """Make one measurement and keep it; False, with the failure noted, where it went wrong."""

        def text() -> str:
            found = call()
            self.records += found
            self._write()
            return self._text(name, table, found)

        return self.note(name, text)

    def note(self, name: str, text: Callable[[], str]) -> bool:
        """Keep a text; False, with the failure noted, where it could not be made."""
        started = time.perf_counter()
        print(f"{name}: begun", flush=True)
        try:
            self.texts.append(text())
            self._write()
        except Exception as error:  # whatever it is, the other steps must still be measured
            traceback.print_exc()
            self.failures[name] = f"{type(error).__name__}: {error}"[:500]
            return False
        finally:
            release()
        print(f"{self.texts[-1]}\n\n{name}: {time.perf_counter() - started:.0f} s", flush=True)
        return True

    def _text(self, name: str, table: PaperTable, records: list[dict[str, Any]]) -> str:
        parts = (
            f"## {name}: {table.paper} Table {table.table}, {records[0]['model']}",
            tables.efficiency_table(records),
            against_published(table, records),
            tables.break_even_table(records),
            tables.paying_budget_table(records),
            tables.roofline_table(records),
            batch_edges(records, self.memory_gb),
        )
        return "\n\n".join(filter(None, map(str, parts)))

    def _write(self) -> None:
        if not self.records:
            return  # the file is named after the device that they name
        slug = re.sub(r"[^a-z0-9]+", "-", self.records[0]["certificate"]["device_name"].lower()).strip("-")
        self.target = self.out / f"{'gpu' if torch.cuda.is_available() else 'dry'}-{slug}.jsonl"
        write_records(self.target, self.records)
        self.target.with_suffix(".md").write_text("\n\n".join(self.texts) + "\n", encoding="utf-8")


def run_table(
    name: str,
    table: PaperTable,
    folder: Path,
    session: Session,
    settings: ProfileSettings,
    peaks: Peaks | None,
) -> None:
    """One table in steps: batch 1 with stock beside it, its checks, the same with CUDA graphs, the batch sweep."""
    held: list[Any] = []
    known = len(session.records)

    def first() -> list[dict[str, Any]]:
        started = time.perf_counter()
        held.append(load(table, folder))
        print(f"{name}: loaded in {time.perf_counter() - started:.1f} s", flush=True)
        return measure(table, held[0], settings, peaks, with_stock=True)

    if not session.step(name, table, first) and held:
        session.step(f"{name} without stock", table, lambda: measure(table, held[0], settings, peaks))
    if not held:
        return
    if mine := session.records[known:]:
        session.note(f"{name} memory", lambda: f"## {name} memory\n\n{memory_table(held[0], table.image, mine)}")
    session.note(f"{name} invariance", lambda: f"## {name} invariance\n\n{invariance_line(held[0])}")
    if table.batches:
        session.step(
            f"{name} batches", table, lambda: measure(table, held[0], settings, peaks, table.batches, session.memory_gb)
        )
    else:
        session.step(f"{name} graphs", table, lambda: measure(table, captured(held[0]), settings, peaks))


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
    settings, peaks = ProfileSettings(warmup=arguments.warmup, repeats=arguments.repeats), None
    session = Session(arguments.out, arguments.memory_gb or None)
    if on_gpu:
        try:
            peaks = measure_peaks("cuda", "bfloat16")
        except RuntimeError as error:
            session.failures["peaks"] = str(error)[:500]  # tables without rooflines are worth having
        release()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only.split(","):
            table = TABLES[name]
            if not on_gpu:
                table = replace(table, budgets="0.4,0.1", batches=table.batches[1:2])
            run_table(name, table, Path(folder), session, settings, peaks)
            release()  # the model before the next one is loaded
    hashes = sorted({record["certificate_hash"] for record in session.records})
    figures = {"records": len(session.records), "on_gpu": on_gpu, "file": str(session.target), "certificates": hashes}
    report("gpu_tables", figures | {"failures": session.failures})
    sys.exit(1 if session.failures else 0)


if __name__ == "__main__":
    main()
