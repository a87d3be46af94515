"""What a method adds to the vision encode: time and memory, against eager attention maps in the same run.

    python -m perf.selection [--methods hero,hired,fastervlm,globalcom2] [--rounds 3] [--size 1000x1000] [--select-only]

True CLIP-ViT-L/336 and projector of LLaVA-NeXT-7B with random weights, one image of four tiles and a thumbnail; the LLM
is one thin block, since nothing here runs it. Every round encodes plainly and with each method's needs, one right after
the other, asks a question and selects at R = .2. Time is this process's CPU time on one thread (wall time on CUDA),
medians over rounds.

`capture` is timed inside the encode, around everything a method's needs add to it (CLS rows behind the hooks, the last
block's CLS row): two encodes differ by more than that on a busy machine. Their difference stands beside it. `added` is
capture, question and selection.

First, without any model, `select` of every before-LLM method on random 5 x 576 tokens, in a tower's width and in the
7B LLM's: at most 10 ms on one core is the aim, 100 ms for those that pick one token after another (`GREEDY`).
`--select-only` stops there.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy loads it: torch's own setting does not reach it

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration

from hero_ray.core.encoded import Budget, Encoded, Needs
from hero_ray.methods import create, names
from hero_ray.methods.base import Method
from hero_ray.methods.kit import conformance
from hero_ray.models import configs, llava_next, taps
from hero_ray.models.base import Prepared
from hero_ray.models.clip_loader import load_clip
from hero_ray.models.family import Parts
from hero_ray.models.job import LoadJob, Target
from hero_ray.models.llava_next import LlavaNextAdapter
from hero_ray.models.prompts import IMAGE, style
from hero_ray.models.registry import SPECS
from hero_ray.models.shapes import shape
from hero_ray.models.tokenizer import StandInTokenizer
from perf.report import report

MODEL = "llava-next-7b"
QUESTION = "What does the sign on the left say?"
MIB = 2**20
PARTS = ("capture", "ask", "select", "difference")
WIDTHS = (1024, 4096)
GREEDY = {"divprune", "cdpruner", "mmtok", "otprune", "scope", "vispruner"}


def thin_adapter(device: str | None = None) -> LlavaNextAdapter:
    """LLaVA-NeXT-7B's tower and projector over one thin LLM block, random weights."""
    target = Target.of(device, None, None)
    config = configs.named_llava(shape(MODEL))
    text = config.text_config
    text.num_hidden_layers, text.intermediate_size, text.vocab_size = 1, 64, 1000
    config.image_token_index = config.image_token_id = 999
    job = LoadJob(f"{MODEL}:random", SPECS[MODEL], None, target, 0, {})
    model = job.build(LlavaNextForConditionalGeneration, config)
    info = job.info(model, configs.language_shape(config), configs.llava_vision_shape(config), text)
    parts = Parts(info, model, StandInTokenizer(1000, {IMAGE: 999}), style(job.style), frozenset({2}), IMAGE, {})
    adapter = LlavaNextAdapter(parts)
    adapter.attach_clip(lambda: load_clip(SPECS[MODEL].clip, target, "tower", "truncate", 0))
    return adapter


def clock(adapter: Any) -> Callable[[Callable[[], Any]], tuple[float, Any]]:
    """Seconds of a call and its result: CPU time of this process, or wall time around a synchronised device."""
    on_cuda = torch.device(adapter.info.device).type == "cuda"

    def timed(work: Callable[[], Any]) -> tuple[float, Any]:
        if on_cuda:
            torch.cuda.synchronize()
        now = time.perf_counter if on_cuda else time.process_time
        start = now()
        result = work()
        if on_cuda:
            torch.cuda.synchronize()
        return now() - start, result

    return timed


def retained(encoded: Encoded) -> int:
    """Bytes that live on because a method reads them: storages behind the captured tensors, each once."""
    tensors: list[Tensor] = [] if encoded.projector_input is None else [encoded.projector_input]
    for field in ("cls_attention", "cls_logits", "cls_query", "keys", "received", "cls_embedding"):
        tensors += getattr(encoded, field).values()
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


