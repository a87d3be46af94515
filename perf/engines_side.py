"""One side of `perf.engines`: the random language model's answers by our blocks or by vLLM, in a process of its own.

    python perf/engines_side.py ours|vllm FOLDER

Imports nothing of ours but what the runner's side had long ago, so that an earlier checkout on PYTHONPATH can be timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hero_ray.models.base import LanguageShape, Prompt, Request
from hero_ray.models.generation import Decoder, GenerationOptions
from hero_ray.models.runner import Runner

WIDTH, BLOCKS, INNER, HEADS, VOCAB, CONTEXT = 512, 8, 1408, 8, 16_000, 2048
NEW, TEXT = 8, (20, 25)
OPTIONS = GenerationOptions(ignore_eos=True)


def language_model() -> Any:
    """A seeded random Llama of 42 million parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def workloads() -> dict[str, list[Request]]:
    """Requests with 20 text tokens before the picture and 25 of a question behind it, each of its own."""
    draws = torch.Generator().manual_seed(1)

    def picture(tokens: int) -> torch.Tensor:
        return torch.randn(tokens, WIDTH, generator=draws) * 0.02

    def asked(visual: torch.Tensor, number: int) -> Request:
        words = tuple(torch.randint(3, VOCAB, (TEXT[1],), generator=draws).tolist())
        return Request(Prompt(tuple(range(3, 3 + TEXT[0])), words, (0, number % 5 + 5)), visual, NEW)

    singles = [asked(picture(500), number) for number in range(12)]
    shared = [asked(one, number) for one in (picture(500) for _ in range(3)) for number in range(12)]
    whole = picture(576)
    cells = [whole[: round(29 + 547 * step / 15)].clone() for step in range(16)]
    sweep = [asked(one, number) for one in cells for number in range(6)]
    return {"12 pictures x 1 question": singles, "3 pictures x 12 questions": shared, "16 cells x 6 questions": sweep}


def vllm_side(model: Any, runner: Runner, folder: Path) -> Callable[[Sequence[Request]], Any]:
    """Answers by vLLM, from weights in `folder` under the names of a LLaVA-NeXT."""
    from safetensors.torch import save_file

    from hero_ray.core.engine_args import EngineArgs
    from hero_ray.models.engines.start import start_vllm

    names = {"model.": "model.language_model.", "lm_head.": "lm_head."}
    saved = {}
    for name, tensor in model.state_dict().items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        saved[names[old] + name.removeprefix(old)] = tensor.clone()
    save_file(saved, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llava_next"}))
    shape = LanguageShape(BLOCKS, WIDTH, INNER, HEADS, HEADS, WIDTH // HEADS, VOCAB)
    info = SimpleNamespace(device="cpu", dtype="float32", context=CONTEXT, language=shape)
    held = SimpleNamespace(config=SimpleNamespace(text_config=model.config), dtype=torch.float32)
    adapter: Any = SimpleNamespace(model=held, runner=runner, info=info, end=frozenset({2}))
    decoder = start_vllm(adapter, folder, EngineArgs())
    return lambda requests: decoder.answer(requests, options=OPTIONS)


def main(side: str, folder: str) -> None:
    torch.set_num_threads(1)
    model = language_model()
    runner = Runner(model.model, model.lm_head)
    if side == "vllm":
        answer = vllm_side(model, runner, Path(folder))
    else:
        decoder = Decoder(runner, frozenset({2}), CONTEXT)
        answer = lambda requests: decoder.answer(requests, options=OPTIONS)  # noqa: E731
    found: dict[str, Any] = {}
    answer([workloads()["12 pictures x 1 question"][0]])
    for name, requests in workloads().items():
        began = time.process_time()
        answers = answer(requests)
        found[name] = {
            "seconds": time.process_time() - began,
            "tokens": [list(one.token_ids) for one in answers],
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
