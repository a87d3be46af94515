"""How far every method's mask moves when nothing but rounding changes, on both embedded models.

    python -m perf.mask_movement [--pictures 12] [--methods hero,hired]

Looks at every picture: in fp32 alone, in bf16 alone, and in either beside other pictures in one batch. What is told is
the share of the kept patches of one look that another does without, mean over pictures, at R = 30 %. The figures are
kept in hero_ray/methods/kit/movement.json, which `make docs` puts into docs/methods.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hero_ray import benchmarks, models
from hero_ray.core.encoded import Encoded, Selection
from hero_ray.engine.cut import Pruning, needs_of
from hero_ray.methods import create, names
from hero_ray.methods.base import Method
from hero_ray.methods.kit.movement import FIGURES, Watched, moved
from hero_ray.models.base import Adapter, Prompt, Request
from hero_ray.models.batch import whole_prompts

MODELS = ("hero-tiny", "hero-tiny-internvl")
TASKS = ("synth-exist", "synth-words")
RATIO = 0.3
TOGETHER = 4


@dataclass(frozen=True)
class Asked:
    """One picture with one question, encoded."""

    encoded: Encoded
    prompt: Prompt


def _batched(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def methods(wanted: Sequence[str]) -> list[Method]:
    """Every method that has a mask."""
    found = [create(name) for name in wanted or names() if name != "full"]
    return [method for method in found if method.stage != "image"]


def looks(adapter: Adapter, count: int, tried: Sequence[Method], together: int) -> list[Asked]:
    """The first pictures of the tasks, encoded `together` at a time."""
    needs = needs_of([Pruning(method, RATIO) for method in tried], adapter.vision)
    chosen = []
    for task in TASKS:
        benchmark = benchmarks.get(task)
        first = {
            sample.image_key: sample for sample in reversed(list(benchmark.samples()))
        }  # one question of a picture
        for key in sorted(first)[: count // len(TASKS)]:
            sample = first[key]
            text, image = benchmark.prompt(sample, adapter.family), benchmark.load_image(sample.image_ref)
            prompt = adapter.prompt(text, sample.question)
            chosen.append((adapter.prepare(image, sample.image_key), sample.question, prompt))
    asked = []
    for group in _batched(chosen, together):
        encodings = adapter.encode_many([prepared for prepared, _, _ in group], needs)
        for encoded, (_, question, prompt) in zip(encodings, group, strict=True):
            asked.append(Asked(adapter.ask(encoded, question, needs, prompt), prompt))
    return asked


def kept(adapter: Adapter, method: Method, asked: Sequence[Asked], together: int) -> list[set[int]]:
    """Patches of every picture that lived to the end."""
    lived = []
    for group in _batched(asked, together):
        selections, requests = [], []
        for one in group:
            budget = Pruning(method, RATIO).budget(one.encoded.layout)
            selections.append(method.select(one.encoded, budget))
            visual = adapter.assemble(one.encoded, selections[-1], "unpadded_rows")
            requests.append(Request(one.prompt, visual, 1))
        lived += _inside(adapter, method, group, selections, requests)
    return lived


def _inside(
    adapter: Adapter,
    method: Method,
    group: Sequence[Asked],
    selections: Sequence[Selection],
    requests: Sequence[Request],
) -> list[set[int]]:
    layouts = [one.encoded.layout for one in group]
    entered = [selection.sequence(layout).cpu() for selection, layout in zip(selections, layouts, strict=True)]
    budget = Pruning(method, RATIO).budget(layouts[0])
    inner = method.pruner_for(budget, selections) if method.stage == "in-llm" else None
    watched = Watched(inner, entered)
    if inner is not None:
        batch = whole_prompts(requests, adapter.runner.embed)
        adapter.runner.prefill(batch, pruner=watched, positions=method.positions, room=1)
    return [watched.patches(row) for row in range(len(group))]


def mean(pairs: Sequence[tuple[set[int], set[int]]]) -> float:
    return round(sum(moved(*pair) for pair in pairs) / len(pairs), 4)


def measured(model: str, tried: Sequence[Method], count: int) -> dict[str, dict[str, float]]:
    """Figures of every method on one model."""
    found: dict[tuple[str, int], list[list[set[int]]]] = {}
    for dtype in ("float32", "bfloat16"):
        adapter: Any = models.load(model, device="cpu", dtype=dtype)
        for together in (1, TOGETHER):
            asked = looks(adapter, count, tried, together)
            found[dtype, together] = [kept(adapter, method, asked, together) for method in tried]
    changes = {
        "bf16": (("float32", 1), ("bfloat16", 1)),
        "neighbours": (("float32", 1), ("float32", TOGETHER)),
        "bf16 neighbours": (("bfloat16", 1), ("bfloat16", TOGETHER)),
    }
    return {
        method.name: {
            what: mean(list(zip(found[first][place], found[second][place], strict=True)))
            for what, (first, second) in changes.items()
        }
        for place, method in enumerate(tried)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--methods", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tried = methods([name for name in options.methods.split(",") if name])
    kept_before = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for model in MODELS:
        for name, figures in measured(model, tried, options.pictures).items():
            kept_before.setdefault(name, {})[model] = figures
            print(
                f"{model:20}{name:14}" + "".join(f"{what}: {100 * share:5.1f} %  " for what, share in figures.items())
            )
    lines = [f" {json.dumps(name)}: {json.dumps(kept_before[name])}" for name in sorted(kept_before)]
    FIGURES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
