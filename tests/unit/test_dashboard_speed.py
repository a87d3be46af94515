"""Speed figures: conditions, break-even, stages."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("plotly")

from dashboard import profiles, speed_figures


def profile(method: str, ratio: float, batch: int = 1, **more: Any) -> dict[str, Any]:
    certificate = {"device_name": "CPU", "dtype": "float32", "batch_size": batch, "n": 10, "model": "m"}
    base = {
        "run_id": "run",
        "cell_id": f"{method}{ratio}",
        "model": "m",
        "method": method,
        "variant": "exact",
        "params": {},
        "retention_ratio": ratio,
        "cell_tokens": None,
        "own_count": False,
        "seed": 0,
        "benchmark": "bench",
        "batch_size": batch,
        "new_tokens": 8,
        "tokens": 100 * ratio,
        "tflops_paper": 0.1,
        "tflops_model": 0.1,
        "tflops_encoder": None,
        "tflops_scoring": None,
        "kv_bytes": 2.0**20,
        "peak_memory_bytes": None,
        "encode_ms": 5.0,
        "select_ms": 0.0 if method == "full" else 2.0,
        "prefill_ms": 20 * ratio,
        "ttft_ms_p50": 20.0,
        "ttft_ms_p95": 22.0,
        "tpot_ms_p50": 1.0 + ratio,
        "decode_tokens_per_s": 500.0,
        "n": 10,
        "certificate": certificate,
        "certificate_hash": f"h{batch}",
        "details": None,
    }
    return base | more


def test_conditions_join_batch_sizes_but_never_devices() -> None:
    other = profile("hero", 0.2)
    other["certificate"] = other["certificate"] | {"device_name": "GPU"}
    groups = profiles.conditions([profile("full", 1.0), profile("hero", 0.2), profile("hero", 0.2, 4), other])
    assert [len(group.rows) for group in groups] == [3, 1]
    assert groups[0].batch_sizes == [1, 4]
    assert [r["label"] for r in groups[0].at(1)] == ["full 100%", "hero 20%"]


def test_differing_conditions_are_named_with_their_values() -> None:
    first = {"device_name": "H100", "dtype": "bfloat16", "n": 10, "commit": "a"}
    second = {"device_name": "L20", "dtype": "bfloat16", "n": 20, "commit": "b"}
    assert profiles.differing_conditions([first, second]) == ["device name (H100, L20)"]


def test_the_same_measurement_stored_with_several_benchmarks_counts_once() -> None:
    (group,) = profiles.conditions([profile("hero", 0.2), profile("hero", 0.2, benchmark="other", cell_id="x")])
    assert len(group.rows) == 1


def test_efficiency_table_leaves_out_what_nobody_measured() -> None:
    (line,) = profiles.table_rows([profile("hero", 0.2) | {"series": "hero", "budget": "20%"}])
    assert line["KV cache, MiB"] == 1.0
    assert not [name for name in line if name.startswith("Memory")]


def test_efficiency_says_what_is_saved_against_the_unpruned_model_of_the_same_batch() -> None:
    named = {"series": "x", "budget": "20%"}
    rows = [profile("full", 1.0) | named, profile("hero", 0.2) | named, profile("hero", 0.2, batch=4) | named]
    full, hero, other = profiles.table_rows(rows)
    assert (full["Tokens saved, %"], hero["Tokens saved, %"]) == (0, 80)
    assert other["Tokens saved, %"] is None
    assert not [name for name in profiles.table_rows(rows[1:2])[0] if "saved" in name]


def test_efficiency_speaks_in_the_units_it_is_given() -> None:
    row = profile("hero", 0.2) | {"series": "hero", "budget": "20%"}
    (line,) = profiles.table_rows([row], (1e6, "MFLOPs"), (1024.0, "KiB"))
    assert line["KV cache, KiB"] == 1024.0
    (other,) = profiles.table_rows([row], (1e9, "GFLOPs"), (1024.0, "KiB"))
    assert line["Prefill, MFLOPs"] == pytest.approx(1000 * other["Prefill, GFLOPs"], rel=0.01)


@pytest.mark.parametrize("tokens", [1, 7, 200])
def test_break_even_agrees_with_the_profiler(tokens: int) -> None:
    from hero_ray.profiling import breakeven

    full, hero = profile("full", 1.0), profile("hero", 0.2)
    first = hero["encode_ms"] + hero["select_ms"] - full["encode_ms"] - full["select_ms"]
    theirs = breakeven.BreakEven(first, 20 - 4.0, 2.0 - 1.2, 1, None)
    assert speed_figures.saved_ms(full, hero, tokens) == pytest.approx(theirs.saved_ms(tokens))


def test_stage_bars_add_up_to_the_request() -> None:
    hero = profile("hero", 0.2, label="hero 20%")
    figure = speed_figures.stage_bars([hero])
    assert [trace.name for trace in figure.data] == ["encode", "select", "prefill", "decode"]
    assert sum(trace.x[0] for trace in figure.data) == pytest.approx(5 + 2 + 4 + 7 * 1.2)
