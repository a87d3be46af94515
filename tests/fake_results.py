"""A finished run with planted qualities, as large as asked for; answers are 0/1, several questions share a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from hero_ray import stats
from hero_ray.core.types import Cell, Prediction, Sample, TokenCount
from hero_ray.store import MetricRow, Store

QUALITY = {"full": 0.95, "hero": 0.85, "hired": 0.84, "random": 0.6, "downsample": 0.55}
TOKENS = 100


def cell(method: str, ratio: float, benchmark: str, seed: int = 0, **params: float) -> Cell:
    name = f"{method}|{ratio}|{benchmark}|{seed}|{sorted(params.items())}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    if method == "random":
        params["seed"] = seed
    straw_man = method in ("random", "downsample")
    return Cell(digest, "hero-tiny", method, "exact", params, ratio, benchmark, "head", None, seed, {}, straw_man)


def sample(benchmark: str, number: int, each: int) -> Sample:
    picture = f"{benchmark}-img{number // each}"
    return Sample(benchmark, f"q{number}", f"Question {number}?", ["yes"], picture, None, "abc"[number % 3])


def fill(
    store: Store,
    run_id: str = "run1",
    benchmarks: Sequence[str] = ("synth-color", "synth-digits"),
    budgets: Sequence[float] = (0.4, 0.2),
    n: int = 150,
    each: int = 3,
    random_seeds: int = 2,
    shift: float = 0.0,
    more: Sequence[Cell] = (),
) -> list[Cell]:
    """Write one complete run; a method's chance of being right is its quality, less with fewer tokens."""
    cells = [cell("full", 1.0, name) for name in benchmarks]
    cells += [cell(m, r, b) for b in benchmarks for r in budgets for m in ("hero", "hired", "downsample")]
    cells += [cell("random", r, b, s) for b in benchmarks for r in budgets for s in range(random_seeds)]
    cells += more
    store.create_run(run_id, "demo", {"name": "demo"}, f"hash-{run_id}", {"python": "3.11"}, "abc123", "test")
    store.add_cells(run_id, cells, {c.id: n for c in cells})
    store.set_status(run_id, "running")
    for c in cells:
        samples = [sample(c.benchmark, i, each) for i in range(n)]
        scores = outcome(c, n, shift)
        store.write_unit(run_id, [answer(c, s, v) for s, v in zip(samples, scores, strict=True)])
        clusters = [s.image_key for s in samples]
        rows = [metric(scores, clusters, "")]
        for category in "abc":
            mine = [i for i, s in enumerate(samples) if s.category == category]
            rows.append(metric(scores[mine], [clusters[i] for i in mine], category))
        store.write_metrics(run_id, c.id, rows)
    store.set_status(run_id, "complete")
    return cells


def outcome(c: Cell, n: int, shift: float = 0.0) -> np.ndarray:
    """The same questions are hard for every cell, as in life: paired tests have something to gain."""
    hard = np.random.default_rng(len(c.benchmark)).random(n)
    own = np.random.default_rng(int(c.id, 16) % 2**32).random(n)
    chance = QUALITY[c.method] * (1 - 0.15 * (1 - c.retention_ratio)) - (shift if c.method == "hero" else 0.0)
    return (0.7 * hard + 0.3 * own < chance).astype(float)


def metric(scores: np.ndarray, clusters: Sequence[str], category: str) -> MetricRow:
    found = stats.mean_interval(scores, clusters)
    bounds = (found.low, found.high, found.n_clusters)
    return MetricRow("accuracy", found.value, found.n, category, *bounds, not category, 1.0, found.kind)


def answer(c: Cell, s: Sample, score: float) -> Prediction:
    kept = max(1, int(c.retention_ratio * TOKENS))
    tokens = TokenCount(kept, kept, kept + 4, 30, (kept + 4,) * 4)
    return Prediction(c.id, s, "yes" if score else "no", {"accuracy": float(score)}, tokens, 1e8 * kept, 2048 * kept)