class Inside:
    """Sums the time spent in what captures add to the tower's pass."""

    def __init__(self, timed: Callable[[Callable[[], Any]], tuple[float, Any]]) -> None:
        self.seconds, self._timed = 0.0, timed

    def __enter__(self) -> Inside:
        self.seconds = 0.0
        self._record, self._cls = taps.ClsTaps._record, llava_next.cls_output
        setattr(taps.ClsTaps, "_record", self._around(self._record))  # noqa: B010
        setattr(llava_next, "cls_output", self._around(self._cls))  # noqa: B010
        self._depth = 0
        return self

    def __exit__(self, *_: object) -> None:
        setattr(taps.ClsTaps, "_record", self._record)  # noqa: B010
        setattr(llava_next, "cls_output", self._cls)  # noqa: B010

    def _around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any) -> Any:
            self._depth += 1
            seconds, result = self._timed(lambda: work(*arguments))
            self._depth -= 1
            if not self._depth:  # rows of the last block are captured inside its CLS pass
                self.seconds += seconds
            return result

        return measured


@torch.no_grad()
def measure(adapter: Any, prepared: Prepared, names: list[str], rounds: int) -> dict[str, Any]:
    """Rows by method name, the plain encode and the eager one."""
    timed, prompt = clock(adapter), adapter.prompt(QUESTION, QUESTION)
    times: dict[tuple[str, str], list[float]] = {}
    memory: dict[str, int] = {}
    inside = Inside(timed)
    for number in range(1, rounds + 1):
        plain, _ = timed(lambda: adapter.encode(prepared, Needs()))
        times.setdefault(("plain", "encode"), []).append(plain)
        for name in names:
            method = create(name)
            needs = method.needs(adapter.vision)
            if needs.clip_score and adapter.clip is not None:
                adapter.clip.forget()  # a question is embedded once per picture
            with inside:
                seconds, encoded = timed(lambda needs=needs: adapter.encode(prepared, needs))
            asked, encoded = timed(lambda e=encoded, n=needs: adapter.ask(e, QUESTION, n, prompt) if n.question else e)
            budget = Budget.of(encoded.layout, 0.2)
            chosen, _ = timed(lambda e=encoded, m=method, b=budget: m.select(e, b))
            memory[name] = retained(encoded)
            parts = {"capture": inside.seconds, "ask": asked, "select": chosen, "difference": seconds - plain}
            for part, value in parts.items():
                times.setdefault((name, part), []).append(value)
        seconds, memory["eager"] = timed(lambda: eager(adapter, prepared))
        times.setdefault(("eager", "difference"), []).append(seconds - plain)
        print(f"round {number} of {rounds}: plain encode {plain:.1f} s, eager {seconds:.1f} s", flush=True)
    plain_ms = 1e3 * statistics.median(times["plain", "encode"])
    figures: dict[str, Any] = {"views": prepared.layout.num_views, "rounds": rounds, "encode_ms": plain_ms}
    figures["rows"] = [row(name, times, memory[name], plain_ms) for name in [*names, "eager"]]
    return figures


def row(name: str, times: dict[tuple[str, str], list[float]], memory: int, plain_ms: float) -> dict[str, Any]:
    """Medians of one method in ms, and what they add to the plain encode in per cent."""
    parts = {part: 1e3 * statistics.median(times.get((name, part), [0.0])) for part in PARTS}
    added = parts["difference"] if name == "eager" else sum(parts.values()) - parts["difference"]
    figures = {f"{part}_ms": value for part, value in parts.items()}
    return {
        "method": name,
        **figures,
        "added_ms": added,
        "added_percent": 100 * added / plain_ms,
        "memory_mib": memory / MIB,
    }


