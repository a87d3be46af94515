"""How a harness answers: one request at a time through stock `generate()`, nothing shared between requests.

    python -m perf.stock MODEL CELLS_JSON OUT_JSON

runs the cells of a file in this process and writes their answers; a process per cell is what harnesses do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hero_ray import models
from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.tasks import TaskEntry
from hero_ray.core.types import Cell, Sample
from hero_ray.engine.cut import Picture, Pruning, cut
from hero_ray.models.registry import NATIVE
from hero_ray.pipeline.opening import open_task


@torch.no_grad()
def answer(adapter: Any, benchmark: Benchmark, sample: Sample, pruning: Pruning) -> str:
    """One answer, from the picture's bytes to text, with the picture encoded for this answer alone."""
    image = benchmark.load_image(sample.image_ref)
    picture = Picture(adapter, image, sample.image_key, pruning.method.needs(adapter.vision))
    prompt = adapter.prompt(benchmark.prompt(sample, adapter.info.family), sample.question)
    inputs = (
        stock_inputs(adapter, picture.prepared, prompt, image.size)
        if pruning.budget(picture.layout).is_full
        else pruned_inputs(picture, prompt, sample, pruning)
    )
    made = adapter.model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=benchmark.max_new_tokens,
        eos_token_id=sorted(adapter.decoder.end),
        pad_token_id=0,
    )
    new = made[0, inputs["input_ids"].shape[1] :] if "input_ids" in inputs else made[0]
    ids = [token for token in new.tolist() if token not in adapter.decoder.end]
    return adapter.tokenizer.decode(ids).strip()


def stock_inputs(adapter: Any, prepared: Any, prompt: Any, size: tuple[int, int]) -> dict[str, Any]:
    """What transformers' own processor hands to `generate`."""
    count = prepared.layout.sequence.shape[0]
    image_id = adapter.model.config.image_token_id
    ids = torch.tensor([[*prompt.prefix, *[image_id] * count, *prompt.suffix]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if adapter.info.family in NATIVE:
        return inputs | adapter.stock_inputs(prepared, ids)
    if adapter.info.family == "internvl2":
        return inputs | {"pixel_values": prepared.pixels.roll(-1, 0)}  # the thumbnail is last there
    if adapter.info.family == "llava-next":
        return inputs | {"pixel_values": prepared.pixels[None], "image_sizes": torch.tensor([[size[1], size[0]]])}
    return inputs | {"pixel_values": prepared.pixels}


def pruned_inputs(picture: Picture, prompt: Any, sample: Sample, pruning: Pruning) -> dict[str, Any]:
    """Embeddings with the kept tokens spliced in, as forks of a model build them."""
    visual = cut(picture, pruning, sample.question, prompt).visual
    words = picture.adapter.runner.embed
    parts = [words(torch.tensor(prompt.prefix)), visual, words(torch.tensor(prompt.suffix))]
    embeds = torch.cat(parts)[None]
    return {"inputs_embeds": embeds, "attention_mask": torch.ones(embeds.shape[:2], dtype=torch.long)}


def run_cells(model: str, cells: Sequence[Cell], tasks: Sequence[TaskEntry], limit: int) -> dict[str, dict[str, str]]:
    """Cell id -> sample key -> answer."""
    adapter = models.load(model)
    benchmarks = {benchmark.name: benchmark for benchmark in map(open_task, tasks)}
    found: dict[str, dict[str, str]] = {}
    for cell in cells:
        benchmark, pruning = benchmarks[cell.benchmark], Pruning.of(cell)
        samples = benchmark.samples(limit=limit)
        found[cell.id] = {sample.key: answer(adapter, benchmark, sample, pruning) for sample in samples}
    return found


def main() -> None:
    torch.set_num_threads(1)
    model, source, target = sys.argv[1:4]
    request = json.loads(Path(source).read_text())
    cells = [Cell(**cell) for cell in request["cells"]]
    tasks = [TaskEntry(**task) for task in request["tasks"]]
    Path(target).write_text(json.dumps(run_cells(model, cells, tasks, request["limit"])))


if __name__ == "__main__":
    main()
