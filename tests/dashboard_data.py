"""Small and large results databases for the pages' tests: plausible rows, drawn pictures, true mask layouts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hero_ray import stats
from hero_ray.core.types import Cell, Prediction, Sample, TokenCount
from hero_ray.store import ImageRecord, MetricRow, Store, open_store

DAY = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)
STRENGTH = {"full": 0.9, "hero": 0.86, "hired": 0.83, "fastervlm": 0.84, "random": 0.72, "spatial": 0.74}
GEOMETRY = (2, 2, 6, 6)
CERTIFICATE = {
    "device": "cpu",
    "device_name": "Test CPU",
    "dtype": "float32",
    "attention": "sdpa",
    "engine": "hero_ray",
    "cache": "preallocated",
    "threads": 1,
    "batch_size": 1,
    "new_tokens": 8,
    "warmup": 2,
    "n": 10,
    "model": "hero-tiny",
    "hash": "cert-a",
}


def picture(number: int, size: tuple[int, int] = (240, 160)) -> bytes:
    """A WebP of coloured shapes."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", size, (236, 233, 226))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, r = int(rng.integers(20, size[0] - 20)), int(rng.integers(20, size[1] - 20)), int(rng.integers(10, 26))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(c) for c in rng.integers(40, 220, 3)))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()


def cell(method: str, ratio: float, benchmark: str, model: str = "hero-tiny", seed: int = 0, **params: Any) -> Cell:
    family = "internvl2" if "internvl" in model else "llava-next"
    name = f"{model}.{method}.{ratio}.{benchmark}.{seed}{''.join(map(str, params.values()))}"
    spec = {"model": {"name": model, "family": family}, "method": {"name": method, "params": params}}
    straw_man = method in ("random", "spatial")
    return Cell(name, model, method, "exact", params, ratio, benchmark, "head", None, seed, spec, straw_man)


def grid(
    benchmarks: Sequence[str] = ("synth-attribute", "synth-words"), models: Sequence[str] = ("hero-tiny",)
) -> list[Cell]:
    """Full tokens and every other method at three budgets, random with two seeds."""
    found = []
    for model in models:
        for benchmark in benchmarks:
            found.append(cell("full", 1.0, benchmark, model))
            for method in list(STRENGTH)[1:]:
                for ratio in (0.4, 0.2, 0.1):
                    seeds = (0, 1) if method == "random" else (0,)
                    found += [cell(method, ratio, benchmark, model, seed) for seed in seeds]
    return found


def samples(benchmark: str, count: int) -> list[Sample]:
    return [
        Sample(
            benchmark,
            f"{benchmark}-{i}",
            f"What colour is shape {i}?",
            [("red", "blue", "green")[i % 3]],
            f"img{i // 2}",
            None,
            ("colour", "shape")[i % 2],
        )
        for i in range(count)
    ]


def answer(own: Cell, sample: Sample, rng: np.random.Generator, drop: float = 0.0) -> Prediction:
    rows, columns, tall, wide = GEOMETRY
    bits = rng.random((1 + rows * columns, tall * wide)) < own.retention_ratio
    if "internvl" not in own.model:  # a 3:2 picture on a square canvas: the outer rows are padding
        bits[1:3, : 2 * wide] = False
        bits[3:5, -2 * wide :] = False
    kept = int(bits.sum())
    chance = STRENGTH.get(own.method, 0.8) - 0.35 * (1 - own.retention_ratio) ** 3 - drop
    right = bool(rng.random() < chance)
    tokens = TokenCount(kept, kept, kept + 12, 30, (kept + 12,) * 4)
    text = sample.references[0] if right else "yellow"
    return Prediction(
        own.id,
        sample,
        text,
        {"accuracy": float(right)},
        tokens,
        1e9 * (0.2 + kept / 180),
        1024 * (kept + 42),
        np.packbits(bits.reshape(-1)).tobytes(),
        GEOMETRY,
    )


