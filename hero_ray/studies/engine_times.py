"""How fast our own blocks and vLLM answer the same cells: first token, later tokens, answers a second, cache bytes.

Both engines and all methods take turns (`hero_ray.profiling.timing`), nothing is shared between requests on either
side, and every answer has the same number of tokens. Gains are of pairs: the same request in the same round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

from PIL import Image

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.engines import OURS, VLLM
from hero_ray.core.types import Sample
from hero_ray.engine.cut import Picture, Pruning, cut
from hero_ray.models.base import Request
from hero_ray.models.batch import length_of
from hero_ray.profiling.marks import Marks, percentile
from hero_ray.profiling.timing import TimedCall, take_turns
from hero_ray.stats.crossing import gain
from hero_ray.studies import asking
from hero_ray.studies.records import FigureTable, lines

CLIENTS = (1, 8, 32)
"""Requests that are under way at once."""
PICTURES, REPEATS, WARMUP = 4, 5, 1
ROUNDS = 3
NEW_TOKENS = 16
SIDES = (OURS, VLLM)
FIRST, LATER = "first token ms", "later token ms"
_COLD: Mapping[str, Any] = {"share_prefix": False, "ignore_eos": True}
NOTE = (
    f"Times are medians of {REPEATS} rounds on {PICTURES} pictures ({ROUNDS} rounds of {max(CLIENTS)} requests for "
    f"answers a second), {NEW_TOKENS} tokens an answer, engines and methods in turns, nothing shared between requests. "
    "The first token's time holds encoding and choosing. vLLM's cache is whole blocks."
)
Contender = tuple[str, str]
"""(method, engine)."""
Times = dict[Contender, dict[str, list[float]]]
"""Milliseconds of every run; run i is the same request in the same round for all contenders."""


@dataclass(frozen=True)
class EngineSpeeds:
    """Tables, charts and named figures of the study."""

    tables: tuple[FigureTable, ...]
    charts: tuple[Mapping[str, Any], ...]
    findings: Mapping[str, float]


def measure(
    adapter: Any,
    prunings: Mapping[str, Pruning],
    pictures: Iterable[tuple[Image.Image, Sequence[tuple[Benchmark, Sample]]]],
    ready: Mapping[str, Sequence[Request]],
) -> EngineSpeeds:
    """Time every method on both engines.

    Args:
        pictures: encoded anew for every first token; their first questions are asked.
        ready: by method, a question about each picture; repeated where they are fewer than clients.
    """
    contenders = [(name, engine) for name in prunings for engine in SIDES]
    times = _alone(adapter, prunings, list(pictures), contenders)
    for count in CLIENTS:
        for one, found in _together(adapter, count, ready, contenders).items():
            times[one] |= found
    rows: tuple[tuple[Any, ...], ...] = tuple(
        (*one, *_figures(times[one]), _cache_kib(adapter, one[1], ready[one[0]])) for one in contenders
    )
    measures = list(times[contenders[0]])
    over: tuple[tuple[Any, ...], ...] = tuple(
        (name, what, *_gain(times[name, OURS][what], times[name, VLLM][what]), len(times[name, VLLM][what]))
        for name in prunings
        for what in measures
    )
    pruned = tuple(
        (name, what, *(x for engine in SIDES for x in _gain(times["full", engine][what], times[name, engine][what])))
        for name in prunings
        for what in measures
        if name != "full"
    )
    columns = ("method", "engine", FIRST, LATER, *(f"answers/s at {n}" for n in CLIENTS), "cache KiB an answer")
    sides = ("lab", "lab low", "lab high", "served", "served low", "served high")
    tables = (
        FigureTable("Times on both engines", columns, rows),
        FigureTable("vLLM over our blocks: times as fast", ("method", "in", "gain", "low", "high", "pairs"), over),
        FigureTable("Pruned over all tokens: times as fast, in the lab and served", ("method", "in", *sides), pruned),
    )
    curves = [{"name": ", ".join(row[:2]), "x": list(CLIENTS), "y": row[4 : 4 + len(CLIENTS)]} for row in rows]
    chart = lines("Answers a second", curves, "requests at once", "answers/s")
    return EngineSpeeds(tables, (chart,), {f"{row[0]}: {row[1]}, vLLM over ours": row[2] for row in over})


def _alone(
    adapter: Any,
    prunings: Mapping[str, Pruning],
    pictures: Sequence[tuple[Image.Image, Sequence[tuple[Benchmark, Sample]]]],
    contenders: Sequence[Contender],
) -> Times:
    """One request at a time, from pixels to the last token."""

    def call(contender: Contender, image: Image.Image, benchmark: Benchmark, sample: Sample) -> TimedCall:
        name, engine = contender
        pruning = prunings[name]

        def run(marks: Marks) -> None:
            told: list[int] = []

            def on_token(_: int, token: int) -> None:
                told.append(token)
                if len(told) == 1:
                    marks.stamp(FIRST)

            marks.stamp("start")
            picture = Picture(adapter, image, sample.image_key, pruning.method.needs(adapter.vision))
            prompt = asking.prompt_of(adapter, benchmark, sample)
            made = cut(picture, pruning, sample.question, prompt)
            adapter.generate([Request(prompt, made.visual, NEW_TOKENS)], engine=engine, on_token=on_token, **_COLD)
            marks.stamp(LATER)

        return run

    calls = [[call(one, image, *asked[0]) for image, asked in pictures] for one in contenders]
    found = take_turns(calls, adapter.info.device, warmup=WARMUP, repeats=REPEATS)
    return {
        one: {FIRST: spans.stages[FIRST], LATER: [span / (NEW_TOKENS - 1) for span in spans.stages[LATER]]}
        for one, spans in zip(contenders, found, strict=True)
    }


def _together(
    adapter: Any, count: int, ready: Mapping[str, Sequence[Request]], contenders: Sequence[Contender]
) -> Times:
    """`max(CLIENTS)` requests, `count` of them at a time."""
    what = f"answers at {count}"

    def call(contender: Contender) -> TimedCall:
        name, engine = contender
        requests = [replace(one, max_new_tokens=NEW_TOKENS) for one in islice(cycle(ready[name]), max(CLIENTS))]

        def run(marks: Marks) -> None:
            marks.stamp("start")
            for start in range(0, len(requests), count):
                adapter.generate(requests[start : start + count], engine=engine, batch_size=count, **_COLD)
            marks.stamp(what)

        return run

    calls = [[call(one)] for one in contenders]
    found = take_turns(calls, adapter.info.device, warmup=WARMUP, repeats=ROUNDS)
    return {one: {what: spans.stages[what]} for one, spans in zip(contenders, found, strict=True)}


def _figures(times: Mapping[str, list[float]]) -> list[float]:
    """Medians for a row: milliseconds of tokens, answers a second of the rest."""
    medians = {what: percentile(values, 0.5) for what, values in times.items()}
    alone = [round(medians[what], 3) for what in (FIRST, LATER)]
    return alone + [round(1000 * max(CLIENTS) / medians[f"answers at {count}"], 2) for count in CLIENTS]


def _gain(base: Sequence[float], other: Sequence[float]) -> tuple[float | None, ...]:
    found = gain(other, base)  # times: twice as fast is half as long
    return tuple(None if x is None else round(x, 3) for x in (found.ratio, found.low, found.high))


def _cache_kib(adapter: Any, engine: str, requests: Sequence[Request]) -> float:
    """Mean KiB of keys and values behind a prompt: as many positions as it has, or whole blocks of vLLM's."""
    shape, block = adapter.info.language, adapter.engine.vllm.block if engine == VLLM else 1
    per_token = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * adapter.model.dtype.itemsize
    positions = [-(-length_of(request) // block) * block for request in requests]
    return round(per_token * sum(positions) / len(positions) / 1024, 1)
