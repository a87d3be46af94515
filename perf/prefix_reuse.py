"""What it saves to compute prefix and picture once for all questions about it.

    python -m perf.prefix_reuse [--model hero-tiny] [--questions 18] [--retention-ratio 0.2] [--repeats 5]

POPE asks 18 questions of a picture. With reuse the key-value cache of system prompt and picture is computed once per
(picture, selection) and continued for every question. Work is counted by torch's FLOP counter over the prefill; for the
published models it is counted at true size on the meta device. Time is the median over repeats of prefill alone and of
whole answers, the two sides in turns, so that drift hits both. Tokens with and without reuse must be equal.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hero_ray import models
from hero_ray.encoded import Budget, keep_all
from hero_ray.methods import create
from hero_ray.models.base import Request
from hero_ray.models.invariance import drawn_picture
from perf.report import report

OBJECTS = (
    *("person", "car", "dog", "cat", "bottle", "chair", "book", "bird", "cup", "table", "bench", "truck", "horse"),
    *("bowl", "clock", "train", "boat", "tree", "shoe", "hat", "star", "square", "circle", "cross", "heart", "ring"),
)
SUFFIX = "\nAnswer the question using a single word or phrase."


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """FLOPs of one attention call from its shapes; torch's own formula misses the CPU kernel."""
    rows, heads, queries, width = query
    return int(2 * rows * heads * queries * key[2] * (width + value[3]))


def prefill_flops(run: Callable[[], Any]) -> int:
    """FLOPs of one prefill."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: attention_flops}) as counter:
        run()
    return int(counter.get_total_flops())


def alternate(sides: dict[str, Callable[[], Any]], repeats: int, cuda: bool) -> dict[str, float]:
    """Median seconds of each side, run in turns after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            if cuda:
                torch.cuda.synchronize()
            started = time.perf_counter()
            run()
            if cuda:
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def requests_for(adapter: Any, method: str, ratio: float, questions: int, new_tokens: int) -> list[Request]:
    """All questions about one picture, sharing one selection."""
    chosen = create(method)
    encoded = adapter.encode(adapter.prepare(drawn_picture(2), "probe"), chosen.needs(adapter.vision))
    budget = Budget.of(encoded.layout, ratio=ratio)
    selection = keep_all(encoded.layout) if budget.is_full else chosen.select(encoded, budget)
    visual = adapter.assemble(encoded, selection, "unpadded_rows")
    asked = [f"Is there a {OBJECTS[index % len(OBJECTS)]} in the image?" for index in range(questions)]
    return [Request(adapter.prompt(text + SUFFIX, text), visual, new_tokens) for text in asked]


def measure(adapter: Any, requests: list[Request], repeats: int) -> dict[str, float | int | bool]:
    """Work and time with and without reuse."""

    def prefill(share: bool) -> Callable[[], Any]:
        return lambda: adapter.decoder.prefill(requests, share_prefix=share)

    def answer(share: bool) -> Callable[[], Any]:
        return lambda: adapter.generate(requests, share_prefix=share)

    cuda = adapter.info.device == "cuda"
    work = {share: prefill_flops(prefill(share)) for share in (True, False)}
    short = alternate({"shared": prefill(True), "whole": prefill(False)}, repeats, cuda)
    long = alternate({"shared": answer(True), "whole": answer(False)}, repeats, cuda)
    tokens = [[one.token_ids for one in answer(share)()] for share in (True, False)]
    return {
        "n_visual": requests[0].visual.shape[0],
        "n_text": max(request.prompt.num_text for request in requests),
        "work_ratio": work[False] / work[True],
        "prefill_time_ratio": short["whole"] / short["shared"],
        "answer_time_ratio": long["whole"] / long["shared"],
        "prefill_ms": 1e3 * short["shared"],
        "same_tokens": tokens[0] == tokens[1],
    }


def published_work(name: str, ratio: float, questions: int) -> dict[str, float]:
    """Work ratio of a published model at full budget and at `ratio`: shapes alone, no weights."""
    adapter = models.load(name, device="meta", dtype="bfloat16")
    layout = adapter.prepare(drawn_picture(2)).layout
    found = {}
    for method, share in (("full", 1.0), ("pruned", ratio)):
        count = int(layout.num_patches * share) + layout.num_newlines
        visual = torch.empty(count, adapter.info.language.hidden, device="meta", dtype=torch.bfloat16)
        texts = [f"Is there a {OBJECTS[index % len(OBJECTS)]} in the image?{SUFFIX}" for index in range(questions)]
        requests = [Request(adapter.prompt(text), visual, 1) for text in texts]
        work = {
            reuse: prefill_flops(partial(adapter.decoder.prefill, requests, share_prefix=reuse))
            for reuse in (True, False)
        }
        found[f"{name}_{method}_work_ratio"] = work[False] / work[True]
    return found


def main() -> None:
    """Measure `full` and `fastervlm`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="hero-tiny")
    parser.add_argument("--questions", type=int, default=18)
    parser.add_argument("--retention-ratio", type=float, default=0.2)
    parser.add_argument("--new-tokens", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    adapter = models.load(options.model)
    figures: dict[str, Any] = {"model": adapter.info.name, "dtype": adapter.info.dtype, "questions": options.questions}
    for method, ratio in (("full", 1.0), ("fastervlm", options.retention_ratio)):
        requests = requests_for(adapter, method, ratio, options.questions, options.new_tokens)
        found = measure(adapter, requests, options.repeats)
        figures |= {f"{method}_{key}": value for key, value in found.items()}
    for name in ("llava-next-7b", "internvl2-2b"):
        figures |= published_work(name, options.retention_ratio, options.questions)
    report("prefix_reuse", figures)


if __name__ == "__main__":
    main()