def fill_run(
    store: Store,
    run_id: str,
    cells: Sequence[Cell],
    count: int = 24,
    seed: int = 0,
    drop: float = 0.0,
    created_at: datetime = DAY,
    status: str = "complete",
    sweep: str = "demo",
    failures: int = 0,
) -> None:
    """One run with all its answers, figures and (for the first benchmark) profiles."""
    environment = {"python": "3.11.9", "packages": {"torch": "2.13.0"}, "processor": "Test CPU", "cpus": 2, "gpus": []}
    config = {"name": sweep, "seed": seed, "models": sorted({own.model for own in cells})}
    commit = f"{seed:02d}" * 6
    trigger = "schedule" if sweep == "nightly" else "cli"
    store.create_run(run_id, sweep, config, f"hash-{sweep}", environment, commit, trigger, created_at)
    store.add_cells(run_id, cells, {own.id: count for own in cells})
    store.set_status(run_id, "running")
    rng = np.random.default_rng(seed)
    by_benchmark = {own.benchmark: samples(own.benchmark, count) for own in cells}
    pictures = [ImageRecord(f"img{i}", 240, 160, picture(i)) for i in range((count + 1) // 2)]
    store.add_samples([], pictures)
    for own in cells:
        predictions = [answer(own, sample, rng, drop) for sample in by_benchmark[own.benchmark]]
        if failures:
            broken = Prediction(own.id, predictions[0].sample, error_type="ImageError", error_message="truncated file")
            predictions[0] = broken
        store.write_unit(run_id, predictions)
        close(store, run_id, own)
    profile(store, run_id, [own for own in cells if own.benchmark == cells[0].benchmark])
    if status != "running":
        store.set_status(run_id, status)


def close(store: Store, run_id: str, own: Cell) -> None:
    """Metrics over the whole benchmark and per category."""
    rows = store.cell_scores(run_id, own.id)
    records = []
    for category in ("", *sorted({row.category for row in rows})):
        chosen = [row for row in rows if not category or row.category == category]
        scores, clusters = [row.score for row in chosen], [row.image_key for row in chosen]
        found = stats.mean_interval(scores, clusters)
        records.append(
            MetricRow("accuracy", found.value, found.n, category, found.low, found.high, found.n_clusters, not category)
        )
    store.write_metrics(run_id, own.id, records)


def profile(store: Store, run_id: str, cells: Iterable[Cell], certificate: str = "cert-a", sizes: Any = (1, 4)) -> None:
    """Speeds that follow the token count, at two batch sizes."""
    for own in cells:
        for size in sizes:
            conditions = CERTIFICATE | {"batch_size": size, "hash": f"{certificate}-{size}", "model": own.model}
            if certificate != "cert-a":
                conditions["device_name"] = "Other CPU"
            select = 0.0 if own.method == "full" else 0.6
            prefill = 4.0 + 20 * own.retention_ratio
            store.write_profile(
                run_id,
                own.id,
                {
                    "batch_size": size,
                    "new_tokens": 8,
                    "tokens": 12 + 180 * own.retention_ratio,
                    "tflops_paper": 0.001 * own.retention_ratio,
                    "tflops_model": 0.0011 * own.retention_ratio,
                    "tflops_encoder": 0.0003,
                    "tflops_scoring": 0.0,
                    "kv_bytes": 1024.0 * (42 + 180 * own.retention_ratio),
                    "peak_memory_bytes": None,
                    "encode_ms": 6.0,
                    "select_ms": select,
                    "prefill_ms": prefill,
                    "ttft_ms_p50": 6 + select + prefill,
                    "ttft_ms_p95": 7 + select + prefill,
                    "tpot_ms_p50": 1.0 + 0.5 * own.retention_ratio,
                    "decode_tokens_per_s": size * 1000 / (1.0 + 0.5 * own.retention_ratio),
                    "n": 10,
                    "certificate": conditions,
                    "certificate_hash": conditions["hash"],
                    "details": {
                        "n_text": 30,
                        "tflops_decode": 0.0002,
                        "roofline": [
                            {"phase": name, "flops_per_s": 2e10, "bytes_per_s": 3e9, "compute_share": c}
                            | {"bandwidth_share": b, "bound": "compute" if c > b else "memory"}
                            for name, c, b in (("prefill", 0.3, 0.1), ("decode", 0.02, 0.4))
                        ],
                        "peaks": {"flops_per_s": 6e10, "bytes_per_s": 8e9},
                    },
                },
            )


def make_results(url: str) -> str:
    """A finished demo with two models, a week of nightlies with one regression, a running and a failed run."""
    with open_store(url) as store:
        week = grid(("synth-attribute",))[:4]
        for day in range(7):
            drop = 0.35 if day == 6 else 0.0
            created = DAY + timedelta(days=day)
            fill_run(store, f"nightly-{day}", week, 40, day, drop, created, sweep="nightly")
        store.add_alert("regression", "hero at 40% fell by 20 points", "error", "nightly-6", week[1].id)
        late = DAY + timedelta(days=8)
        fill_run(store, "broken", grid(("synth-words",))[:2], 6, 3, created_at=late, status="failed", failures=1)
        fill_run(store, "demo", grid(models=("hero-tiny", "hero-tiny-internvl")), created_at=late, seed=5)
        fill_run(store, "live", week, 10, 9, created_at=late + timedelta(hours=-2), status="running")
        more = [replace(own, id=own.id + "x", retention_ratio=0.05) for own in week]
        store.add_cells("live", more, {own.id: 10 for own in more})
        store.acquire_lease("live", "test", 3600)
    return url


def make_one_cell(url: str) -> str:
    """The least a run can hold."""
    with open_store(url) as store:
        fill_run(store, "single", [cell("hero", 0.2, "synth-words")], 3)
    return url


def make_many_cells(url: str, count: int = 2000) -> str:
    """Thousands of cells without predictions: a parameter sweep."""
    rng = np.random.default_rng(0)
    with open_store(url) as store:
        store.create_run("wide", "wide", {}, "h", {}, "abc", "cli", DAY)
        cells = [cell("full", 1.0, "synth-words")]
        for i in range(count - 1):
            method = ("hero", "hired", "random")[i % 3]
            cells.append(cell(method, round(0.05 + 0.9 * rng.random(), 3), "synth-words", alpha=round(i / count, 4)))
        store.add_cells("wide", cells, {own.id: 10 for own in cells})

        def change(connection: Any) -> None:
            from hero_ray.store import writes
            from hero_ray.store.tables import MetricTable

            rows = []
            for own in cells:
                value = float(0.5 + 0.4 * own.retention_ratio + 0.02 * rng.standard_normal())
                row = {"run_id": "wide", "cell_id": own.id, "metric": "accuracy", "category": "", "value": value}
                row |= {"ci_low": value - 0.03, "ci_high": value + 0.03, "n": 10, "n_clusters": 5, "is_main": True}
                rows.append(row | {"scale": 1.0, "interval": "cluster-t"})
            writes.replace_rows(connection, MetricTable, rows)

        store.transaction(change)
        store.set_status("wide", "complete")
    return url


def load_records() -> list[dict[str, Any]]:
    """Two cells under three numbers of clients: hero pays alone, and costs where the server is full."""
    rates = {"full": (10.0, 40.0, 50.0), "hero": (15.0, 40.0, 40.0)}
    found = []
    for method, ratio in (("full", 1.0), ("hero", 0.2)):
        for place, clients in enumerate((1, 8, 64)):
            rate, gained = rates[method][place], (1.5, 1.0, 0.8)[place]
            gain = {"ratio": gained, "low": gained / 1.1, "high": gained * 1.1, "pairs": 5}
            load = {"requests_per_s": rate, "requests_per_s_low": rate - 2, "requests_per_s_high": rate + 2}
            load |= {"score": 0.85, "score_low": 0.8, "score_high": 0.9, "metric": "accuracy", "answer_ms_p95": 30.0}
            load |= {"requests": 320, "failed": 0, "errors": {}}
            faster = gain | {"ratio": 1.5, "low": 1.4, "high": 1.6}
            over = None if method == "full" else {"requests_per_s": gain, "ttft_ms_p95": faster}
            certificate = {"kind": "load", "device_name": "Test CPU", "dtype": "float32", "engine": "hero_ray service"}
            certificate |= {"benchmark": "synth-attribute", "requests": 64, "rounds": 5, "commit": "", "hash": "load-a"}
            found.append(
                {
                    "kind": "profile",
                    "format": 1,
                    "key": f"{method}@{ratio:.0%}",
                    "model": "hero-tiny",
                    "family": "llava-next",
                    "revision": "r",
                    "method": method,
                    "variant": "exact",
                    "params": {},
                    "retention_ratio": ratio,
                    "budget": {"tokens": None, "base": "real", "newline_policy": "unpadded_rows"},
                    "benchmark": "synth-attribute",
                    "batch_size": clients,
                    "new_tokens": 0,
                    "n": 320,
                    "ttft_ms_p50": 10.0 * clients,
                    "ttft_ms_p95": 20.0 * clients,
                    "certificate": certificate,
                    "certificate_hash": "load-a",
                    "details": {"load": load | {"over_base": over}},
                }
            )
    return found
