"""Which rows of the papers' efficiency tables are measured, and how: what `perf.gpu_tables` works through.

    python -m perf.paper_tables

prints the plan without measuring anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perf.report import report

GB = 1e9


@dataclass(frozen=True)
class PaperTable:
    """One printed table and how to measure its like.

    Attributes:
        paper, table: as in `hero_ray.results.published`.
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


def main() -> None:
    """List the tables."""
    for name, table in TABLES.items():
        size = "x".join(map(str, table.image))
        print(
            f"{name:6} {table.paper} {table.table:5} {table.model}, picture {size}, {table.methods} at {table.budgets}"
        )
    report("paper_tables", {"tables": list(TABLES)})


if __name__ == "__main__":
    main()
