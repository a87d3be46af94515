"""Break-even and roofline arithmetic on made-up records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hero_ray.core.errors import NotComparableError
from hero_ray.costs.costs import decode_flops, prefill_flops, weight_bytes
from hero_ray.models.base import ModelInfo
from hero_ray.models.shapes import shape
from hero_ray.profiling.breakeven import break_even, largest_paying_budget
from hero_ray.profiling.certificate import certify
from hero_ray.profiling.roofline import Peaks, measure_peaks, phase_rooflines

KNOWN = shape("llava-next-7b")
INFO = ModelInfo("m", "llava-next", "-", True, KNOWN.language, KNOWN.vision, "float32", "cpu", "sdpa", 1)


def record(
    encode: float, select: float, prefill: float, tpot: float, ratio: float = 1.0, batch: int = 1
) -> dict[str, Any]:
    certificate = certify(INFO, batch_size=batch, new_tokens=8, warmup=1, n=5).as_dict()
    return {
        "encode_ms": encode,
        "select_ms": select,
        "prefill_ms": prefill,
        "tpot_ms_p50": tpot,
        "retention_ratio": ratio,
        "certificate": certificate,
    }


FULL = record(50, 0, 200, 30)


@pytest.mark.parametrize(
    ("method", "pays_from", "pays_until"),
    [
        (record(52, 10, 80, 25), 1, None),  # cheaper at once and per step
        (record(60, 200, 80, 25), 20, None),  # 90 ms lost first, 5 won per step: 19 tokens tie
        (record(52, 10, 80, 32), 1, 54),  # 108 ms won first, 2 lost per step
        (record(60, 200, 200, 31), None, None),
        (record(60, 200, 200, 30), None, None),
    ],
)
def test_answer_lengths_that_pay(method: dict, pays_from: int | None, pays_until: int | None) -> None:
    result = break_even(FULL, method)
    assert (result.pays_from, result.pays_until) == (pays_from, pays_until)
    if pays_from is not None:
        assert result.saved_ms(pays_from) > 0
        assert pays_from == 1 or result.saved_ms(pays_from - 1) <= 0
    if pays_until is not None:
        assert result.saved_ms(pays_until) > 0 >= result.saved_ms(pays_until + 1)


def test_overhead_is_what_comes_before_the_language_model() -> None:
    result = break_even(FULL, record(52, 10, 80, 25))
    assert (result.overhead_ms, result.prefill_saved_ms, result.step_saved_ms) == (12, 120, 5)
    assert result.saved_ms(11) == 120 - 12 + 50


def test_largest_budget_that_pays_depends_on_the_answer_length() -> None:
    records = [record(60, 90, 190, 29, 0.4), record(60, 90, 120, 27, 0.2), record(60, 90, 60, 25, 0.1)]
    assert largest_paying_budget(FULL, records, 1) == 0.1
    assert largest_paying_budget(FULL, records, 20) == 0.2
    assert largest_paying_budget(FULL, records, 200) == 0.4
    assert largest_paying_budget(FULL, records[:1], 1) is None


def test_break_even_refuses_unlike_certificates() -> None:
    with pytest.raises(NotComparableError, match="batch_size"):
        break_even(FULL, record(52, 10, 80, 25, batch=4))


def test_rooflines_divide_by_measured_peaks() -> None:
    language, per_layer = KNOWN.language, [600] * 32
    peaks = Peaks(flops_per_s=100e12, bytes_per_s=2e12)
    prefill, decode = phase_rooflines(language, "float16", per_layer, 1, 16, 100.0, 20.0, peaks)
    assert prefill.flops_per_s == pytest.approx(prefill_flops(language, per_layer) / 0.1)
    assert prefill.compute_share == pytest.approx(prefill.flops_per_s / 100e12)
    assert decode.flops_per_s == pytest.approx(decode_flops(language, per_layer, 16) / 15 / 0.02)
    assert decode.bytes_per_s == pytest.approx((weight_bytes(language, 2) + 300 * 2**20) / 0.02)
    assert (prefill.bound, decode.bound) == ("compute", "memory")


def test_seven_billion_weights_are_seven_billion() -> None:
    assert weight_bytes(KNOWN.language, 2) / 2 == pytest.approx(6.6e9, rel=0.01)  # input embeddings are looked up


def test_peaks_are_measured_on_this_machine() -> None:
    peaks = measure_peaks("cpu", "float32", repeats=1)
    assert peaks.flops_per_s > 1e8
    assert peaks.bytes_per_s > 1e7


def paired(n: int, first: float, step: float, noise: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Records with runs: the method's first token is `first` ms faster, each of 24 steps `step` ms, plus noise."""
    rng = np.random.default_rng(4)
    base = {stage: (20 + rng.normal(0, 1, n)).tolist() for stage in ("encode", "select", "prefill", "decode")}
    mine = {stage: list(times) for stage, times in base.items()}
    mine["prefill"] = [time - first + rng.normal(0, noise) for time in mine["prefill"]]
    mine["decode"] = [time - 24 * step + rng.normal(0, noise) for time in mine["decode"]]
    full, method = (record(50, 0, 100, 25) | {"new_tokens": 25} for _ in range(2))
    full["details"], method["details"] = {"runs_ms": base}, {"runs_ms": mine}
    return full, method


def test_what_runs_cannot_tell_apart_is_within_noise() -> None:
    """The noise of both runs of a pair is shared: only what they differ by counts."""
    equal = break_even(*paired(10, 0.0, 0.0, 0.2))
    assert equal.verdict((1, 64, 256)) == "within noise"
    low, high = equal.interval(256) or (1.0, -1.0)
    assert low < 0 < high
    faster = break_even(*paired(10, 3.0, 0.1, 0.2))
    assert faster.verdict((1, 64)) == "pays"
    low, high = faster.interval(64) or (0.0, 0.0)
    assert low < 3.0 + 63 * 0.1 < high
    slower = break_even(*paired(10, -3.0, -0.1, 0.2))
    assert slower.verdict((1, 64)) == "costs"
    assert break_even(*paired(10, 3.0, -0.5, 0.1)).verdict((1, 256)) == "depends"
    assert break_even(FULL, record(52, 10, 80, 25)).interval(8) is None, "records without single runs"


def test_where_it_pays_is_what_the_intervals_show() -> None:
    """The first token loses 2 ms, each step wins 0.1: from 21 tokens on by the means, later where runs are noisy."""
    found = break_even(*paired(10, -2.0, 0.1, 0.5))
    first, last = found.shown
    assert last is None
    assert first is not None
    low, before = found.interval(first), found.interval(first - 1)
    assert low is not None
    assert before is not None
    assert before[0] <= 0 < low[0]
    ends = break_even(*paired(10, 3.0, -0.5, 0.05)).shown
    assert ends[0] == 1
    assert 4 <= (ends[1] or 0) <= 7
    assert break_even(*paired(10, 0.0, 0.0, 0.2)).shown == (None, None)
    assert break_even(FULL, record(52, 10, 80, 25)).shown == (None, None), "records without single runs"


def test_a_budget_pays_only_where_it_is_shown_to() -> None:
    full, equal = paired(10, 0.02, 0.0, 0.2)
    assert largest_paying_budget(full, [equal], 1) is None
