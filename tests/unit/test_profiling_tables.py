"""Profile records as tables."""

from __future__ import annotations

from typing import Any

from hero_ray.models.base import ModelInfo
from hero_ray.models.shapes import shape
from hero_ray.profiling.certificate import certify
from hero_ray.profiling.tables import (
    break_even_table,
    efficiency_table,
    paying_budget_table,
    roofline_table,
    with_break_even,
)
from hero_ray.results.writer import Grid

KNOWN = shape("llava-next-7b")
INFO = ModelInfo("m", "llava-next", "-", True, KNOWN.language, KNOWN.vision, "float32", "cpu", "sdpa", 1)


def record(method: str, ratio: float, prefill: float, tpot: float, batch: int = 1) -> dict[str, Any]:
    certificate = certify(INFO, batch_size=batch, new_tokens=8, warmup=1, n=5)
    return {
        "key": f"{method}@{100 * ratio:g}%",
        "method": method,
        "retention_ratio": ratio,
        "batch_size": batch,
        "tokens": 2612 * ratio,
        "tflops_paper": 38.37 * ratio,
        "tflops_model": 0.000123,
        "peak_memory_bytes": None,
        "kv_bytes": 2**20 * 1336.5,
        "decode_tokens_per_s": 1e3 / tpot,
        "encode_ms": 50.0,
        "select_ms": 0.0 if method == "full" else 10.0,
        "prefill_ms": prefill,
        "ttft_ms_p50": prefill + 50,
        "ttft_ms_p95": prefill + 60,
        "tpot_ms_p50": tpot,
        "certificate": certificate.as_dict(),
        "certificate_hash": certificate.hash,
        "details": {"n_text": 61},
    }


def cells(table: Grid) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in str(table).splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_efficiency_table_counts_tokens_as_hero_does() -> None:
    (row,) = cells(efficiency_table([record("full", 1.0, 200, 30)]))
    assert (row["Method"], row["Kept"], row["Tokens"], row["Visual"]) == ("full", "100%", "2673", "2612")
    assert (row["TFLOPs (Eq. 7)"], row["TFLOPs (model)"]) == ("38.37", "0.000123")
    assert (row["KV MiB"], row["Memory GB"], row["Decode tok/s"]) == ("1336.50", "n/a", "33.3")


def test_savings_against_the_unpruned_model_of_the_same_certificate_are_the_last_columns() -> None:
    timed = [record("full", 1.0, 200, 30), record("hero", 0.2, 80, 25), record("hero", 0.2, 80, 25, batch=4)]
    rows = cells(efficiency_table(timed))
    saved = [[row[f"{name} saved %"] for name in ("Visual", "FLOPs", "KV", "TTFT")] for row in rows]
    assert saved == [["0", "0", "0", "0"], ["80", "0", "0", "48"], ["n/a"] * 4]
    assert not any("saved" in name for name in cells(efficiency_table(timed[1:]))[0])


def test_small_models_are_told_in_units_that_show_digits() -> None:
    tiny = record("full", 1.0, 200, 30) | {"tflops_paper": 0.000586, "kv_bytes": 681574}
    (row,) = cells(efficiency_table([tiny]))
    assert (row["MFLOPs (Eq. 7)"], row["MFLOPs (model)"], row["KV KiB"]) == ("586.00", "123.00", "665.60")


def test_break_even_is_only_formed_under_one_certificate() -> None:
    records = [record("full", 1.0, 200, 30), record("hero", 0.2, 80, 25), record("hero", 0.2, 80, 25, batch=4)]
    same, other = with_break_even(records)[1:]
    assert same["details"]["break_even"]["pays_from"] == 1
    assert "break_even" not in other["details"]
    assert "break_even" not in records[1]["details"]  # records are not changed in place


def test_break_even_table_says_which_answers_gain() -> None:
    records = [
        record("full", 1.0, 200, 30),
        record("a", 0.4, 195, 29),  # 5 ms lost first, 1 won per step
        record("b", 0.2, 80, 32),  # 110 won first, 2 lost per step
        record("c", 0.1, 200, 31),
        record("d", 0.1, 80, 25),
    ]
    rows = {row["Method"]: row for row in cells(break_even_table(with_break_even(records)))}
    pays = {method: row["Pays for answers of"] for method, row in rows.items()}
    assert pays == {"a": ">= 7 tokens", "b": "1..55 tokens", "c": "none", "d": "any length"}
    assert rows["d"]["won at 16 tok, ms"] == "+185.0"


def test_the_column_and_the_table_of_where_it_pays_agree() -> None:
    """Medians said "any length" where the runs beside them show nothing at one token."""
    full, hero = record("full", 1.0, 100, 20), record("hero", 0.2, 99, 20)
    pairs = {"n": 10, "first": 1.0, "step": 0.2, "var_first": 9.0, "var_step": 0.01, "covariance": 0.0}
    hero["details"]["break_even"] = {
        "overhead_ms": 0.0, "prefill_saved_ms": 1.0, "step_saved_ms": 0.2, "pays_from": 1, "pays_until": None,
        "pairs": pairs,
    }  # fmt: skip
    (row,) = cells(break_even_table([full, hero]))
    assert row["Pays for answers of"] == ">= 7 tokens", "2.2 - 2.26 sqrt(9.36 / 10) is the first above 0"
    assert row["won at 1 tok, ms"] == "+1.0 ± 2.1"


def test_paying_budgets_grow_with_the_answer() -> None:
    records = [
        record("full", 1.0, 200, 30),
        record("hero", 0.4, 195, 29),
        record("hero", 0.2, 100, 27),
        record("hired", 0.2, 200, 31),
    ]
    rows = {row["Method"]: row for row in cells(paying_budget_table(with_break_even(records)))}
    assert [rows["hero"][f"pays at {length} tok up to"] for length in (1, 16, 64)] == ["20%", "40%", "40%"]
    assert rows["hired"]["pays at 256 tok up to"] == "none"


def test_empty_views_print_nothing() -> None:
    assert str(break_even_table([record("full", 1.0, 200, 30)])) == ""
    assert not paying_budget_table([record("full", 1.0, 200, 30)]).columns
    assert not roofline_table([record("full", 1.0, 200, 30)]).columns
