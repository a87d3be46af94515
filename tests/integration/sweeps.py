"""Small sweeps of the sleeping model for integration tests, and the table two runs are compared by."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from hero_ray.config import build
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.plan import ModelFact

SLEEPING = ModelFact("sleeping", "llava-1.5", "sleeping-1", "float32", 16)
LOADER = "perf.sleeping:load"


def small_plan(num_images: int = 6, **document: Any) -> Plan:
    """Two benchmarks over the same few pictures, three methods, two budgets, one seed."""
    source = {"num_images": num_images, "questions_per_image": 2}
    tasks = [{"name": name, "source": source} for name in ("synth-exist", "synth-count")]
    defaults: dict[str, Any] = {
        "tasks": tasks,
        "methods": ["random", "fastervlm"],
        "budgets": [0.5, 0.2],
        "random_seeds": 1,
        "models": ["sleeping"],
        "profile": {"enabled": False},
    }
    return make_plan(build(defaults | document), [SLEEPING])


def answers(database: Path, run_id: str) -> list[tuple[Any, ...]]:
    """Everything a prediction says, in a fixed order; what must be equal between a disturbed and a quiet run."""
    with sqlite3.connect(database) as connection:
        return connection.execute(
            "select cell_id, sample_id, text, score, n_selected, n_visual_llm, keep_mask, error_type"
            " from predictions where run_id = ? order by cell_id, sample_id",
            (run_id,),
        ).fetchall()
