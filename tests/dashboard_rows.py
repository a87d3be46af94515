"""Rows as the store gives them, for tests of charts and tables."""

from __future__ import annotations

from typing import Any

from hero_ray.store import PointRow


def row(
    method: str = "hero", ratio: float = 0.2, value: float = 0.8, benchmark: str = "bench", **more: Any
) -> PointRow:
    fields: dict[str, Any] = {
        "run_id": "run",
        "cell_id": f"{method}-{ratio}-{benchmark}-{more.get('seed', 0)}",
        "model": "hero-tiny",
        "method": method,
        "variant": "exact",
        "params": {},
        "retention_ratio": ratio,
        "tokens": None,
        "seed": 0,
        "benchmark": benchmark,
        "flavour": "head",
        "metric": "accuracy",
        "category": "",
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "n": 150,
        "n_clusters": 60,
        "n_failed": 0,
        "scale": 1.0,
        "n_selected": 100 * ratio,
        "n_visual_llm": 100 * ratio + 10,
        "equivalent_tokens": 100 * ratio,
        "flops": 1e9 * ratio,
        "kv_bytes": 1e6 * ratio,
        "stop_reason": None,
    }
    return PointRow(**(fields | more))


GRID = [
    row("full", 1.0, 0.9),
    row("hero", 0.2, 0.85),
    row("hired", 0.2, 0.80),
    row("random", 0.2, 0.70, seed=0),
    row("random", 0.2, 0.60, seed=1),
]
