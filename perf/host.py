"""What the host does for an answer and for a decode step: Python and launches, where kernels cost next to nothing.

    python -m perf.host [--beside FOLDER] [--rounds 5]

A language model of 32 blocks and width 8, batch 1, fp32: its arithmetic is nothing, so that what is left is what a 7B
model's host does too. Processor time, so that neighbours disturb little; `--beside` names another checkout of this
repository, measured in turns with this one in processes of their own. The least of all rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS, PROMPT, BLOCKS, WIDTH = 64, 100, 32, 8


def small_model(heads: int = 2) -> Any:
    """A random Llama of 32 blocks, width 8."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=BLOCKS,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=4096,
    )
    return LlamaForCausalLM(config).eval()


def measure() -> dict[str, float]:
    """Milliseconds of processor time: one decode step, one step of fixed shape, an answer of one token."""
    import torch

    torch.set_num_threads(1)
    from hero_ray.models.base import Prompt, Request
    from hero_ray.models.generation import Decoder, GenerationOptions
    from hero_ray.models.graphs import GraphedDecode
    from hero_ray.models.runner import Runner

    model = small_model()
    runner = Runner(model.model, model.lm_head)
    prompt = Prompt((1, 2, 3), tuple(range(4, 20)), (0, 4))
    visual = torch.zeros(PROMPT - prompt.num_text, WIDTH)
    options = GenerationOptions(ignore_eos=True)
    found = {}
    for name, step in (("step", None), ("fixed_step", GraphedDecode(runner))):
        decoder = Decoder(runner, frozenset({31}), 4096, step)

        def spent(tokens: int, decoder: Any = decoder) -> float:
            best = float("inf")
            for _ in range(3):
                began = time.process_time()
                decoder.answer([Request(prompt, visual, tokens)], options=options)
                best = min(best, time.process_time() - began)
            return 1e3 * best

        one = spent(1)
        found[name] = (spent(STEPS + 1) - one) / STEPS
        found.setdefault("answer", one)
    return found


def in_turns(folders: dict[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Every checkout measured `rounds` times in turns; the least of each figure."""
    best: dict[str, dict[str, float]] = {name: {} for name in folders}
    for number in range(rounds):
        order = list(folders) if number % 2 == 0 else list(folders)[::-1]
        for name in order:
            environment = os.environ | {"PYTHONPATH": str(folders[name])}
            command = [sys.executable, str(Path(__file__).resolve()), "--here"]
            done = subprocess.run(
                command, cwd=folders[name], env=environment, capture_output=True, text=True, check=True
            )
            for key, value in json.loads(done.stdout.splitlines()[-1]).items():
                best[name][key] = min(value, best[name].get(key, value))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure()))
        return
    from perf.report import report

    folders = {"here": Path(__file__).resolve().parents[1]}
    if arguments.beside is not None:
        folders["beside"] = arguments.beside.resolve()
    found = in_turns(folders, arguments.rounds)
    figures = {f"{key}_ms_{name}": value for name, times in found.items() for key, value in times.items()}
    if "beside" in found:
        figures |= {f"{key}_ratio": found["here"][key] / found["beside"][key] for key in found["here"]}
    report("host", figures)


if __name__ == "__main__":
    main()
