"""Small results to put into a store; shared by the tests of both databases."""

from __future__ import annotations

from collections.abc import Sequence

from hero_ray.core.types import Cell, Prediction, Sample, TokenCount
from hero_ray.store import Store, sample_id


def sample(key: int, image: int | None = None, category: str = "") -> Sample:
    return Sample(
        "synth-demo", f"q{key}", f"What is {key}?", [str(key)], f"img{key if image is None else image}", None, category
    )


def cell(method: str = "hero", ratio: float = 0.2, benchmark: str = "synth-demo", seed: int = 0) -> Cell:
    name = f"{method}-{ratio}-{benchmark}-{seed}"
    return Cell(name, "hero-tiny", method, "exact", {"alpha": 0.5}, ratio, benchmark, "head", None, seed, {"code": "1"})


def answer(cell: Cell, sample: Sample, score: float = 1.0) -> Prediction:
    tokens = TokenCount(20, 20, 22, 30, (22, 22, 22))
    return Prediction(cell.id, sample, f"answer {score}", {"accuracy": score}, tokens, 1e9, 2048, b"\x01\x02")


def failure(cell: Cell, sample: Sample, kind: str = "RuntimeError") -> Prediction:
    return Prediction(cell.id, sample, error_type=kind, error_message="it broke")


def begin(store: Store, run_id: str = "run1", cells: Sequence[Cell] = (), samples: int = 4) -> None:
    store.create_run(run_id, "demo", {"seed": 0}, "hash1", {"python": "3"}, "abc", "test")
    store.add_cells(run_id, cells, {each.id: samples for each in cells})


def key(cell: Cell, sample: Sample) -> tuple[str, str]:
    return cell.id, sample_id(sample)
