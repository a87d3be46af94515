"""The GPU script's set-up on true-size models without weights: the printed token counts are what will be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hero_ray import models
from hero_ray.core.config import build
from hero_ray.profiling.job import make_probes, prunings_of, read_records
from hero_ray.profiling.requests import arrange
from perf.gpu_tables import Session, against_published, prompt_of
from perf.paper_tables import TABLES


def budgets_of(name: str) -> tuple[Any, list[int]]:
    table = TABLES[name]
    adapter = models.load(table.model, device="meta", **table.model_args)
    config = build({"tasks": ["profile"], "methods": table.methods, "budgets": table.budgets, **table.sweep})
    (probe,) = make_probes([table.image], "Describe")
    return adapter, [arrange(adapter, pruning, probe).budget.total for pruning in prunings_of(config).values()]


def test_hero_table_is_measured_at_the_printed_counts() -> None:
    adapter, budgets = budgets_of("hero")
    assert budgets[1:] == [1044, 522, 261]
    image = make_probes([TABLES["hero"].image], "")[0].image
    unpruned = adapter.prepare(image).layout.sequence.shape[0]
    assert abs(unpruned - 2612) / 2612 < 0.01
    assert adapter.prompt(prompt_of(adapter, 61), None).num_text in (61, 62)


def test_ptp_table_is_measured_at_the_printed_counts() -> None:
    _, budgets = budgets_of("ptp")
    assert budgets == [1792, 896, 716, 537, 358, 179]


def test_hired_budget_is_a_fifth_of_the_padded_grid() -> None:
    assert budgets_of("hired")[1] == [2880, 576]


@pytest.mark.parametrize("name", ["hero", "ptp", "hired"])
def test_ratios_stand_beside_the_printed_ones(name: str) -> None:
    table = TABLES[name]

    def record(key: str, scale: float) -> dict[str, Any]:
        return {
            "key": key,
            "method": key,
            "batch_size": 1,
            "new_tokens": 10,
            "tflops_paper": 40 * scale,
            "peak_memory_bytes": None,
            "kv_bytes": 2**30 * scale,
            "decode_tokens_per_s": 30 / scale,
            "ttft_ms_p50": 1000 * scale,
            "details": {"end_to_end_ms_p50": 300 * scale, "tokens_per_s": 30 / scale},
        }

    text = against_published(table, [record("full", 1.0), record("pruned", 0.5), record("stock", 1.0)])
    rows = [line.strip("|").split("|") for line in text.splitlines()[2:]]
    assert {row[0] for row in rows} == {"full", "pruned"}
    for row in rows:
        if row[0] == "full":
            assert row[5] == "1.000"
        elif row[1] != "gpu_memory_gb":
            assert row[4] == ("2.000" if row[1] in ("decode_tokens_per_s", "throughput") else "0.500")
        else:
            assert row[2] == row[4] == "n/a"


def test_a_step_that_fails_costs_no_other(tmp_path: Path) -> None:
    table = TABLES["hero"]
    record = {
        "kind": "profile",
        "format": 1,
        "key": "stock",
        "method": "stock",
        "model": "m",
        "batch_size": 1,
        "certificate": {"device_name": "A Device"},
        "certificate_hash": "c",
        "retention_ratio": 1.0,
        "details": {"n_text": 60},
        **dict.fromkeys(("tokens", "tflops_paper", "tflops_model", "kv_bytes"), 1.0),
        **dict.fromkeys(("peak_memory_bytes", "decode_tokens_per_s", "ttft_ms_p50", "ttft_ms_p95", "tpot_ms_p50")),
        **dict.fromkeys(("encode_ms", "select_ms", "prefill_ms")),
    }

    def broken() -> list[dict[str, Any]]:
        raise RuntimeError("CUDA error: an illegal instruction was encountered")

    session = Session(tmp_path, None)
    assert not session.step("first", table, broken)
    assert session.step("second", table, lambda: [record])
    assert not session.step("third", table, broken)
    assert set(session.failures) == {"first", "third"}
    assert "illegal instruction" in session.failures["third"]
    assert session.target is not None
    assert read_records(session.target) == [record]
    assert "## second: hero Table VIII" in session.target.with_suffix(".md").read_text()
