"""The papers' numbers: all of them, with the digits as printed."""

from __future__ import annotations

import pytest

from hero_ray.results import published
from hero_ray.results.database import open_results
from hero_ray.store import printed as q


def test_every_printed_value_is_in_a_fresh_database() -> None:
    with open_results("sqlite://") as store, store.engine.connect() as connection:
        main = q.published(connection, plot_only=False)
        costs = q.published_efficiency(connection)
        ablations = q.published_ablations(connection, plot_only=False)
    assert (len(main), len(costs), len(ablations)) == (405, 20, 447)
    printed = published._file("results")
    assert [(row["line"], row["printed"], row["value"]) for row in main] == [
        (i, row["value"], float(row["value"])) for i, row in enumerate(printed, start=2)
    ]
    for row, source in zip(costs, published._file("efficiency"), strict=True):
        for name in ("tokens", "tflops", "gpu_memory_gb", "kv_cache_mb", "ttft_s", "total_time", "performance"):
            assert row[name] == (float(source[name]) if source[name] else None)
    assert [row["printed"] for row in ablations] == [row["value"] for row in published._file("ablations")]


def test_loading_again_changes_nothing() -> None:
    with open_results("sqlite://") as store:
        with store.engine.connect() as connection:
            before = q.published(connection)
        sizes = {"published": 405, "published_efficiency": 20, "published_ablations": 447}
        assert published.load(store) == sizes
        with store.engine.connect() as connection:
            assert q.published(connection) == before


@pytest.mark.parametrize(
    ("place", "printed"),
    [
        (("hero", "IV", "llava-next-7b", "full", 1.0, "vqav2"), "81.8"),
        (("hero", "IV", "llava-next-7b", "full", 1.0, "chartqa"), "54.8"),
        (("hero", "VIII", "llava-next-7b", "hero", 0.1, "mme"), "1436.6"),
        (("ptp", "V", "internvl2-2b", "ptp", 0.1, "mme"), "1792.4"),
        (("ptp", "I", "internvl2-2b", "full", 1.0, "mme"), "1821.7"),
    ],
)
def test_spot_checks(place: tuple[object, ...], printed: str) -> None:
    keys = ("paper", "table", "model", "method", "budget", "benchmark")
    rows = [row for row in published.results() if tuple(row[key] for key in keys) == place]
    assert [row["printed"] for row in rows] == [printed]


def test_contradicting_text_stays_out_of_charts() -> None:
    hidden = [row for row in published.results() if not row["plot"]]
    assert [(row["benchmark"], row["printed"]) for row in hidden] == [("vizwiz", "30.9"), ("chartqa", "18.9")]
    assert not any(point.table == "text-conflict" for point in published.overlay())
    assert sum(not row["plot"] for row in published.ablations()) == 4


@pytest.mark.parametrize(
    ("paper", "method", "benchmark", "expected"),
    [
        ("hero", "hero", "pope", "authors"),
        ("hero", "hired", "pope", "copied"),
        ("hero", "full", "gqa", "copied"),
        ("hero", "full", "textvqa", "unstated"),
        ("ptp", "ptp", "gqa", "authors"),
        ("ptp", "fastv", "gqa", "unstated"),
    ],
)
def test_each_value_says_who_measured_it(paper: str, method: str, benchmark: str, expected: str) -> None:
    row = {"paper": paper, "table": "IV" if paper == "hero" else "I", "method": method, "benchmark": benchmark}
    assert published.measured_by(row) == expected


def test_recomputed_costs_agree_where_the_papers_do() -> None:
    rows = {(row["table"], row["tokens"]): row for row in published.efficiency() if row["tflops"]}
    for (table, tokens), row in rows.items():
        if (table, tokens) == ("VIII", 1105.0):
            assert row["tflops_recomputed"] == pytest.approx(14.95, abs=0.01)  # printed 14.1, text tokens left out
            continue
        assert row["tflops_recomputed"] == pytest.approx(row["tflops"], abs=0.05)
        assert row["kv_mib_recomputed"] == pytest.approx(row["kv_cache_mb"], abs=0.06)
    assert rows["V", 1792.0]["kv_mib_model"] == 168.0


def test_the_two_mme_scales_never_meet() -> None:
    scales = {(point.paper, point.metric) for point in published.overlay(benchmark="mme")}
    assert scales == {("hero", "mme_perception"), ("ptp", "mme_perception_plus_cognition")}


def test_overlay_points_carry_recomputed_costs() -> None:
    (point,) = (
        p for p in published.overlay("llava-next-7b", "pope") if (p.method, p.budget, p.table) == ("hero", 0.2, "IV")
    )
    assert (point.tokens, point.share) == (522, pytest.approx(point.value / 100))
    assert point.tflops == pytest.approx(7.73, abs=0.01)
    assert point.kv_mib == 291.5


def test_every_charted_name_is_known() -> None:
    names = {row["benchmark"] for row in published.results()} - {"avg"}
    assert names <= set(published.BENCHMARKS)