def eager(adapter: Any, prepared: Prepared) -> int:
    """The tower as most released codes run it: eager, every attention map returned; their bytes."""
    tower = adapter.model.model.vision_tower
    tower.set_attn_implementation("eager")
    try:
        pixels = prepared.pixels.to(adapter.info.device, adapter.model.dtype)
        out = tower(pixels, output_attentions=True, output_hidden_states=True)
        adapter.model.model.multi_modal_projector(out.hidden_states[-2][:, 1:])
        return sum(weights.untyped_storage().nbytes() for weights in out.attentions)
    finally:
        tower.set_attn_implementation("sdpa")


def random_views(method: Method, width: int) -> Encoded:
    """A 2 x 2 picture as LLaVA-NeXT-7B leaves it: 5 x 576 tokens, 16 heads of 64, about a tenth outliers."""
    layout, needs = conformance.llava_layout((2, 2), (24, 24)), method.needs(conformance.CLIP)
    made = conformance.random_encoded(layout, needs, heads=16, width=width)
    draw = torch.Generator().manual_seed(0)
    return dataclasses.replace(
        made,
        projector_input=torch.randn(5, 576, WIDTHS[0], generator=draw) if needs.projector_input else None,
        cls_query={layer: 0.9 * torch.randn(5, 16, 64, generator=draw) for layer in made.cls_query},
        keys={layer: torch.randn(5, 577, 16, 64, generator=draw).transpose(1, 2) for layer in made.keys},
    )


@torch.no_grad()
def select_times(rounds: int) -> list[dict[str, Any]]:
    """Median CPU ms of `select` at R = .2, one row per before-LLM method, printed as they come."""
    rows = []
    for name in names():
        method = create(name)
        if method.stage != "before-llm" or name == "full":
            continue
        line: dict[str, Any] = {"method": name, "aim_ms": 100 if name in GREEDY else 10}
        for width in WIDTHS:
            encoded = random_views(method, width)
            budget, seconds = Budget.of(encoded.layout, 0.2), []
            for _ in range(rounds + 1):
                start = time.process_time()
                chosen = method.select(encoded, budget)
                seconds.append(time.process_time() - start)
            line |= {f"select_{width}_ms": 1e3 * statistics.median(seconds[1:]), "kept": chosen.n_selected}
        rows.append(line)
        figures = " ".join(f"{line[f'select_{width}_ms']:>8.1f} ms" for width in WIDTHS)
        print(f"{name:<12} {figures}  kept {line['kept']:>4}  aim {line['aim_ms']} ms", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="hero,hired,fastervlm,globalcom2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="1000x1000", help="WIDTHxHEIGHT of the picture")
    parser.add_argument("--device", default=None)
    parser.add_argument("--select-only", action="store_true", help="without a tower: select on random tokens alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("select " + " ".join(f"{'width ' + str(width):>14}" for width in WIDTHS), flush=True)
    selects = select_times(15)
    if options.select_only:
        report("selection", {"selects": selects})
        return
    width, height = map(int, options.size.split("x"))
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    adapter = thin_adapter(options.device)
    prepared = adapter.prepare(Image.fromarray(noise), "probe")
    prepared = dataclasses.replace(prepared, pixels=prepared.pixels.to(adapter.info.device))
    figures = measure(adapter, prepared, options.methods.split(","), options.rounds)
    heads = ("capture", "ask", "select", "added")
    print(f"{'method':<12} {' '.join(f'{head:>9}' for head in heads)} {'share':>8} {'memory':>12} {'encodes':>10}")
    for entry in figures["rows"]:
        parts = " ".join(f"{entry[key]:>6.1f} ms" for key in ("capture_ms", "ask_ms", "select_ms", "added_ms"))
        tail = f"{entry['added_percent']:>6.2f} % {entry['memory_mib']:>8.1f} MiB {entry['difference_ms']:>+7.0f} ms"
        print(f"{entry['method']:<12} {parts} {tail}")
    report("selection", {**figures, "selects": selects})


if __name__ == "__main__":
    main()
