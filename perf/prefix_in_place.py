"""A shared prefix copied for every question against one read in place: memory, prefill behind it, decode steps.

    python -m perf.prefix_in_place [--questions 18] [--rounds 5]

All questions about one full picture on both embedded models, and on a random Llama of two blocks with eight heads of
128, the size of a quarter of a 7B's attention, behind 2,880 visual tokens; once with as many key heads and once with
two. fp32, one thread, processor time, the two sides in turns, the least of all rounds. Greedy tokens must be equal.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from hero_ray import models
from hero_ray.models.base import Prompt, Request
from hero_ray.models.batch import own_parts, shared_parts
from hero_ray.models.decoding import DecodeState
from hero_ray.models.generation import Decoder, GenerationOptions
from hero_ray.models.runner import Runner
from perf.prefix_reuse import requests_for
from perf.report import report

NEW_TOKENS, STEPS = 8, 4
SIDES = ("copied", "in-place")
NAMES = ("cache_mib", "prefill_ms", "step_ms")


def larger(kv_heads: int, visual: int = 2880, questions: int = 18) -> tuple[Decoder, list[Request]]:
    """The random Llama, and questions of 20 to 28 tokens about one picture."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=1024,
        intermediate_size=2752,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    picture = torch.randn(visual, 1024)
    prompts = [Prompt(tuple(range(30)), tuple(range(40, 60 + number % 9)), (0, 9)) for number in range(questions)]
    requests = [Request(prompt, picture, NEW_TOKENS) for prompt in prompts]
    return Decoder(Runner(model.model, model.lm_head), frozenset({2}), 4096), requests


def cached_bytes(state: DecodeState) -> int:
    """Keys and values that a prefilled batch keeps, its prefix included, each storage once."""
    found = {}
    pieces = [] if state.cache.prefix is None else state.cache.prefix._pieces
    for index in range(state.cache.num_layers):
        own = (state.cache.keys(index), state.cache.values(index))
        for tensor in (*own, *(part for pair in (pieces[index] if pieces else ()) for part in pair)):
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def measure(decoder: Decoder, requests: list[Request], rounds: int) -> dict[str, float | bool]:
    """Milliseconds of the pass behind the prefix and of a step, bytes kept, on either side."""
    runner, rows = decoder.runner, torch.zeros(len(requests), dtype=torch.long)
    first = shared_parts(requests[:1], runner.embed)
    shared, own = runner.prefill(first), own_parts(requests, runner.embed)
    lengths = {"copied": None, "in-place": first.lengths}
    best: dict[str, float] = {}
    figures: dict[str, float | bool] = {}
    for number in range(rounds):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            state, spent = timed(lambda side=side: runner.extend(shared, rows, own, NEW_TOKENS, lengths[side]))  # type: ignore[misc]
            tokens = state.logits.argmax(-1)
            _, steps = timed(lambda state=state, tokens=tokens: [runner.decode(state, tokens) for _ in range(STEPS)])  # type: ignore[misc]
            for name, value in ((f"prefill_ms_{side}", spent), (f"step_ms_{side}", steps / STEPS)):
                best[name] = min(1e3 * value, best.get(name, float("inf")))
            figures[f"cache_mib_{side}"] = cached_bytes(state) / 2**20
    options = GenerationOptions(ignore_eos=True)
    answers = [replace(decoder, in_place=place).answer(requests, options=options) for place in (False, True)]
    return best | figures | {"same_tokens": answers[0] == answers[1]}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its processor time in seconds."""
    began = time.process_time()
    made = call()
    return made, time.process_time() - began


def rows(questions: int, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each model."""
    for name in ("hero-tiny", "hero-tiny-internvl"):
        adapter = models.load(name, device="cpu")
        requests = requests_for(adapter, "full", 1.0, questions, NEW_TOKENS)
        yield {"model": name, "visual": requests[0].visual.shape[0]} | measure(adapter.decoder, requests, rounds)
    for heads in (8, 2):
        decoder, requests = larger(heads, questions=questions)
        name = f"random, 8 heads, {heads} of keys"
        yield {"model": name, "visual": requests[0].visual.shape[0]} | measure(decoder, requests, rounds)


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: either side of every figure."""
    lines = ["|model|visual tokens|cache, MiB|pass behind the prefix, ms|decode step, ms|same tokens|"]
    lines.append("|" + ":--|" + "--:|" * 4 + ":--|")
    for row in found:
        pairs = (" -> ".join(f"{row[f'{name}_{side}']:.3g}" for side in SIDES) for name in NAMES)
        lines.append(f"|{row['model']}|{row['visual']}|{'|'.join(pairs)}|{row['same_tokens']}|")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=18)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for row in rows(arguments.questions, arguments.rounds):
        print(row, flush=True)
        found.append(row)
    print(table(found))
    report("prefix_in_place", {"questions": arguments.questions, "rows": found})


if __name__ == "__main__":
    main()
