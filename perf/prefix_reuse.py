"""What it saves to compute prefix and picture once for all questions about it.

    python -m perf.prefix_reuse [--model hero-tiny] [--questions 18] [--retention-ratio 0.4 0.2] [--repeats 5]

POPE asks 18 questions of a picture. With reuse the key-value cache of system prompt and picture is computed once per
(picture, selection) and continued for every question. Work is counted by torch's FLOP counter over the prefill; for the
published models it is counted at true size on the meta device. Time is the median over repeats of prefill alone and of
whole answers, the two sides in turns, so that drift hits both. Tokens with and without reuse must be equal.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hero_ray import models
from hero_ray.core.encoded import Budget, keep_all
from hero_ray.methods import create
from hero_ray.models.base import Request
from hero_ray.models.invariance import drawn_picture
from perf.report import keep, report

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


def linear_ratio(shared: int, own: float, questions: int) -> float:
    """Tokens run without reuse over tokens run with it: n (P + Q) / (P + n Q).

    P is what questions share (system prompt and picture), Q what each has for itself (its words and the turn's end).
    At 18 questions it reaches 5 where a picture and its prompt have 5.5 times the tokens of a question: short pictures
    (hero-tiny at 20 %) stay below. Counted FLOPs, attention and output head included, come within 1 % of it.
    """
    return questions * (shared + own) / (shared + questions * own)


def lengths(requests: list[Request]) -> dict[str, float | int]:
    """Tokens of the requests and the work ratio they allow."""
    shared = len(requests[0].prompt.prefix) + requests[0].visual.shape[0]
    own = statistics.mean(len(request.prompt.suffix) for request in requests)
    return {
        "visual_tokens": requests[0].visual.shape[0],
        "shared_tokens": shared,
        "question_tokens": own,
        "token_ratio": linear_ratio(shared, own, len(requests)),
    }


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
    return lengths(requests) | {
        "work_ratio": work[False] / work[True],
        "prefill_time_ratio": short["whole"] / short["shared"],
        "answer_time_ratio": long["whole"] / long["shared"],
        "prefill_ms": 1e3 * short["shared"],
        "same_tokens": tokens[0] == tokens[1],
    }


def published_work(name: str, ratios: tuple[float, ...], questions: int) -> Iterator[dict[str, Any]]:
    """Counted work of a published model at true size, from shapes alone: no weights, so no times.

    Without its tokenizer at hand a word or a mark counts as one token, close to the 20 odd that POPE's questions take.
    """
    adapter = models.load(name, device="meta", dtype="bfloat16")
    layout = adapter.prepare(drawn_picture(2)).layout
    for ratio in ratios:
        count = int(layout.num_patches * ratio) + layout.num_newlines
        visual = torch.empty(count, adapter.info.language.hidden, device="meta", dtype=torch.bfloat16)
        texts = [f"Is there a {OBJECTS[index % len(OBJECTS)]} in the image?{SUFFIX}" for index in range(questions)]
        requests = [Request(adapter.prompt(text), visual, 1) for text in texts]
        work = {
            reuse: prefill_flops(partial(adapter.decoder.prefill, requests, share_prefix=reuse))
            for reuse in (True, False)
        }
        method = "full" if ratio == 1.0 else "fastervlm"
        yield (
            {"model": name, "method": method, "ratio": ratio}
            | lengths(requests)
            | {"work_ratio": work[False] / work[True]}
        )


def table(rows: list[dict[str, Any]]) -> str:
    """One line per model and budget."""
    columns = (
        *("model", "method", "ratio", "shared_tokens", "question_tokens", "token_ratio", "work_ratio"),
        *("prefill_time_ratio", "answer_time_ratio", "same_tokens"),
    )
    lines = ["|" + "|".join(columns) + "|", "|" + "|".join("---" for _ in columns) + "|"]
    for row in rows:
        shown = (row.get(name, "-") for name in columns)
        lines.append("|" + "|".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in shown) + "|")
    return "\n".join(lines)


def main() -> None:
    """Measure `full` and `fastervlm` on a model that is here, count them on published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hero-tiny")
    parser.add_argument("--questions", type=int, default=18)
    parser.add_argument("--retention-ratio", type=float, nargs="+", default=[0.4, 0.2])
    parser.add_argument("--new-tokens", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("perf/results/prefix_reuse.json"))
    options = parser.parse_args()
    adapter = models.load(options.model)
    ratios = (1.0, *options.retention_ratio)
    rows: list[dict[str, Any]] = []
    for ratio in ratios:
        method = "full" if ratio == 1.0 else "fastervlm"
        requests = requests_for(adapter, method, ratio, options.questions, options.new_tokens)
        found = measure(adapter, requests, options.repeats)
        rows.append({"model": adapter.info.name, "method": method, "ratio": ratio} | found)
    for name in ("llava-next-7b", "internvl2-2b"):
        rows += published_work(name, ratios, options.questions)
    print(f"{options.questions} questions a picture; work: counted FLOPs of the LLM's prefill, without over with reuse")
    print("token_ratio = n (P + Q) / (P + n Q) with P shared and Q question tokens; times on this machine only\n")
    print(table(rows) + "\n")
    figures = {"model": adapter.info.name, "dtype": adapter.info.dtype, "questions": options.questions, "rows": rows}
    keep(options.out, "prefix_reuse", figures)
    report("prefix_reuse", figures)


if __name__ == "__main__":
    main()
