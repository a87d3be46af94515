"""Ten generated records of a board: several models, conditions, people and states of trust, one of them broken."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from hero_ray.core.types import Cell, Prediction, Sample, TokenCount
from hero_ray.results import truth
from hero_ray.results.board import records
from hero_ray.store import Store, open_store, verifications
from hero_ray.store.verifications import VerificationRow
from hero_ray.store.writes import now

METHODS = {"full": 0.9, "random": 0.6, "fastervlm": 0.75, "hero": 0.8}
PICTURES, QUESTIONS, TOKENS = 12, 2, 200


def cell(method: str, ratio: float, model: str, weights: str, benchmark: str) -> Cell:
    spec = {
        "model": {"name": model, "revision": weights, "dtype": "float32"},
        "method": {"name": method, "code": 1},
        "benchmark": {"name": benchmark, "data": "f" * 16},
    }
    name = f"{method}-{ratio}-{model}-{weights}-{benchmark}"
    return Cell(name, model, method, "exact", {}, ratio, benchmark, "head", None, 0, spec, method == "random")


def fill(store: Store, run_id: str, model: str, weights: str, benchmarks: tuple[str, ...], seed: int) -> None:
    """A complete run whose answers are right with a probability of the method's own."""
    draw = random.Random(seed)
    cells = [
        cell(method, ratio, model, weights, benchmark)
        for benchmark in benchmarks
        for method in METHODS
        for ratio in ((1.0,) if method == "full" else (0.4, 0.2))
    ]
    store.create_run(
        run_id, "generated", {"seed": seed, "models": [model]}, run_id, {"installed": "abc", "locked": True}
    )
    store.set_status(run_id, "running")
    store.add_cells(run_id, cells, {one.id: PICTURES * QUESTIONS for one in cells})
    for one in cells:
        chance = METHODS[one.method] - (0.1 if one.retention_ratio == 0.2 else 0.0)
        made, right = [], []
        for number in range(PICTURES * QUESTIONS):
            sample = Sample(
                one.benchmark, f"q{number}", f"What is {number}?", ["yes"], f"img{number // QUESTIONS}", None
            )
            score = float(draw.random() < chance)
            kept = int(TOKENS * one.retention_ratio)
            tokens = TokenCount(kept, kept, kept, 12, (kept, kept))
            right.append(score)
            made.append(
                Prediction(one.id, sample, "yes" if score else "no", {"accuracy": score}, tokens, 1e6 * kept, kept)
            )
        store.write_unit(run_id, made)
        mean = sum(right) / len(right)
        metric: dict[str, Any] = {"metric": "accuracy", "value": mean, "n": len(right), "n_clusters": PICTURES}
        store.write_metrics(run_id, one.id, [metric | {"ci_low": mean - 0.1, "ci_high": mean + 0.1, "is_main": True}])
    store.set_status(run_id, "complete")


def verified(store: Store, run_id: str, verdict: str) -> VerificationRow:
    content = store.read(verifications.content, run_id, [one.id for one in store.cells(run_id)])
    counts = {"pictures": PICTURES, "drawn": 3, "answers": 20, "bit_equal": 20, "equal_text": 0, "differs": 0}
    row = VerificationRow(
        id=f"v-{run_id}", run_id=run_id, created_at=now(), verdict=verdict, fraction=0.1, seed="s", **counts,
        unasked=0, recounted=0, content=content, git_commit=None, report={"said": []},
    )  # fmt: skip
    store.transaction(verifications.add, row)
    return row


def ten(board: Path, scratch: Path) -> None:
    """Records 0 to 9: two models, one with two sets of weights; verified, not, differing, changed, broken."""
    with open_store(str(scratch / "made.db")) as store:
        for number in range(10):
            model = "org/some-model" if number < 7 else "hero-tiny"
            weights = "b" * 16 if number == 6 else "a" * 16
            benchmarks = ("pope", "textvqa_val") if number % 2 else ("pope",)
            run_id = f"run-{number}"
            fill(store, run_id, model, weights, benchmarks, number)
            if number in (0, 1, 2, 4, 7):
                verified(store, run_id, truth.DIFFERS if number == 4 else truth.BIT_EQUAL)
            folder = records.submit(store, run_id, board, f"person {number}", "Generated, no measurement.")
            if number == 2:
                row = replace(store.read(verifications.of_run, run_id)[0], content="another")
                records.write_verification(row, folder / records.VERIFY)
            if number == 9:
                (folder / records.SWEEP).unlink()
